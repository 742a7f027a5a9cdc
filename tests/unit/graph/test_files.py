from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from skerry.core.errors import ModelError, StorageError, UsageError
from skerry.core.model import ModelFormat
from skerry.graph import open_model, parse_graph, read_graph, write_graph
from tests import models


def edited(content: bytes, **fields: int) -> bytes:
    """The same model with other values in top-level fields."""
    model = onnx.load_model_from_string(content)
    for name, value in fields.items():
        setattr(model, name, value)
    changed: bytes = model.SerializeToString()
    return changed


@pytest.mark.parametrize("build", models.ALL)
def test_reads_each_model(build: models.Builder, tmp_path: Path) -> None:
    """A file gives the same graph as its bytes."""
    path = tmp_path / "model.onnx"
    path.write_bytes(build())
    assert read_graph(path).to_bytes() == parse_graph(build()).to_bytes()


def test_open_model(tmp_path: Path) -> None:
    """A model file is known by signature, hash and size."""
    path = tmp_path / "model.onnx"
    path.write_bytes(models.dynamic_net())
    model = open_model(path)
    assert model.path == path
    assert model.format is ModelFormat.ONNX
    assert model.inputs[0].shape == ("batch", 3, "size", "size")
    assert model.outputs[0].name == "y"
    assert model.sha256 == hashlib.sha256(models.dynamic_net()).hexdigest()
    assert model.size_bytes == len(models.dynamic_net())


def test_write_graph_tells_what_open_model_tells(tmp_path: Path) -> None:
    """Writing returns the same Model as opening what was written."""
    path = tmp_path / "model.onnx"
    assert write_graph(parse_graph(models.conv_net()), path) == open_model(path)


def test_missing_file(tmp_path: Path) -> None:
    """A path where nothing is, or a folder, is the user's error."""
    with pytest.raises(UsageError, match="is not there"):
        read_graph(tmp_path / "none.onnx")
    with pytest.raises(UsageError, match="is a folder"):
        read_graph(tmp_path)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read is the user's error."""
    path = tmp_path / "model.onnx"
    path.write_bytes(models.mlp())

    def refuse(_: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        read_graph(path)


def test_too_large(tmp_path: Path) -> None:
    """A file above the bound is refused before it is read."""
    path = tmp_path / "model.onnx"
    path.write_bytes(models.mlp())
    with pytest.raises(ModelError, match="at most 100 are read"):
        read_graph(path, max_bytes=100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is no model", "is not an ONNX model"),
        (b"\x08\x08", "no graph in it"),
        (b"PK\x03\x04 and more", "is a zip archive"),
        (b"\x1c\x00\x00\x00TFL3 and more", "is a TFLite file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (models.conv_net()[:-100], "is not an ONNX model, or is damaged or cut short"),
        (models.conv_net()[:100], "is not an ONNX model, or is damaged or cut short"),
        (edited(models.mlp(), ir_version=99), "breaks the ONNX standard: .*ir_version"),
    ],
)
def test_not_a_model(content: bytes, message: str) -> None:
    """What is no model, or half of one, is named as what it is, in one line."""
    with pytest.raises(ModelError, match=message) as caught:
        parse_graph(content, name="m.onnx")
    assert caught.value.what.startswith("m.onnx ")
    assert "\n" not in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        ("y = Convolve(x)", "uses the operator 'Convolve'", "Did you mean"),
        ("y = Mul(x, nothing)", "reads 'nothing', which nothing makes", "again"),
        (
            "y = Add(x, b) b = Relu(a) a = Exp(b)",
            "has a cycle: Relu → Exp → Relu",
            "own",
        ),
        ("y = Add(x, y)", "has a cycle: Add → Add", "own"),
        ("y = Relu<slope = 2>(x)", "Unrecognized attribute: slope", "checker"),
        ("y = Relu(x) y = Exp(x)", "breaks the ONNX standard", "checker"),
    ],
)
def test_broken_graph(body: str, message: str, hint: str) -> None:
    """An unknown operator, a dangling name, a cycle: each has its own message."""
    content = models.model_bytes(f"net (float[2] x) => (float[2] y) {{ {body} }}")
    with pytest.raises(ModelError, match=message) as caught:
        parse_graph(content)
    assert hint in caught.value.hint


def test_unknown_operator_inside_a_branch() -> None:
    """An unknown operator is found inside an If too."""
    text = models.IF_NET.replace("Relu(x)", "Rely(x)")
    with pytest.raises(ModelError, match="uses the operator 'Rely'"):
        parse_graph(models.model_bytes(text, {"w": np.ones(4, np.float32)}))


@pytest.mark.parametrize("opset", [6, 99])
def test_opset_out_of_range(opset: int) -> None:
    """Opsets that are too old or too new are refused by number."""
    content = models.model_bytes(
        "net (float[2] x) => (float[2] y) { y = Relu(x) }", opset=opset
    )
    with pytest.raises(
        ModelError, match=f"written in ONNX opset {opset}; handled are 7 to"
    ):
        parse_graph(content)


def test_long_name_of_the_standard_domain() -> None:
    """`ai.onnx` is another name of the empty domain."""
    model = onnx.load_model_from_string(models.mlp())
    model.opset_import[0].domain = "ai.onnx"
    model.graph.node[0].domain = "ai.onnx"
    graph = parse_graph(model.SerializeToString())
    assert graph.opset == 17
    assert graph.custom_domains == ()
    assert {node.domain for node in graph.nodes} == {""}
    assert parse_graph(graph.to_bytes()).opset == 17


