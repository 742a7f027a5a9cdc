from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from skerry.core.errors import DataError, ModelError, NewerSchemaError
from skerry.core.seams import Array, Session, Tensors
from skerry.tasks import golden as golden_module
from skerry.tasks.golden import (
    check_golden,
    golden_to_bytes,
    load_golden,
    make_golden,
    parse_golden,
    save_golden,
)
from skerry.tasks.samples import MemorySource

GOLDEN = Path(__file__).parents[2] / "golden" / "golden-1.npz"

MakeSession = Callable[[Callable[[Array], Array]], Session]


def _twice(x: Array) -> Array:
    return 2 * x


def test_golden_file_is_read_for_ever(make_session: MakeSession) -> None:
    """The first version's file is read, and a model that doubles still passes it."""
    golden = load_golden(GOLDEN)
    assert golden.tolerance == 0.01
    assert [sample.name for sample in golden.samples] == ["s1", "s2", "s5"]
    assert golden.samples[1].inputs["x"].tolist() == [[0, 0, 1, 0]]
    assert check_golden(make_session(_twice), golden).is_ok


def test_saved_samples_come_back(
    make_session: MakeSession, one_hot: MemorySource, tmp_path: Path
) -> None:
    """Names, arrays, dtypes and shapes are those that were kept."""
    golden = make_golden(make_session(_twice), one_hot, 3, tolerance=0.25)
    save_golden(golden, tmp_path / "g.npz")
    loaded = load_golden(tmp_path / "g.npz")
    assert loaded.tolerance == 0.25
    assert [s.name for s in loaded.samples] == [s.name for s in golden.samples]
    for kept, read in zip(golden.samples, loaded.samples, strict=True):
        for before, after in ((kept.inputs, read.inputs), (kept.outputs, read.outputs)):
            assert list(before) == list(after)
            for name, array in before.items():
                assert after[name].dtype == array.dtype
                np.testing.assert_array_equal(after[name], array)


def test_outputs_of_any_rank_are_kept(
    make_session: MakeSession, one_hot: MemorySource
) -> None:
    """A number, and an array without elements, come back with their shapes."""
    for function in (lambda x: x.sum(), lambda x: x[:, :0]):
        golden = make_golden(make_session(function), one_hot, 1)
        read = parse_golden(golden_to_bytes(golden), name="g")
        shape = golden.samples[0].outputs["y"].shape
        assert read.samples[0].outputs["y"].shape == shape


def test_the_same_samples_give_the_same_bytes(
    make_session: MakeSession, one_hot: MemorySource
) -> None:
    """A file of golden samples can be named by its hash."""
    golden = make_golden(make_session(_twice), one_hot, 2)
    assert golden_to_bytes(golden) == golden_to_bytes(golden)


@pytest.mark.parametrize(
    ("function", "worst", "n_disagree"),
    [
        (_twice, 0.0, 0),
        (lambda x: 2.1 * x, 0.0025, 0),
        (lambda x: 2.5 * x, 0.0625, 8),
        (lambda x: np.where(x[:, 2:3] > 0, np.nan, _twice(x)), np.inf, 2),
        (lambda x: _twice(x)[:, :3], np.inf, 8),
    ],
)
def test_check_golden_finds_the_worst(
    make_session: MakeSession,
    one_hot: MemorySource,
    function: Callable[[Array], Array],
    worst: float,
    n_disagree: int,
) -> None:
    """The worst error and the number beyond the tolerance are those of the model."""
    golden = make_golden(make_session(_twice), one_hot, 8)
    result = check_golden(make_session(function), golden)
    assert result.worst == pytest.approx(worst, rel=1e-5)
    assert result.n_disagree == n_disagree
    assert result.is_ok == (n_disagree == 0)
    assert result.which == ("s2" if n_disagree == 2 else "s0")


