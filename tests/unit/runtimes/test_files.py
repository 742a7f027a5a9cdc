from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import DataError, ModelError, UsageError
from skerry.core.model import ModelFormat
from skerry.core.seams import LoadOptions
from skerry.graph import open_model
from skerry.runtimes import (
    get_runtime,
    input_names,
    model_content,
    model_format,
    open_any,
)
from tests.twins import inputs_for, ncnn_text, ncnn_weights, onnx_net, tflite_net, twin


def ncnn_files(folder: Path, change: Callable[[str], str] = str) -> Path:
    """The small net's two files, the text changed; the path of the first."""
    (folder / "twin.bin").write_bytes(ncnn_weights())
    path = folder / "twin.param"
    path.write_text(change(ncnn_text()))
    return path


@pytest.mark.parametrize("wanted", ModelFormat)
def test_a_format_is_told_by_what_is_in_the_file(
    wanted: ModelFormat, tmp_path: Path
) -> None:
    """Whatever it is called; names, hash and size are those of the file."""
    model = twin(wanted, tmp_path)
    assert model.format is wanted
    assert [spec.name for spec in model.inputs] == ["x"]
    assert [str(spec) for spec in model.outputs] == ["y float32[1×3]"]
    assert model.sha256 == hashlib.sha256(model.path.read_bytes()).hexdigest()
    assert model.size_bytes == sum(
        path.stat().st_size for path in tmp_path.iterdir() if path.stem == "twin"
    )
    nameless = tmp_path / "model"
    nameless.write_bytes(model_content(model))
    assert model_format(nameless) is wanted
    assert input_names(nameless) == ["x"]


def test_what_is_no_model_is_left_to_the_onnx_reader(tmp_path: Path) -> None:
    """It says best what a file is instead."""
    path = tmp_path / "page.onnx"
    path.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ModelError, match="is a web page"):
        open_any(path)
    with pytest.raises(UsageError, match="is not there"):
        open_any(tmp_path / "none")
    with pytest.raises(UsageError, match="is a folder"):
        open_any(tmp_path)


def test_the_onnx_reader_names_the_other_formats(tmp_path: Path) -> None:
    """Commands that only take ONNX say so."""
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite_net())
    with pytest.raises(ModelError, match="is a TFLite file, not an ONNX model"):
        open_model(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (tflite_net()[:40], "damaged TFLite"),
        (tflite_net()[: len(tflite_net()) // 2], "damaged TFLite"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(40), "damaged TFLite"),
        (b"\x10\0\0\0TFL3" + bytes(40), "damaged TFLite"),
    ],
)
def test_a_damaged_tflite_file_is_refused(
    content: bytes, says: str, tmp_path: Path
) -> None:
    """Each offset is followed only inside the file."""
    path = tmp_path / "net.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=says):
        open_any(path)


def test_an_ncnn_shape_that_nobody_says_is_asked_for(tmp_path: Path) -> None:
    """With the flag that gives it; given, the net is run once for its outputs."""

    def forget(text: str) -> str:
        return text.replace("0=8 1=8 2=3", "").replace("-23330=4,1,3,0,0", "")

    path = ncnn_files(tmp_path, forget)
    with pytest.raises(UsageError, match="does not say the shape") as caught:
        open_any(path)
    assert "--shape x=" in caught.value.hint
    model = open_any(path, shapes={"x": (1, 3, 12, 8)})
    assert [str(spec) for spec in (*model.inputs, *model.outputs)] == [
        "x float32[1×3×12×8]",
        "y float32[1×3]",
    ]
    with pytest.raises(UsageError, match="no input 'z'"):
        open_any(path, shapes={"z": (1, 3, 8, 8)})
    for shape in ((2, 3, 8, 8), (1,), (1, 1, 1, 1, 1, 1)):
        with pytest.raises(UsageError, match="cannot have the shape"):
            open_any(path, shapes={"x": shape})


def test_rows_that_are_found_are_of_no_fixed_number(tmp_path: Path) -> None:
    """A detector's outputs are open, also where its file notes a number."""
    text = """7767517
2 2
Input                  in  0 1 x 0=8 1=8 2=3
Yolov3DetectionOutput  out 1 1 x y 0=1 1=1 2=0.5 -23330=4,2,6,100,1
"""
    path = tmp_path / "net.param"
    path.write_text(text)
    path.with_suffix(".bin").touch()
    model = open_any(path)
    assert [str(spec) for spec in model.outputs] == ["y float32[1×?×6]"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("7767517", "7767518"),
        lambda text: text.replace("6 6", "7 6"),
        lambda text: text.replace("6 6", "6 7"),
        lambda text: text.replace("6 6", "999999999 6"),
        lambda text: text.replace("6 6", "six six"),
        lambda text: text.replace("1 1 c r", "1 1 nobody r"),
        lambda text: text.replace("1 1 c r", "1 1 c c"),
        lambda text: text.replace("1 1 c r", "9 1 c r"),
        lambda text: text.replace("1 1 c r", "-1 2 c r"),
        lambda text: text.replace("0=8 1=8", "0=-8 1=8"),
        lambda text: text.replace("0=8 1=8", "0=99999999999 1=8"),
        lambda text: text.replace("1=1 -23330", "1 -23330"),
        lambda text: text.replace("-23330=4,1,3", "-23330=4,x,3"),
        lambda text: text.replace("Input ", "Noop "),
        lambda text: text[:60],
        lambda text: text + "\0",
    ],
)
def test_a_damaged_param_is_refused(
    change: Callable[[str], str], tmp_path: Path
) -> None:
    """Before ncnn takes memory for what it says."""
    path = ncnn_files(tmp_path, change)
    with pytest.raises((ModelError, UsageError)):
        get_runtime("ncnn").load(
            replace(twin(ModelFormat.NCNN, tmp_path / "..", classes=3), path=path),
            LoadOptions(),
        )


