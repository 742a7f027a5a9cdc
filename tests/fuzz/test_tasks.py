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
from skerry.tasks._annotations import parse_coco
from skerry.tasks._content import decode_content
from skerry.tasks._folder import parse_labels
from skerry.tasks.conditions import Condition, parse_conditions
from skerry.tasks.dbnet import Dbnet
from skerry.tasks.decoders import Value
from skerry.tasks.golden import parse_golden
from skerry.tasks.heads import (
    BoxesScores,
    Centernet,
    Fastestdet,
    Head,
    Nms,
    Selected,
    Yolox,
)
from skerry.tasks.matching import read_gallery
from skerry.tasks.pipeline import Pipeline
from skerry.tasks.samples import open_samples
from skerry.tasks.series import GapFill, Resample, Reshape, Window
from skerry.tasks.spectra import Mfcc
from skerry.tasks.task import Task, TaskKind, parse_task, task_from_table
from tests.contents import gallery_bytes, wav
from tests.contents import npy as npy_bytes

GOLDEN = Path(__file__).parents[1] / "golden"
GOLDEN_HEADER = (
    b'{"schema":"skerry.golden/1","tolerance":0.01,"samples":'
    b'[{"name":"a","inputs":["x"],"outputs":["y"]}]}'
)
COCO = (
    b'{"images":[{"id":7,"file_name":"a.png"}],"categories":[{"id":3,"name":"cat"}],'
    b'"annotations":[{"image_id":7,"category_id":3,"bbox":[1,2.5,3,4],"area":9,'
    b'"iscrowd":1}]}'
)
BOX_ROWS = (
    b"file,label,x_min,y_min,x_max,y_max,area,is_crowd\n"
    b"a.png,cat,1,2.5,3,4,9,1\nb.png,,,,,,,\n"
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
@given(
    content=st.binary(max_size=200)
    | damaged([b"file,label\na.png,1\n'b',\"2\"\n", BOX_ROWS])
)
def test_labels_csv(content: bytes) -> None:
    """A damaged labels.csv is read or refused."""
    _accepts_or_refuses(lambda: parse_labels(content, name="labels.csv"))


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=200) | damaged([COCO]))
def test_coco(content: bytes) -> None:
    """A damaged file of COCO annotations is read or refused."""
    _accepts_or_refuses(lambda: parse_coco(content, name="coco.json"))


@settings(max_examples=200, deadline=None)
@given(
    boxes=st.lists(
        st.lists(
            st.floats(width=32) | st.integers(-2, 3).map(float), min_size=7, max_size=7
        ),
        min_size=1,
        max_size=3,
    ),
    columns=st.integers(3, 7),
    labels=st.sampled_from([(), ("a", "b")]),
)
def test_npz_boxes(
    boxes: list[list[float]], columns: int, labels: tuple[str, ...]
) -> None:
    """Boxes of any numbers are read, with areas that are none below 0, or refused."""
    table = np.array(boxes, np.float32)[None, :, :columns]
    task = Task(
        kind=TaskKind.DETECTION,
        metric="map",
        labels=labels,
        post=(BoxesScores(), Nms()),
    )

    def read() -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "a.npz"
            np.savez(path, x=np.zeros((1, 4), np.float32), label=table)
            for sample in open_samples(path, [SPEC], task):
                assert (sample.label.areas >= 0).all()  # type: ignore[union-attr]

    _accepts_or_refuses(read)


