from __future__ import annotations

import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import DataError, UsageError
from skerry.core.model import TensorSpec
from skerry.core.seams import Array
from skerry.tasks import _image, _npz
from skerry.tasks.conditions import parse_conditions
from skerry.tasks.samples import (
    MemorySource,
    Sample,
    SampleSource,
    open_samples,
    split,
    take,
    under,
)
from skerry.tasks.series import Reshape, Window
from skerry.tasks.steps import Ctc, Layout, Normalize, Resize, TopK
from skerry.tasks.task import Task, TaskKind
from tests.contents import wav

SPEC = TensorSpec(name="x", dtype="float32", shape=("N", 2, 3))
PETS = Task(
    kind=TaskKind.CLASSIFICATION, metric="top1", labels=("cat", "dog"), post=(TopK(),)
)
LINES = Task(
    kind=TaskKind.TEXT, metric="lines_right", labels=("", "a", "b"), post=(Ctc(),)
)
PICTURE_SPEC = TensorSpec(name="x", dtype="float32", shape=(1, 3, 4, 4))
PICTURES = Task(
    kind=TaskKind.CLASSIFICATION,
    metric="top1",
    labels=("cat", "dog"),
    pre=(Resize(height=4, width=4), Normalize(scale=1 / 255), Layout()),
    post=(TopK(),),
)


def _rows(count: int = 5) -> Array:
    return np.arange(count * 6, dtype=np.float32).reshape(count, 2, 3)


def _save(path: Path, *, packed: bool = False, **arrays: Array) -> Path:
    (np.savez_compressed if packed else np.savez)(path, **arrays)
    return path


def _save_picture(path: Path, value: int) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(_image.encode_png(np.full((6, 5, 3), value, np.uint8)))


def _numbered(count: int) -> MemorySource:
    return MemorySource(
        samples=tuple(
            Sample(inputs={"x": np.zeros((1, 1))}, label=k, name=str(k))
            for k in range(count)
        )
    )


def _labels(source: SampleSource) -> list[object]:
    return [sample.label for sample in source]


@pytest.mark.parametrize("packed", [False, True])
def test_npz_gives_each_row_with_its_label(tmp_path: Path, *, packed: bool) -> None:
    """Rows come in order, with a batch axis of 1, any number of times."""
    stored = _rows()
    label = np.array([0, 1, 1, 0, 1], dtype=np.uint8)
    path = _save(tmp_path / "a.npz", packed=packed, x=stored, label=label)
    source = open_samples(path, [SPEC], PETS)
    assert len(source) == 5
    for _ in range(2):
        read = list(source)
        got = np.concatenate([sample.inputs["x"] for sample in read])
        np.testing.assert_array_equal(got, stored)
        assert [sample.label for sample in read] == [0, 1, 1, 0, 1]
        assert all(type(sample.label) is int for sample in read)
    assert read[3].name == "a.npz[3]"


def test_npz_labels_may_be_text(tmp_path: Path) -> None:
    """Text labels are class names for classification, lines for text."""
    path = _save(tmp_path / "a.npz", x=_rows(2), label=np.array(["dog", "cat"]))
    assert _labels(open_samples(path, [SPEC], PETS)) == [1, 0]
    assert _labels(open_samples(path, [SPEC], LINES)) == ["dog", "cat"]
    assert _labels(open_samples(path, [SPEC], None)) == ["dog", "cat"]


def test_npz_may_have_no_labels_and_foreign_byte_order(tmp_path: Path) -> None:
    """Without `label` samples have none; big-endian numbers are turned round."""
    path = _save(tmp_path / "a.npz", x=_rows().astype(">f4"))
    read = list(open_samples(path, [SPEC], PETS))
    assert read[1].label is None
    assert read[1].inputs["x"].dtype == np.dtype("=f4")
    np.testing.assert_array_equal(read[1].inputs["x"][0], _rows()[1])


