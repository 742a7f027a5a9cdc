"""What the field sends and what a release carries: read whole, or refused."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.cloud.samples import decode_inputs
from skerry.core.clock import FakeClock
from skerry.core.errors import DataError, UsageError
from skerry.device.replay import ReplaySource
from skerry.evolve.drift import DriftWatch, Observation, read_reference
from skerry.evolve.sampling import read_settings
from tests.strategies import damaged
from tests.unit.cloud.test_samples import PICTURE, packed

DRIFT = (Path(__file__).parents[1] / "golden" / "drift-1.npz").read_bytes()
INPUTS = msgspec.json.encode({"x": packed(PICTURE), "y": packed(PICTURE[0])})

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def _recording() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x=np.ones((3, 4), np.float32), label=np.arange(3))
    return stream.getvalue()


@given(content=damaged((DRIFT,)) | st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_a_damaged_drift_reference_is_refused_or_works(content: bytes) -> None:
    """It never makes the watch fail on a frame."""
    try:
        reference = read_reference(content)
    except DataError:
        return
    size = reference.means.shape[1]
    verdict = DriftWatch(reference).update(
        Observation(embedding=np.ones(size, np.float32), confidence=0.5, label=1)
    )
    assert verdict.seen == 1


@given(content=damaged((INPUTS,)))
@settings(max_examples=200, deadline=None)
def test_damaged_inputs_are_refused_or_arrays(content: bytes) -> None:
    """What is read has the dtype and the shape that it says."""
    try:
        inputs = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    _decode(inputs)


@given(inputs=JSON)
@settings(max_examples=100, deadline=None)
def test_any_json_is_refused_or_inputs(inputs: object) -> None:
    """Nothing but a DataError comes out of it."""
    _decode(inputs)


def _decode(inputs: Any) -> None:
    try:
        arrays = decode_inputs(inputs)
    except DataError:
        return
    for name, array in arrays.items():
        assert array.dtype.name == inputs[name]["dtype"]
        assert list(array.shape) == inputs[name]["shape"]


@given(collect=JSON | st.fixed_dictionaries({"most": JSON, "window_frames": JSON}))
@settings(max_examples=100, deadline=None)
def test_any_settings_are_refused_or_sane(collect: Any) -> None:
    """A shadow's `collect` may be anything."""
    try:
        read = read_settings(collect)
    except UsageError:
        return
    assert 1 <= read.per_window <= read.window_frames


@given(content=damaged((_recording(),)))
@settings(max_examples=40, deadline=None)
def test_a_damaged_recording_is_passed_over(content: bytes) -> None:
    """After it, at the latest, comes the next one."""

    async def main(folder: Path) -> None:
        clock = FakeClock()
        stream = ReplaySource(folder, frames_per_s=10, clock=clock).frames()
        names: list[str] = []
        while "b.npz" not in names:
            waiting = asyncio.ensure_future(anext(stream))
            while not waiting.done():
                await asyncio.sleep(0.0005)
                clock.advance(wall_s=1.0)
            names.append(waiting.result().notes["recording"])
            assert len(names) < 2000
        await stream.aclose()

    with TemporaryDirectory() as name:
        (Path(name) / "a.npz").write_bytes(content)
        (Path(name) / "b.npz").write_bytes(_recording())
        asyncio.run(main(Path(name)))