@dataclass(frozen=True)
class _WithEmbedding:
    """Gives another output beside those of a session."""

    session: Session

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run the session, and give its input back as an embedding."""
        return {"embedding": np.full(3, np.nan), **self.session.run(inputs)}


def test_an_output_that_was_not_kept_is_not_looked_at(
    make_session: MakeSession, one_hot: MemorySource
) -> None:
    """A model may give an embedding that the golden samples do not hold."""
    golden = make_golden(make_session(_twice), one_hot, 4)
    more = cast("Session", _WithEmbedding(make_session(_twice)))
    assert check_golden(more, golden).is_ok
    with pytest.raises(ModelError, match="NaN"):
        make_golden(more, one_hot, 4)
    kept = make_golden(more, one_hot, 4, outputs={"y"})
    assert golden_to_bytes(kept) == golden_to_bytes(golden)


def test_an_output_that_was_kept_must_be_there(
    make_session: MakeSession, one_hot: MemorySource
) -> None:
    """A model that lost an output is not what was released."""
    more = cast("Session", _WithEmbedding(make_session(_twice)))
    golden = make_golden(more, one_hot, 2, outputs={"y"})
    renamed = tuple(
        replace(sample, outputs={"z": sample.outputs["y"]}) for sample in golden.samples
    )
    result = check_golden(more, replace(golden, samples=renamed))
    assert result.worst == np.inf
    assert not result.is_ok


def test_a_model_that_gives_nan_cannot_be_golden(
    make_session: MakeSession, one_hot: MemorySource
) -> None:
    """NaN is not kept as what a model should give."""
    with pytest.raises(ModelError, match="NaN or infinities for sample s"):
        make_golden(make_session(lambda x: x * np.nan), one_hot, 2)


def test_golden_needs_samples(make_session: MakeSession) -> None:
    """No samples prove nothing."""
    with pytest.raises(DataError, match="no samples"):
        make_golden(make_session(_twice), MemorySource(samples=()), 2)


def _pack(header: bytes | None, **arrays: Array) -> bytes:
    stream = io.BytesIO()
    if header is not None:
        arrays["header"] = np.frombuffer(header, np.uint8)[None]
    np.savez(stream, **arrays)
    return stream.getvalue()


SAMPLE = b'{"name": "a", "inputs": ["x"], "outputs": []}'


@pytest.mark.parametrize(
    ("content", "error", "what"),
    [
        (b"", DataError, "not a whole .npz"),
        (_pack(None, x=np.zeros((1, 2))), DataError, "not JSON"),
        (_pack(b"[]"), DataError, "JSON object was expected"),
        (_pack(b"{}"), DataError, "has the schema"),
        (_pack(b'{"schema": "skerry.golden/2"}'), NewerSchemaError, "reads up to"),
        (
            _pack(b'{"schema": "skerry.task/1"}'),
            DataError,
            "'skerry.golden/1' was expected",
        ),
        (_pack(b'{"schema": "skerry.golden/1"}'), DataError, "tolerance"),
        (
            _pack(b'{"schema": "skerry.golden/1", "tolerance": 1, "samples": []}'),
            DataError,
            "expected some",
        ),
        (
            _pack(
                b'{"schema": "skerry.golden/1", "tolerance": 1, "samples": [%b]}'
                % SAMPLE
            ),
            DataError,
            "no array '0_in_0'",
        ),
    ],
)
def test_bad_files_are_refused(
    content: bytes, error: type[Exception], what: str
) -> None:
    """Each fault is an error of our tree that says what is missing."""
    with pytest.raises(error, match=what):
        parse_golden(content, name="g.npz")


def test_files_are_bounded(
    make_session: MakeSession,
    one_hot: MemorySource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that unpacks to more than allowed is refused before it is unpacked."""
    save_golden(make_golden(make_session(_twice), one_hot, 8), tmp_path / "g.npz")
    monkeypatch.setattr(golden_module, "LARGEST_FILE_BYTES", 100)
    with pytest.raises(DataError, match="expected at most 100"):
        parse_golden((tmp_path / "g.npz").read_bytes(), name="g")
    with pytest.raises(DataError):
        load_golden(tmp_path / "g.npz")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there is a DataError."""
    with pytest.raises(DataError, match="No such file"):
        load_golden(tmp_path / "none.npz")
