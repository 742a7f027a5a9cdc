"""Bytes from outside give what they say, or an error of our tree; nothing else."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy
from PIL import Image

from skerry.core.errors import SkerryError
from skerry.core.model import TensorSpec
from skerry.tasks import _image
from skerry.tasks._folder import parse_labels
from skerry.tasks.golden import parse_golden
from skerry.tasks.samples import open_samples
from skerry.tasks.task import parse_task, task_from_table

GOLDEN = Path(__file__).parents[1] / "golden"
GOLDEN_HEADER = (
    b'{"schema":"skerry.golden/1","tolerance":0.01,"samples":'
    b'[{"name":"a","inputs":["x"],"outputs":["y"]}]}'
)
SPEC = TensorSpec(name="x", dtype="float32", shape=("N", 4))


def _npz(save: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    save(stream, x=rows, label=np.array(["a", "b", "c"]))
    return stream.getvalue()


def _picture(kind: str) -> bytes:
    stream = io.BytesIO()
    pixels = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """Take a good file and overwrite, insert, cut out or cut off some of it."""
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        piece = draw(st.binary(max_size=8))
        match draw(st.sampled_from(["overwrite", "insert", "cut out", "cut off"])):
            case "overwrite":
                content[start : start + len(piece)] = piece
            case "insert":
                content[start:start] = piece
            case "cut out":
                del content[start : start + len(piece)]
            case "cut off":
                del content[start:]
    return bytes(content)


def _accepts_or_refuses(read: Callable[[], object]) -> None:
    """Read; an error of our tree has a hint and fits one line."""
    try:
        read()
    except SkerryError as error:
        assert error.hint  # noqa: PT017 (the error is one of two right answers)
        assert error.what  # noqa: PT017 (the same)


def _read_npz(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        path.write_bytes(content)
        for sample in open_samples(path, [SPEC], None):
            assert sample.inputs["x"].shape == (1, 4)


@settings(max_examples=300, deadline=None)
@given(
    content=st.binary(max_size=200)
    | damaged([_npz(np.savez), _npz(np.savez_compressed)])
)
def test_npz(content: bytes) -> None:
    """A damaged .npz is read or refused."""
    _accepts_or_refuses(lambda: _read_npz(content))


HEADERS = st.one_of(
    st.text(max_size=60),
    st.fixed_dictionaries(
        {},
        optional={
            "descr": st.one_of(
                st.sampled_from(["<f4", "O", "<U3", "V8", ">i8", "<M8[s]"]),
                st.text(max_size=5),
                st.lists(st.tuples(st.text(max_size=2), st.just("<f4")), max_size=2),
            ),
            "fortran_order": st.booleans() | st.integers(),
            "shape": st.tuples(st.integers(), st.integers())
            | st.tuples(st.integers(0, 9))
            | st.none(),
        },
    ).map(repr),
)


@settings(max_examples=100, deadline=None)
@given(
    header=HEADERS, version=st.sampled_from([1, 2, 3, 4]), rest=st.binary(max_size=64)
)
def test_npy_headers(header: str, version: int, rest: bytes) -> None:
    """An array's header is evaluated by numpy: whatever it says is read or refused."""
    text = header.encode()
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    content = npy.MAGIC_PREFIX + bytes([version, 0]) + length + text + rest
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", content)
    _accepts_or_refuses(lambda: _read_npz(stream.getvalue()))


@settings(max_examples=200, deadline=None)
@given(
    content=st.binary(max_size=200) | damaged([(GOLDEN / "golden-1.npz").read_bytes()])
)
def test_golden(content: bytes) -> None:
    """A damaged file of golden samples is read or refused."""
    _accepts_or_refuses(lambda: parse_golden(content, name="g.npz"))


@settings(max_examples=200, deadline=None)
@given(header=st.binary(max_size=80) | damaged([GOLDEN_HEADER]))
def test_golden_header(header: bytes) -> None:
    """A golden file whose header is anything is read or refused."""
    stream = io.BytesIO()
    arrays = {"0_in_0": np.zeros((1, 1, 4)), "0_out_0": np.zeros((1, 1, 4))}
    np.savez(stream, header=np.frombuffer(header, np.uint8)[None], **arrays)
    _accepts_or_refuses(lambda: parse_golden(stream.getvalue(), name="g.npz"))


@settings(max_examples=300, deadline=None)
@given(
    content=st.binary(max_size=200)
    | damaged([path.read_bytes() for path in sorted(GOLDEN.glob("task-*.toml"))])
)
def test_task_toml(content: bytes) -> None:
    """A damaged task file is read or refused."""
    _accepts_or_refuses(lambda: parse_task(content, name="t.toml"))


VALUES = st.recursive(
    st.one_of(
        st.integers(), st.floats(), st.booleans(), st.text(max_size=4), st.just("topk")
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["step", "height", "mean", "k"]), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(
    table=st.dictionaries(
        st.sampled_from(["kind", "metric", "labels", "pre", "post", "output", "x"]),
        VALUES,
    ),
    pre=st.lists(
        st.dictionaries(
            st.sampled_from(["version", "height", "width", "mean", "std", "fill"]),
            VALUES,
        ),
        max_size=2,
    ),
    step=st.sampled_from(["resize", "letterbox", "crop", "normalize", "layout"]),
)
def test_task_tables(
    table: dict[str, object], pre: list[dict[str, object]], step: str
) -> None:
    """A task's table with any values of any type is read or refused."""
    right = {
        "schema": "skerry.task/1",
        "kind": "classification",
        "metric": "top1",
        "pre": [{"step": step, **params} for params in pre],
        "post": [{"step": "topk"}],
    }
    _accepts_or_refuses(lambda: task_from_table(right | table, name="t.toml"))


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200) | damaged([b"file,label\na.png,1\n'b',\"2\"\n"]))
def test_labels_csv(content: bytes) -> None:
    """A damaged labels.csv is read or refused."""
    _accepts_or_refuses(lambda: parse_labels(content, name="labels.csv"))


KINDS = ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(change=st.data())
def test_pictures(kind: str, change: st.DataObject) -> None:
    """A damaged picture is decoded to RGB or refused."""
    content = change.draw(damaged([_picture(kind)]))

    def read() -> None:
        decoded = _image.decode_picture(content, name="p")
        assert decoded.dtype == np.uint8
        assert decoded.ndim == len("HWC")
        assert decoded.shape[2] == len("RGB")

    _accepts_or_refuses(read)