def test_npz_is_never_read_whole(tmp_path: Path) -> None:
    """Memory does not grow with the number of samples."""
    spec = TensorSpec(name="x", dtype="float32", shape=("N", 4096))
    path = tmp_path / "a.npz"
    _save(path, packed=True, x=np.zeros((2000, 4096), np.float32))
    source = open_samples(path, [spec], None)
    tracemalloc.start()
    count = sum(1 for _ in source)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 2000
    assert peak_bytes < 2_000_000  # of 32,768,000


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"y": _rows()}, "'y' that is no input"),
        ({"label": np.zeros(3, int)}, r"no array for the model's input x float32"),
        ({"x": _rows().astype(float)}, r"got x float64\[1×2×3\], expected x float32"),
        ({"x": _rows().reshape(5, 3, 2)}, r"got x float32\[1×3×2\]"),
        ({"x": _rows(), "label": np.zeros(4, int)}, "x 5, label 4"),
        ({"x": _rows(0)}, "got rows: x 0"),
        (
            {"x": _rows(), "label": np.arange(5)},
            r"label of a.npz\[2\] is 2, expected 0",
        ),
        ({"x": _rows(), "label": np.full(5, -1)}, "is -1, expected 0 to 1"),
        ({"x": _rows(), "label": np.zeros(5)}, "expected a whole number or text"),
        ({"x": _rows(), "label": np.array(["cow"] * 5)}, "'cow', which is no class"),
        ({"x": _rows(), "label": np.zeros((5, 1), int)}, r"label has shape \(5, 1\)"),
        ({"x": _rows().astype(object)}, "dtype object"),
        ({"x": np.asfortranarray(_rows())}, "column by column"),
        ({"x": np.float32(3)}, r"has shape \(\)"),
    ],
)
def test_npz_that_does_not_fit_is_refused_when_opened(
    tmp_path: Path, arrays: dict[str, Array], what: str
) -> None:
    """Names, dtypes, shapes, counts and labels are checked before a sample is read."""
    path = _save(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=what) as caught:
        open_samples(path, [SPEC], PETS)
    assert caught.value.hint


def test_a_fixed_batch_is_named(tmp_path: Path) -> None:
    """A model exported with a batch of 8 is the fault, and the hint says so."""
    path = _save(tmp_path / "a.npz", x=_rows())
    spec = TensorSpec(name="x", dtype="float32", shape=(8, 2, 3))
    with pytest.raises(DataError) as caught:
        open_samples(path, [spec], None)
    assert "fixed batch of 8" in caught.value.hint


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_found_when_its_sample_is_reached(tmp_path: Path, bad: float) -> None:
    """The sample with NaN or infinities is named; those before it are read."""
    stored = _rows()
    stored[3, 1, 1] = bad
    source = open_samples(_save(tmp_path / "a.npz", x=stored), [SPEC], None)
    stream = iter(source)
    assert len([next(stream) for _ in range(3)]) == 3
    with pytest.raises(DataError, match=r"sample a.npz\[3\]: 1 of 6 values"):
        next(stream)


def test_text_labels_for_text_only(tmp_path: Path) -> None:
    """A number is no line of text."""
    path = _save(tmp_path / "a.npz", x=_rows(2), label=np.array([1, 2]))
    with pytest.raises(DataError, match="expected a line of text"):
        open_samples(path, [SPEC], LINES)


def test_a_file_that_changes_while_read_is_refused(tmp_path: Path) -> None:
    """A file replaced after opening is noticed."""
    path = _save(tmp_path / "a.npz", x=_rows())
    source = open_samples(path, [SPEC], None)
    _save(path, x=_rows(4))
    with pytest.raises(DataError, match="changed"):
        list(source)


def test_an_input_may_be_called_label(tmp_path: Path) -> None:
    """Where the model has an input called label, that array is no label."""
    spec = TensorSpec(name="label", dtype="float32", shape=(1, 2, 3))
    source = open_samples(_save(tmp_path / "a.npz", label=_rows()), [spec], PETS)
    assert _labels(source) == [None] * 5


def test_folder_with_one_sub_folder_a_class(tmp_path: Path) -> None:
    """Pictures are prepared by the task, labelled by their folder."""
    _save_picture(tmp_path / "cat" / "1.png", 0)
    _save_picture(tmp_path / "dog" / "1.PNG", 255)
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    source = open_samples(tmp_path, [PICTURE_SPEC], PICTURES)
    read = list(source)
    assert [(sample.name, sample.label) for sample in read] == [
        ("cat/1.png", 0),
        ("dog/1.PNG", 1),
    ]
    assert read[1].inputs["x"].shape == (1, 3, 4, 4)
    assert (read[1].inputs["x"] == 1).all()
    assert _labels(source.pick(np.array([False, True]))) == [1]


