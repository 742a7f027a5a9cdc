from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from skerry.core.errors import ModelError
from skerry.graph import Graph, _onnx, make_initializer, parse_graph
from tests import models

WITHOUT_ONNX = """
import sys
sys.modules["onnx"] = None
from skerry.core.errors import MissingExtraError
try:
    import skerry.graph
except MissingExtraError as error:
    print(error.what, "|", error.hint)
"""


def test_without_onnx() -> None:
    """Where onnx is not installed, the error names the pip line."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ONNX], capture_output=True, text=True, check=True
    )
    assert "'onnx'" in done.stdout
    assert "pip install 'skerry[compress]'" in done.stdout


def test_foreign_errors_are_one_line() -> None:
    """Of a foreign message the first line is kept, and of an empty one the kind."""
    for error, reason in (
        (ValueError("\n first line.\nsecond"), "first line"),
        (KeyError(), "KeyError"),
        (RecursionError("too deep"), "too deep"),
        (MemoryError(), "asks for more memory than there is"),
    ):
        message = f"^it failed: .*{reason}$"
        with (
            pytest.raises(ModelError, match=message),
            _onnx.foreign_errors("it failed"),
        ):
            raise error


def test_own_errors_and_interrupts_pass() -> None:
    """Ctrl-C is not an error of the model, and our own errors stay as they are."""
    with pytest.raises(KeyboardInterrupt), _onnx.foreign_errors("it failed"):
        raise KeyboardInterrupt
    own = ModelError("own", hint="hint")
    with pytest.raises(ModelError) as caught, _onnx.foreign_errors("it failed"):
        raise own
    assert caught.value is own


def test_too_large_for_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that one protobuf message cannot hold are refused, with the way out."""
    monkeypatch.setattr(_onnx, "MAX_PROTOBUF_BYTES", 100)
    with pytest.raises(ModelError, match="one ONNX file holds at most 100") as caught:
        parse_graph(models.mlp()).to_bytes()
    assert "write_graph" in caught.value.hint


@pytest.mark.parametrize(
    ("dtype", "size_bytes"), [("float32", 12), ("int8", 3), ("float16", 6)]
)
def test_size_bytes(dtype: str, size_bytes: int) -> None:
    """A tensor's size follows from its dtype and shape."""
    assert _onnx.size_bytes(_onnx.make_value("v", dtype, (1, 3))) == size_bytes
    assert _onnx.size_bytes(_onnx.make_value("v", dtype, ("n", 3))) is None


def test_packed_and_text_tensors() -> None:
    """Two 4-bit numbers share a byte; text has no size and dtype `str`."""
    content = models.model_bytes(
        "net (int4[3] x, string[2] s) => (int4[3] y, string[2] t) "
        "{y = Identity(x) t = Identity(s)}",
        opset=21,
    )
    graph = parse_graph(content)
    assert [spec.dtype for spec in graph.inputs] == ["int4", "str"]
    assert [_onnx.size_bytes(value) for value in graph.input_values] == [2, None]


def test_weights_of_any_dtype_are_kept() -> None:
    """Floats and integers of each width come back as they were."""
    for dtype in ("float64", "float16", "int8", "uint8", "int32", "int64", "bool"):
        graph = parse_graph(models.mlp())
        array = np.array([0, 1, 1]).astype(dtype)
        graph.add_initializer(make_initializer(array, "kept"))
        again: Graph = parse_graph(graph.to_bytes())
        read = again.constant(again.value("kept"))
        assert read is not None
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("dtype", "size"), [("int4", 5), ("uint4", 5), ("bfloat16", 20), ("float16", 20)]
)
def test_initializers_of_other_dtypes_are_packed(dtype: str, size: int) -> None:
    """Ten numbers of four bits take five bytes, and read back as what they were."""
    numbers = np.arange(10) % 8
    value = make_initializer(numbers.astype(np.float32), "codes", dtype)
    assert _onnx.size_bytes(value) == size
    assert _onnx.dtype_name(value) == dtype
    array = _onnx.constant_array(value)
    assert array is not None
    assert array.astype(np.int64).tolist() == numbers.tolist()


def test_a_dtype_is_given_to_one_graph_alone() -> None:
    """A copy whose value gets another dtype leaves the source's as it was."""
    graph = parse_graph(models.mlp())
    copied = graph.copy()
    _onnx.set_dtype(copied.value("active"), "float16")
    assert _onnx.dtype_name(copied.value("active")) == "float16"
    assert _onnx.dtype_name(graph.value("active")) != "float16"


@pytest.mark.parametrize(
    ("dtype", "code"),
    [("float32", 1), ("int32", 6), ("float16", 10), ("float64", 11), ("bfloat16", 16)],
)
def test_the_number_of_a_dtype(dtype: str, code: int) -> None:
    """Numpy's names become the numbers of TensorProto.DataType."""
    assert _onnx.dtype_code(dtype) == code


@pytest.mark.parametrize(
    ("op_type", "inputs", "outputs", "expected"),
    [
        ("Conv", 3, 1, ({0, 1, 2}, {0})),
        ("Concat", 4, 1, ({0, 1, 2, 3}, {0})),
        ("Resize", 3, 1, ({0, 1}, {0})),
        ("Cast", 1, 1, ({0}, set())),
        ("NonMaxSuppression", 5, 1, (set(), set())),
        ("NoSuchOperator", 2, 1, (set(), set())),
    ],
)
def test_places_that_may_hold_half_floats(
    op_type: str, inputs: int, outputs: int, expected: tuple[set[int], set[int]]
) -> None:
    """What the standard lets be FP16: not the scales of Resize, not boxes of NMS."""
    given = [_onnx.make_value(f"i{i}", "float32", [1]) for i in range(inputs)]
    node = _onnx.make_node(op_type, given, outputs=[f"o{i}" for i in range(outputs)])
    assert _onnx.places_for(node, 17, "float16") == expected