def test_the_weights_belong_beside_the_param(tmp_path: Path) -> None:
    """Their absence and their end are each an error that names the file."""
    path = ncnn_files(tmp_path)
    model = open_any(path)
    weights = path.with_suffix(".bin")
    weights.write_bytes(ncnn_weights()[:100])
    with pytest.raises(ModelError, match=r"load twin\.param: ModelBin read"):
        get_runtime("ncnn").load(model, LoadOptions())
    weights.unlink()
    with pytest.raises(ModelError, match=r"its weights in twin\.bin"):
        open_any(path)


def test_an_operator_that_ncnn_has_not_is_named(tmp_path: Path) -> None:
    """In the words that it prints."""
    path = ncnn_files(tmp_path, lambda text: text.replace("ReLU ", "Frob "))
    model = open_any(path)
    with pytest.raises(ModelError, match="layer Frob not exists"):
        get_runtime("ncnn").load(model, LoadOptions())


def test_both_ncnn_files_travel_as_one(tmp_path: Path) -> None:
    """Packed they run alike, pack to themselves, and are the same each time."""
    model = twin(ModelFormat.NCNN, tmp_path)
    content = model_content(model)
    assert content.startswith(ncnn_weights())
    packed_path = tmp_path / "released"
    packed_path.write_bytes(content)
    packed = open_any(packed_path)
    assert (packed.inputs, packed.outputs) == (model.inputs, model.outputs)
    assert packed.size_bytes == len(content)
    assert model_content(packed) == content
    runtime = get_runtime("ncnn")
    np.testing.assert_array_equal(
        runtime.load(packed, LoadOptions()).run(inputs_for(packed))["y"],
        runtime.load(model, LoadOptions()).run(inputs_for(model))["y"],
    )


def test_a_packed_file_that_lies_about_its_text_is_refused(tmp_path: Path) -> None:
    """Its length is more than there is, or nothing."""
    content = model_content(twin(ModelFormat.NCNN, tmp_path))
    path = tmp_path / "released"
    for length in (0, 1, 1 << 40):
        path.write_bytes(content[:-16] + length.to_bytes(8, "little") + content[-8:])
        with pytest.raises(ModelError):
            open_any(path)


def test_a_model_that_changed_is_not_released(tmp_path: Path) -> None:
    """What would be signed is what was looked at."""
    model = twin(ModelFormat.ONNX, tmp_path)
    model.path.write_bytes(onnx_net(5))
    with pytest.raises(DataError, match="has changed since it was opened"):
        model_content(model)
    model.path.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        model_content(model)