def test_folder_with_labels_csv(tmp_path: Path) -> None:
    """Pictures come in the order of labels.csv, with its labels."""
    for name in ("b.png", "a.png", "unlisted.png"):
        _save_picture(tmp_path / name, 9)
    (tmp_path / "labels.csv").write_text("label,file,by\ndog,b.png,me\ncat,a.png,me\n")
    source = open_samples(tmp_path, [PICTURE_SPEC], PICTURES)
    assert [(s.name, s.label) for s in source] == [("b.png", 1), ("a.png", 0)]


def test_folder_of_bare_pictures_is_unlabelled(tmp_path: Path) -> None:
    """Pictures without any label can still calibrate."""
    _save_picture(tmp_path / "a.png", 9)
    assert _labels(open_samples(tmp_path, [PICTURE_SPEC], PICTURES)) == [None]


def test_folder_needs_a_task_and_one_picture_input(tmp_path: Path) -> None:
    """Without steps, or with two inputs, pictures cannot be prepared."""
    _save_picture(tmp_path / "a.png", 9)
    with pytest.raises(DataError, match="nothing says how"):
        open_samples(tmp_path, [PICTURE_SPEC], None)
    with pytest.raises(DataError, match="the model has 2"):
        open_samples(tmp_path, [PICTURE_SPEC, SPEC], PICTURES)


def test_folder_whose_steps_miss_the_input_is_refused_when_opened(
    tmp_path: Path,
) -> None:
    """The first picture shows that the steps lead elsewhere than the model."""
    _save_picture(tmp_path / "a.png", 9)
    spec = TensorSpec(name="x", dtype="float32", shape=(1, 3, 8, 8))
    with pytest.raises(DataError, match=r"got x float32\[1×3×4×4\], expected x"):
        open_samples(tmp_path, [spec], PICTURES)


def test_folder_with_an_unknown_class_is_refused(tmp_path: Path) -> None:
    """A sub-folder that is no class names the nearest one."""
    _save_picture(tmp_path / "cats" / "1.png", 0)
    with pytest.raises(DataError, match="no class of the task") as caught:
        open_samples(tmp_path, [PICTURE_SPEC], PICTURES)
    assert "'cat'" in caught.value.hint


def test_labels_that_are_numbers_may_do_without_names(tmp_path: Path) -> None:
    """Where classes have no names, sub-folders are their numbers."""
    _save_picture(tmp_path / "7" / "1.png", 0)
    task = Task(
        kind=TaskKind.CLASSIFICATION, metric="top1", pre=PICTURES.pre, post=(TopK(),)
    )
    assert _labels(open_samples(tmp_path, [PICTURE_SPEC], task)) == [7]
    _save_picture(tmp_path / "cat" / "1.png", 0)
    with pytest.raises(DataError) as caught:
        open_samples(tmp_path, [PICTURE_SPEC], task)
    assert "names no classes" in caught.value.hint


@pytest.mark.parametrize("count", [2, 3, 10, 101])
def test_split_halves_without_overlap(count: int) -> None:
    """Each sample is in exactly one half; the halves differ by one at most."""
    first, second = split(_numbered(count), seed=3)
    assert abs(len(first) - len(second)) <= 1
    assert sorted(_labels(first) + _labels(second)) == list(range(count))


def test_split_depends_on_seed_and_index_alone() -> None:
    """The same seed gives the same halves, also when samples are added."""
    first, _ = split(_numbered(100), seed=0)
    longer, _ = split(_numbered(200), seed=0)
    other, _ = split(_numbered(100), seed=1)
    assert _labels(first) == [k for k in _labels(longer) if k < 100]
    assert _labels(first) != _labels(other)
    # Written down once: a change here would move samples between users' halves.
    assert _labels(first)[:8] == [0, 3, 5, 7, 8, 10, 12, 14]


def test_split_of_an_npz_still_streams(tmp_path: Path) -> None:
    """Halves of a file, and parts of halves, read the right rows."""
    path = _save(tmp_path / "a.npz", x=_rows(20), label=np.arange(20))
    whole = open_samples(path, [SPEC], None)
    first, second = split(whole, seed=0)
    assert sorted([*_labels(first), *_labels(second)]) == list(range(20))
    part = take(second, 4)
    assert len(part) == 4
    assert set(_labels(part)) <= set(_labels(second))


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (1, 0)])
def test_split_needs_two_samples(count: int, seed: int) -> None:
    """One sample has no two halves."""
    with pytest.raises(DataError, match="two halves"):
        split(_numbered(count), seed)