HEADS: list[Head] = [
    BoxesScores(),
    BoxesScores(order="cxcywh", softmax=True, background=0, height=9, width=9),
    Yolox(height=16, width=16, strides=(8, 16)),
    Fastestdet(height=16, width=16),
    Centernet(),
    Dbnet(height=16, width=16),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
@settings(max_examples=100, deadline=None)
@given(
    shapes=st.lists(
        st.lists(st.integers(0, 7), max_size=3).map(tuple), min_size=1, max_size=3
    ),
    numbers=st.lists(st.floats(width=32), min_size=1, max_size=9),
)
def test_heads(head: Head, shapes: list[tuple[int, ...]], numbers: list[float]) -> None:
    """Outputs of any shape and numbers are read as finite boxes, or refused."""
    outputs = {
        f"o{index}": np.resize(np.array(numbers, np.float32), (1, *shape))
        for index, shape in enumerate(shapes)
    }
    task = Task(kind=TaskKind.DETECTION, metric="map", post=(head, Nms()))

    def read() -> None:
        found = task.decode(outputs).boxes
        assert found is not None
        assert np.isfinite(found.corners).all()
        assert np.isfinite(found.scores).all()

    _accepts_or_refuses(read)


@given(text=st.text(max_size=20) | st.sampled_from(["dark,blur", "all", ",", "dark,"]))
def test_conditions(text: str) -> None:
    """Any words are conditions or refused."""

    def read() -> None:
        assert set(parse_conditions(text)) <= set(Condition)

    _accepts_or_refuses(read)


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


CONTENTS = [
    wav([0.25, -0.5, 0.75] * 20),
    wav([0.25, -0.5] * 20, width=3, channels=2, rate_hz=44100),
    npy_bytes(np.arange(60.0).reshape(30, 2)),
    _picture("JPEG"),
    _picture("WEBP"),
    b"flow,heat\n1,2\n3,\n5,6\n",
    b"[[1, 2.5], [3, null]]",
]
MEDIA_TYPES = ["audio/wav", "image/jpeg", "text/csv", "application/json", "x", ""]


@settings(max_examples=400, deadline=None)
@given(
    content=st.binary(max_size=200)
    | st.text(max_size=60).map(str.encode)
    | damaged(CONTENTS),
    media_type=st.sampled_from(MEDIA_TYPES) | st.text(max_size=20),
)
def test_contents(content: bytes, media_type: str) -> None:
    """Whatever a client sends is decoded or refused."""
    _accepts_or_refuses(lambda: decode_content(content, media_type))


LISTENER = Pipeline(
    task=Task(
        kind=TaskKind.REGRESSION,
        metric="mae",
        pre=(
            GapFill(largest_gap=5),
            Resample(to_hz=8000),
            Window(length=400, pad=True),
            Mfcc(rate_hz=8000, frame=200, hop=100, coefficients=4),
            Reshape(sizes=(12,)),
        ),
        post=(Value(),),
    ),
    inputs=[TensorSpec(name="x", dtype="float32", shape=("N", 12))],
)


@settings(max_examples=200, deadline=None)
@given(content=damaged(CONTENTS), media_type=st.sampled_from(MEDIA_TYPES))
def test_pipelines(content: bytes, media_type: str) -> None:
    """What is decoded becomes an input of finite numbers, or is refused."""

    def read() -> None:
        array = LISTENER.read(content, media_type).inputs["x"]
        assert array.shape == (1, 12)
        assert np.isfinite(array).all()

    _accepts_or_refuses(read)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200) | damaged([gallery_bytes()]))
def test_galleries(content: bytes) -> None:
    """A damaged gallery is read or refused."""
    _accepts_or_refuses(lambda: read_gallery(content, name="g"))


@settings(max_examples=200, deadline=None)
@given(data=st.data(), labels=st.sampled_from([(), ("a", "b")]))
def test_selected_boxes(data: st.DataObject, labels: tuple[str, ...]) -> None:
    """Whatever a model says it has selected is told or refused."""
    numbers = st.floats(width=32)
    outputs = {}
    for name in "bsc":
        shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
        size = int(np.prod(shape))
        drawn = data.draw(st.lists(numbers, min_size=size, max_size=size))
        outputs[name] = np.array(drawn, np.float32).reshape(shape)
    _accepts_or_refuses(lambda: Selected().select(outputs, labels))
