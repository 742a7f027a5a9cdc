from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.compress import INT8_WEIGHTS, quantize_tensor
from skerry.compress.numbers.ranges import Range
from skerry.compress.ptq.quantize import Measured
from skerry.compress.search.cache import Cache, fingerprint
from skerry.compress.search.stored import decode_measured, encode_measured
from skerry.core.model import Model
from skerry.graph import parse_graph, write_graph
from skerry.tasks.samples import MemorySource, Sample
from tests import models

KEY = {"model": "ab", "limit": 0.5, "names": ["x"]}
SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache, whose folder is not there yet."""
    return Cache(tmp_path / "cache")


def entry(tmp_path: Path) -> Path:
    """The only entry of the cache."""
    (path,) = (tmp_path / "cache").iterdir()
    return path


def test_what_was_kept_is_found(cache: Cache) -> None:
    """Under the same key and kind, and no other."""
    assert cache.get("score", KEY) is None
    cache.put("score", KEY, b"content")
    assert cache.get("score", dict(reversed(KEY.items()))) == b"content"
    assert cache.get("latency", KEY) is None
    assert cache.get("score", {**KEY, "limit": 0.6}) is None
    assert (cache.hits, cache.misses) == (1, 3)


def test_without_a_folder_nothing_is_kept() -> None:
    """And nothing fails."""
    cache = Cache(None)
    cache.put("score", KEY, b"content")
    assert cache.get("score", KEY) is None
    assert not cache.is_kept


@SAME_FOLDER
@given(garbage=st.binary(max_size=200))
def test_garbage_is_not_found(garbage: bytes, tmp_path: Path, cache: Cache) -> None:
    """Whatever stands in the place of an entry, it is not believed."""
    cache.put("score", KEY, b"content")
    entry(tmp_path).write_bytes(garbage)
    assert cache.get("score", KEY) is None
    cache.put("score", KEY, b"content")
    assert cache.get("score", KEY) == b"content"


@SAME_FOLDER
@given(cut=st.integers(0, 38))
def test_a_half_written_entry_is_not_found(
    cut: int, tmp_path: Path, cache: Cache
) -> None:
    """An entry cut short anywhere is made anew."""
    cache.put("score", KEY, b"content")
    path = entry(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    assert cache.get("score", KEY) is None


def test_a_folder_in_place_of_an_entry_is_not_found(
    tmp_path: Path, cache: Cache
) -> None:
    """Not even that stops a search from reading."""
    cache.put("score", KEY, b"content")
    path = entry(tmp_path)
    path.unlink()
    path.mkdir()
    assert cache.get("score", KEY) is None


def test_a_model_is_made_once(tmp_path: Path, cache: Cache) -> None:
    """A second look finds the file; one that was changed is made anew."""
    graph, made = parse_graph(models.mlp()), []

    def make(path: Path) -> Model:
        made.append(path)
        return write_graph(graph, path)

    first = cache.model(KEY, make, tmp_path / "m.onnx")
    assert cache.model(KEY, make, tmp_path / "m.onnx").sha256 == first.sha256
    assert len(made) == 1
    first.path.write_bytes(b"garbage")
    assert cache.model(KEY, make, tmp_path / "m.onnx").sha256 == first.sha256
    first.path.write_bytes(models.mlp(seed=5))
    assert cache.model(KEY, make, tmp_path / "m.onnx").sha256 == first.sha256
    assert len(made) == 3
    first.path.unlink()
    assert cache.model(KEY, make, tmp_path / "m.onnx").sha256 == first.sha256
    bare = Cache(None).model(KEY, make, tmp_path / "m.onnx")
    assert bare.path == tmp_path / "m.onnx"


def test_samples_are_told_apart() -> None:
    """Another value, shape, type, label or order is another fingerprint."""
    sample = Sample(inputs={"x": np.zeros((1, 4), np.float32)}, label=1, name="a")
    other = replace(sample, inputs={"x": np.ones((1, 4), np.float32)})
    sources = [
        (sample,),
        (other,),
        (sample, other),
        (other, sample),
        (replace(sample, label=2),),
        (replace(sample, label="1"),),
        (replace(sample, inputs={"x": np.zeros((1, 2, 2), np.float32)}),),
        (replace(sample, inputs={"x": np.zeros((1, 4), np.int32)}),),
    ]
    found = [fingerprint(MemorySource(samples=samples)) for samples in sources]
    assert len(set(found)) == len(sources)
    again = fingerprint(MemorySource(samples=(replace(sample, name="b"),)))
    assert again == found[0]


def measured() -> Measured:
    """Ranges, shifts and codes."""
    weights = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
    scheme = replace(INT8_WEIGHTS, axis=0)
    return Measured(
        ranges={"x": Range(low=-1.0, high=2.0), "ü/0": Range(low=0.0, high=6.5)},
        shifts={"conv": np.array([0.25, -1.5])},
        codes={"conv": quantize_tensor(weights, scheme)},
    )


def test_measurements_come_back_to_the_last_bit() -> None:
    """Ranges, shifts and codes are those that were kept, of the same types."""
    before = measured()
    after = decode_measured(encode_measured(before))
    assert after is not None
    assert list(after.ranges) == list(before.ranges)
    for name, one in before.ranges.items():
        assert (after.ranges[name].low, after.ranges[name].high) == (one.low, one.high)
    assert after.shifts["conv"].tolist() == [0.25, -1.5]
    codes, old = after.codes["conv"], before.codes["conv"]
    assert codes.scheme == old.scheme
    for part in ("values", "scale", "zero_point"):
        one, other = getattr(codes, part), getattr(old, part)
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


@given(garbage=st.binary(max_size=300))
def test_garbage_is_no_measurement(garbage: bytes) -> None:
    """Bytes that are something else are refused quietly."""
    assert decode_measured(garbage) is None


@given(at=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_a_flipped_byte_never_raises(at: int, flip: int) -> None:
    """A damaged measurement is refused, or is one; it never stops a search."""
    content = bytearray(encode_measured(measured()))
    content[at % len(content)] ^= flip
    assert isinstance(decode_measured(bytes(content)), Measured | None)