def test_split_needs_a_seed_that_is_not_negative() -> None:
    """A negative seed is refused."""
    with pytest.raises(UsageError, match="seed is -1"):
        split(_numbered(4), -1)


@pytest.mark.parametrize("n", [1, 2, 7, 64, 99])
def test_take_spreads_over_the_source(n: int) -> None:
    """Each of n equal stretches gives one sample, always the same."""
    source = _numbered(100)
    taken = _labels(take(source, n))
    assert len(taken) == n
    ends = np.arange(n + 1) * 100 // n
    assert all(a <= k < b for k, a, b in zip(taken, ends, ends[1:], strict=False))
    assert taken == _labels(take(source, n))


def test_take_of_more_than_all_is_all() -> None:
    """Asking for more than there is gives what there is; for none, an error."""
    assert _labels(take(_numbered(3), 9)) == [0, 1, 2]
    with pytest.raises(UsageError, match="take 0"):
        take(_numbered(3), 0)


def test_rows_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row too large to hold is refused by its header."""
    monkeypatch.setattr(_npz, "LARGEST_ROW_BYTES", 20)
    path = _save(tmp_path / "a.npz", x=_rows())
    with pytest.raises(DataError, match="row of array 'x' has 24 bytes"):
        open_samples(path, [SPEC], None)


def _write_text(path: Path) -> None:
    path.write_text("no zip")


def _write_nothing(path: Path) -> None:
    """Leave the file missing."""


def _write_foreign(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def _write_liar(path: Path) -> None:
    content = b"\x93NUMPY\x01\x00\x46\x00" + (
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (9, 2, 3), }".ljust(69)
        + b"\n"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content + b"\0" * 24)


def _write_cut(path: Path) -> None:
    _save(path, x=_rows(50))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _write_damaged(path: Path) -> None:
    _save(path, packed=True, x=_rows(50))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20] = b"\xff" * 20
    path.write_bytes(content)


@pytest.mark.parametrize(
    "write",
    [
        _write_text,
        _write_nothing,
        _write_foreign,
        _write_liar,
        _write_cut,
        _write_damaged,
    ],
)
def test_files_that_are_no_npz_are_refused(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    """Whatever is wrong with the file, opening or reading it gives a DataError."""
    path = tmp_path / "a.npz"
    write(path)
    with pytest.raises(DataError, match=r"a\.npz"):
        list(open_samples(path, [SPEC], None))


def test_a_header_is_not_unpacked_without_end(tmp_path: Path) -> None:
    """A small file whose header says that it has gigabytes takes no gigabytes."""
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        content = b"\x93NUMPY\x02\x00" + struct.pack("<I", 64 << 20) + bytes(64 << 20)
        archive.writestr("x.npy", content)
    tracemalloc.start()
    try:
        with (
            pytest.raises(DataError, match="not an array"),
            _npz.open_npz(path, name="it") as archive,
        ):
            _npz.read_members(archive, name="it")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 << 20


def test_a_folder_of_recordings_is_prepared_by_the_steps(tmp_path: Path) -> None:
    """One sub-folder a word; pictures beside them are passed over."""
    task = Task(
        kind=TaskKind.CLASSIFICATION,
        metric="top1",
        labels=("no", "yes"),
        pre=(Window(length=4), Reshape(sizes=(4,))),
        post=(TopK(),),
    )
    spec = TensorSpec(name="x", dtype="float32", shape=("N", 4))
    for word, levels in (("yes", [0.5] * 5), ("no", [0.0, 0.25, 0.5, 0.75])):
        (tmp_path / word).mkdir()
        (tmp_path / word / "a.wav").write_bytes(wav(levels))
        (tmp_path / word / "a.png").write_bytes(b"no picture")
    (tmp_path / "yes" / "b.csv").write_text("1\n2\n3\n4\n")
    source = open_samples(tmp_path, [spec], task)
    found = [(s.name, s.label, s.inputs["x"].tolist()) for s in source]
    assert found == [
        ("no/a.wav", 0, [[0, 0.25, 0.5, 0.75]]),
        ("yes/a.wav", 1, [[0.5] * 4]),
        ("yes/b.csv", 1, [[1, 2, 3, 4]]),
    ]
    with pytest.raises(DataError, match="spoils pictures"):
        under(source, parse_conditions("blur")[0])
    (tmp_path / "yes" / "a.wav").write_bytes(b"RIFF....WAVE")
    with pytest.raises(DataError, match=r"a\.wav: cannot decode the WAV"):
        list(source)
