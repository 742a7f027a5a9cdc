"""Open a model file of any format that a runtime takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from skerry.core.errors import DataError, ModelError, UsageError
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.names import did_you_mean
from skerry.runtimes._ncnn_file import NcnnFile, Shape, is_ncnn, pack_ncnn, read_ncnn
from skerry.runtimes._tflite_file import is_tflite, read_tflite

__all__ = [
    "DEFAULT_RUNTIMES",
    "RUNTIMES_OF",
    "input_names",
    "model_content",
    "model_format",
    "open_any",
]

RUNTIMES_OF = {
    ModelFormat.ONNX: ("onnxruntime", "openvino"),
    ModelFormat.TFLITE: ("litert", "openvino"),
    ModelFormat.NCNN: ("ncnn",),
}
"""What runs a format, of the runtimes here; the first is the usual one."""

DEFAULT_RUNTIMES = {each: names[0] for each, names in RUNTIMES_OF.items()}
"""What runs a format unless told otherwise."""


def model_format(path: Path) -> ModelFormat:
    """Tell the format of a model file by what is in it; ONNX where nothing else fits.

    Raises:
        UsageError: There is no such file, or it cannot be read.
    """
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "is not there"
        raise UsageError(
            f"the model {path} {reason}", hint="Give the path of a model file."
        )
    try:
        with path.open("rb") as file:
            head = file.read(8)
        if is_tflite(head):
            return ModelFormat.TFLITE
        return ModelFormat.NCNN if is_ncnn(path) else ModelFormat.ONNX
    except OSError as error:
        raise _unreadable(path, error) from error


def open_any(path: Path, *, shapes: Mapping[str, Shape] | None = None) -> Model:
    """Read what is known of a model file of any format: signature, hash, size.

    ncnn has no batch axis: its tensors are shown with one of size 1 in front, so that a
    model has the same signature on each runtime. Where its files do not say the shapes
    of all outputs, it is run once to learn them.

    Args:
        path: An ONNX or TFLite file; of ncnn's two the `.param`, with the `.bin`
            beside it, or both packed into one by a release.
        shapes: Shapes of inputs, by name, for ncnn files that do not say them.

    Raises:
        UsageError: There is no such file, or the shape of an ncnn input is not known.
        ModelError: It is not a model, damaged, or beyond what Skerry handles.
        MissingExtraError: What reads this format is not installed.
    """
    found = model_format(path)
    if found is ModelFormat.TFLITE:
        signature = read_tflite(path)
        return Model(
            path=path,
            format=found,
            inputs=tuple(port.spec for port in signature.inputs),
            outputs=tuple(port.spec for port in signature.outputs),
            sha256=_sha256(path),
            size_bytes=path.stat().st_size,
        )
    if found is ModelFormat.NCNN:
        return _open_ncnn(path, shapes or {})
    from skerry.graph import open_model

    return open_model(path)


def input_names(path: Path) -> list[str]:
    """The names of a model's inputs, also where their shapes are not known.

    Raises:
        The errors of `open_any`.
    """
    if model_format(path) is ModelFormat.NCNN:
        return list(read_ncnn(path).inputs)
    return [spec.name for spec in open_any(path).inputs]


def model_content(model: Model) -> bytes:
    """All that a model is, as one file: what a release carries.

    Raises:
        UsageError: It cannot be read.
        DataError: It has changed since it was opened.
        ModelError: Its weights lie in a file beside it and cannot be packed.
    """
    try:
        content = model.path.read_bytes()
    except OSError as error:
        raise _unreadable(model.path, error) from error
    if hashlib.sha256(content).hexdigest() != model.sha256:
        raise DataError(
            f"the model {model.path} has changed since it was opened",
            hint="Open it again.",
        )
    if model.format is ModelFormat.NCNN:
        return pack_ncnn(model.path)
    if len(content) != model.size_bytes:
        raise ModelError(
            f"the model {model.path} keeps weights in a file beside it",
            hint="A release's model is one file: save it with its weights inside.",
        )
    return content


def _open_ncnn(path: Path, shapes: Mapping[str, Shape]) -> Model:
    file = read_ncnn(path)
    for name in shapes:
        if name not in file.inputs:
            raise UsageError(
                f"the model has no input {name!r}", hint=did_you_mean(name, file.inputs)
            )
    inputs = tuple(_input(path, file, name, shapes.get(name)) for name in file.inputs)
    # What the file notes is true for the inputs that it notes, and for no others.
    noted = {
        name: noted
        for name, noted in file.outputs.items()
        if noted and (not shapes or None in noted)
    }
    size_bytes = sum(one.stat().st_size for one in {path, file.weights})
    model = Model(
        path=path,
        format=ModelFormat.NCNN,
        inputs=inputs,
        outputs=tuple(
            TensorSpec(name=name, dtype="float32", shape=(1, *shape))
            for name, shape in noted.items()
        ),
        sha256=_sha256(path),
        size_bytes=size_bytes,
    )
    if len(model.outputs) == len(file.outputs):
        return model
    from skerry.runtimes.ncnn import with_outputs

    return with_outputs(model)


def _input(path: Path, file: NcnnFile, name: str, given: Shape | None) -> TensorSpec:
    own = file.inputs[name]
    shape = given or (own and (1, *own))
    if shape is None:
        raise UsageError(
            f"{path.name} does not say the shape of its input {name!r}",
            hint=f"Give it, with a batch axis of 1: --shape {name}=1x3x224x224",
        )
    if not 2 <= len(shape) <= 5 or shape[0] != 1:
        raise UsageError(
            f"the input {name!r} cannot have the shape {shape} in ncnn",
            hint="Its batch axis is 1, and one to four axes follow.",
        )
    return TensorSpec(name=name, dtype="float32", shape=shape)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"the model {path} cannot be read: {error.strerror or error}",
        hint="Check the path and its permissions.",
    )