def test_no_opset() -> None:
    """A model that names no opset is refused."""
    model = onnx.load_model_from_string(models.mlp())
    del model.opset_import[:]
    with pytest.raises(ModelError, match="does not say which ONNX opset"):
        parse_graph(model.SerializeToString())


def test_names_that_are_not_text() -> None:
    """Names that are not UTF-8 are refused, not passed on as bytes."""
    content = models.mlp().replace(b"hidden", b"hidd\xffn")
    with pytest.raises(ModelError, match="a name in it is not text"):
        parse_graph(content)


def test_signature_of_a_sequence() -> None:
    """Only tensors go in and out."""
    content = models.model_bytes(
        "net (float[2] x) => (seq(float[2]) y) { y = SequenceConstruct(x) }"
    )
    with pytest.raises(ModelError, match="'y', which is not a tensor"):
        parse_graph(content)


def test_unsorted_nodes_are_sorted() -> None:
    """Nodes in the wrong order are brought into the right one."""
    graph = parse_graph(
        models.model_bytes(
            "net (float[2] x) => (float[2] y) { y = Exp(b) b = Relu(a) a = Neg(x) }"
        )
    )
    assert [node.op_type for node in graph.nodes] == ["Neg", "Relu", "Exp"]


def test_initializers_of_old_models_are_no_inputs() -> None:
    """Before IR version 4 initializers had to be inputs; they are none to us."""
    model = onnx.load_model_from_string(models.mlp())
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(
            onnx.helper.make_tensor_value_info(
                tensor.name, tensor.data_type, tensor.dims
            )
        )
    graph = parse_graph(model.SerializeToString())
    assert [spec.name for spec in graph.inputs] == ["x"]
    assert parse_graph(graph.to_bytes()).inputs == graph.inputs


def test_functions_are_inlined() -> None:
    """What a model defines as a function stands in its graph as nodes."""
    graph = parse_graph(
        models.model_bytes(
            """net (float[2] x) => (float[2] y) { y = local.twice(x) }
            <domain: "local", opset_import: ["": 17]>
            twice (a) => (b) { c = Relu(a) b = Add(c, c) }""",
            domains=', "local": 1',
        )
    )
    assert [node.op_type for node in graph.nodes] == ["Relu", "Add"]
    assert graph.custom_domains == ()


def external_model(path: Path, **entries: object) -> None:
    """Write the MLP with one weight in another file, described by these entries."""
    model = onnx.load_model_from_string(models.mlp())
    tensor = model.graph.initializer[0]
    (path.parent / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in ({"location": "weights.bin"} | entries).items():
        tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())


def test_external_weights(tmp_path: Path) -> None:
    """Weights in a file beside the model are read, counted and embedded."""
    path = tmp_path / "model.onnx"
    external_model(path)
    graph = read_graph(path)
    assert graph.to_bytes() == parse_graph(models.mlp()).to_bytes()
    files = (path, tmp_path / "weights.bin")
    assert open_model(path).size_bytes == sum(file.stat().st_size for file in files)


def test_external_weights_that_vanish(tmp_path: Path) -> None:
    """Weights are read when they are asked for; if they are gone, that is an error."""
    external_model(tmp_path / "model.onnx")
    graph = read_graph(tmp_path / "model.onnx")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"'first.weight' cannot be read"):
        graph.constant(graph.value("first.weight"))
    with pytest.raises(ModelError, match="cannot be written as ONNX"):
        graph.to_bytes()


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "../weights.bin"}, "outside its folder"),
        ({"location": "/etc/passwd"}, "outside its folder"),
        ({"location": "other.bin"}, "keeps weights in other.bin, which is not beside"),
        ({"location": "."}, "is not beside it"),
        ({"location": ""}, "is not beside it"),
        ({"length": 10**6}, "needs 1,000,000 bytes of weights from weights.bin"),
        ({"offset": "far"}, "is damaged"),
    ],
)
def test_external_weights_that_are_not_there(
    entries: dict[str, object], message: str, tmp_path: Path
) -> None:
    """Another file that is missing, short, or not the model's own is refused."""
    folder = tmp_path / "folder"
    folder.mkdir()
    external_model(folder / "model.onnx", **entries)
    (tmp_path / "weights.bin").write_bytes(bytes(1000))
    with pytest.raises(ModelError, match=message):
        read_graph(folder / "model.onnx")


def test_external_weights_behind_a_link(tmp_path: Path) -> None:
    """A link does not lead out of the folder either."""
    folder = tmp_path / "folder"
    folder.mkdir()
    external_model(folder / "model.onnx")
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match="outside its folder"):
        read_graph(folder / "model.onnx")


def test_external_weights_without_a_folder(tmp_path: Path) -> None:
    """Bytes alone cannot have weights beside them."""
    external_model(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="given as bytes"):
        parse_graph((tmp_path / "model.onnx").read_bytes())


def test_write_with_weights_apart(tmp_path: Path) -> None:
    """Weights above the bound go into a second file; the pair reads back the same."""
    graph = parse_graph(models.conv_net())
    model = write_graph(graph, tmp_path / "model.onnx", max_embedded_bytes=100)
    assert model == open_model(tmp_path / "model.onnx")
    assert len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / "model.onnx").stat().st_size < len(graph.to_bytes())
    assert read_graph(tmp_path / "model.onnx").to_bytes() == graph.to_bytes()


def test_write_to_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A folder that is not there is an error of the disk; nothing is left over."""
    with pytest.raises(StorageError):
        write_graph(parse_graph(models.mlp()), tmp_path / "none" / "model.onnx")
    assert list(tmp_path.iterdir()) == []
