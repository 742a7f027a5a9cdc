"""Read and write ONNX files; nothing that comes from outside is believed.

A model that is read has passed these checks, in this order, each with a message of its
own: it is there and of a sane size, it is ONNX at all, its opset is one we handle, its
operators exist, its external tensors lie inside its own folder, no node reads what it
helps to make, and the checker of the ONNX standard accepts it.

What is read is then brought to one form, so that the rest of Skerry meets fewer kinds
of model: functions are inlined, nodes stand in topological order, and initializers are
no longer inputs (models before ONNX 1.4, IR version 4, had to list them there).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from skerry.core.durable import write_files
from skerry.core.errors import ModelError, UsageError
from skerry.core.model import Model, ModelFormat
from skerry.core.names import did_you_mean
from skerry.graph import _onnx
from skerry.graph._onnx import Proto
from skerry.graph.decoded import external_extents, sort_nodes
from skerry.graph.model_graph import Graph
from skerry.graph.proto import proto_nodes, proto_opset

MAX_FILE_BYTES = _onnx.MAX_PROTOBUF_BYTES
"""Larger files are refused; their weights belong in a file beside them."""

MAX_EMBEDDED_BYTES = MAX_FILE_BYTES - 64 * 2**20
"""Weights above this lie in a file of their own: some room is left for the nodes."""

_EXPORT_AGAIN = "Export or download the model again."
_OTHER_FORMATS = (
    (0, b"version https://git-lfs", "a Git LFS pointer", "Fetch it: git lfs pull."),
    (0, b"<!DOCTYPE", "a web page", "Download the file itself."),
    (0, b"<html", "a web page", "Download the file itself."),
    (0, b"<?xml", "an XML file (OpenVINO?)", "Give the .onnx file it was made from."),
    (0, b"PK\x03\x04", "a zip archive (PyTorch or Keras?)", "Export it to ONNX."),
    (0, b"\x89HDF", "an HDF5 file (Keras?)", "Export it to ONNX."),
    (0, b"\x80\x02", "a Python pickle (PyTorch?)", "Export it to ONNX."),
    (4, b"TFL3", "a TFLite file", "Give the model it was converted from, as ONNX."),
    (4, b"ORTM", "an ONNX Runtime file", "Give the .onnx file it was made from."),
)
"""Offset, magic bytes, what they tell, and what to do about it."""


def read_graph(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> Graph:
    """Read the graph of an ONNX file.

    Weights in files beside it are not read before they are asked for.

    Args:
        path: The file; opset 7 or newer.
        max_bytes: The largest file to read into memory.

    Raises:
        UsageError: There is no such file.
        ModelError: It is not a model, damaged, or beyond what Skerry handles.
    """
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "is not there"
        raise UsageError(
            f"the model {path} {reason}", hint="Give the path of an .onnx file."
        )
    size_bytes = path.stat().st_size
    if size_bytes > max_bytes:
        raise ModelError(
            f"{path} has {size_bytes:,} bytes; at most {max_bytes:,} are read",
            hint="Save the model with its weights in a file beside it.",
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the model {path} cannot be read: {error.strerror}",
            hint="Check who may read it.",
        ) from error
    return _parse(content, name=str(path), path=path)


def parse_graph(content: bytes, *, name: str = "the model") -> Graph:
    """Read the graph of an ONNX model from its bytes.

    Args:
        content: The whole file; all weights are in it.
        name: What messages call it.

    Raises:
        ModelError: It is not a model, damaged, or beyond what Skerry handles.
    """
    return _parse(content, name=name, path=None)


def open_model(path: Path) -> Model:
    """Read what is known of a model file: signature, hash, size.

    Raises:
        UsageError: There is no such file.
        ModelError: It is not a model, damaged, or beyond what Skerry handles.
    """
    graph = read_graph(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    files = {path, *_onnx.external_files(graph.ir)}
    size_bytes = sum(file.stat().st_size for file in files)
    return _model(graph, path, sha256=sha256, size_bytes=size_bytes)


def write_graph(
    graph: Graph, path: Path, *, max_embedded_bytes: int | None = None
) -> Model:
    """Put a graph in place as an ONNX file: all of it, or nothing.

    Weights that are too large for one file go into a second one beside it, whose name
    carries their hash: a power cut between the two leaves the old pair whole.

    Args:
        graph: What to write.
        path: Where; the folder exists.
        max_embedded_bytes: The most bytes of weights that the file itself holds;
            `MAX_EMBEDDED_BYTES` by default.

    Raises:
        ModelError: The graph cannot be written as ONNX.
        StorageError: The disk refused; what stood at `path` still does.
    """
    contents = graph_contents(graph, path.name, max_embedded_bytes=max_embedded_bytes)
    write_files(path.parent, contents)
    return _model(
        graph,
        path,
        sha256=hashlib.sha256(contents[path.name]).hexdigest(),
        size_bytes=sum(len(content) for content in contents.values()),
    )


def graph_contents(
    graph: Graph, name: str, *, max_embedded_bytes: int | None = None
) -> dict[str, bytes]:
    """The files that a graph is written as, in the order of putting them in place.

    Args:
        graph: What to write.
        name: Of the ONNX file.
        max_embedded_bytes: The most bytes of weights that the file itself holds;
            `MAX_EMBEDDED_BYTES` by default.

    Returns:
        Content by name: the ONNX file, last, and before it that of its weights where
        they are too large for it.

    Raises:
        ModelError: The graph cannot be written as ONNX.
    """
    most = MAX_EMBEDDED_BYTES if max_embedded_bytes is None else max_embedded_bytes
    if _onnx.weight_bytes(graph.ir) <= most:
        return {name: graph.to_bytes()}
    weights = _onnx.encode_weights(graph.ir)
    stem = Path(name).stem
    location = f"{stem}-{hashlib.sha256(weights).hexdigest()[:16]}.weights"
    return {location: weights, name: _onnx.encode_without_weights(graph.ir, location)}


def content_hash(model: Model) -> str:
    """The SHA-256 of all that a model is: its file, and where its weights lie apart.

    Raises:
        UsageError: There is no such file.
        ModelError: It is not a model, damaged, or beyond what Skerry handles.
    """
    apart = sorted(_onnx.external_files(read_graph(model.path).ir))
    if not apart:
        return model.sha256
    digest = hashlib.sha256(model.sha256.encode())
    for path in apart:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _model(graph: Graph, path: Path, *, sha256: str, size_bytes: int) -> Model:
    return Model(
        path=path,
        format=ModelFormat.ONNX,
        inputs=graph.inputs,
        outputs=graph.outputs,
        sha256=sha256,
        size_bytes=size_bytes,
    )


def _parse(content: bytes, *, name: str, path: Path | None) -> Graph:
    _check_magic(content, name)
    proto = _onnx.decode(content, name)
    _check_opset(proto, name)
    _check_operators(proto, name)
    extents = external_extents(proto, name)
    folder = _check_external_tensors(extents, name, path) if extents else None
    sort_nodes(proto, name)
    _onnx.check(path if extents and path else proto, name)
    graph = Graph(_onnx.to_ir(proto, name, folder), name=name)
    _check_signature(graph)
    return graph


def _check_magic(content: bytes, name: str) -> None:
    if not content:
        raise ModelError(f"{name} is empty", hint=_EXPORT_AGAIN)
    for offset, magic, what, hint in _OTHER_FORMATS:
        if content.startswith(magic, offset):
            raise ModelError(f"{name} is {what}, not an ONNX model", hint=hint)


def _check_opset(proto: Proto, name: str) -> None:
    opset = proto_opset(proto)
    if opset is None:
        raise ModelError(
            f"{name} does not say which ONNX opset it is written in",
            hint=_EXPORT_AGAIN,
        )
    if not _onnx.OLDEST_OPSET <= opset <= _onnx.NEWEST_OPSET:
        known = f"{_onnx.OLDEST_OPSET} to {_onnx.NEWEST_OPSET}"
        raise ModelError(
            f"{name} is written in ONNX opset {opset}; handled are {known}",
            hint="Export it to opset 17, or install a newer onnx.",
        )


def _check_operators(proto: Proto, name: str) -> None:
    opset = proto_opset(proto) or _onnx.NEWEST_OPSET
    for node in proto_nodes(proto.graph):
        if node.domain == "" and not _onnx.known_operator(node.op_type, opset):
            raise ModelError(
                f"{name} uses the operator {node.op_type!r}, which ONNX opset {opset} "
                f"does not have (node {node.name!r})",
                hint=did_you_mean(node.op_type, _onnx.operator_names()),
            )


def _check_external_tensors(
    extents: Mapping[str, int], name: str, path: Path | None
) -> Path:
    """Check that the other files are what the model says; returns their folder."""
    if path is None:
        raise ModelError(
            f"{name} keeps weights in a file beside it, but was given as bytes",
            hint="Give the path of the model, with the other file beside it.",
        )
    folder = path.parent.resolve()
    for location, end in extents.items():
        file = folder / location
        if not file.resolve().is_relative_to(folder):
            raise ModelError(
                f"{name} refers to weights outside its folder: {location}",
                hint="Do not trust this file; ask whoever made it.",
            )
        if not file.is_file():
            raise ModelError(
                f"{name} keeps weights in {location}, which is not beside it",
                hint="Copy that file into the folder of the model.",
            )
        if file.stat().st_size < end:
            raise ModelError(
                f"{name} needs {end:,} bytes of weights from {location}, which has "
                f"{file.stat().st_size:,}",
                hint="Copy that file again: it is cut short.",
            )
    return folder


def _check_signature(graph: Graph) -> None:
    for value in (*graph.input_values, *graph.output_values):
        if not _onnx.is_tensor(value):
            raise ModelError(
                f"{graph.name} takes or gives {value.name!r}, which is not a tensor",
                hint="Export the model with plain tensors as inputs and outputs.",
            )
