from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import DataError
from skerry.core.model import TensorSpec
from skerry.core.release import Blob, Manifest, ReleaseModel
from skerry.core.schemas import Change, SchemaAdapter, Schemas
from skerry.core.seams import LoadOptions
from skerry.edge.adapters import Adapter
from skerry.graph import open_model
from skerry.runtimes import get_runtime
from tests.models import model_bytes
from tests.schemas import FROM_1, SPOKEN, changing_release, read, sent


def adapter_of(version: int, spoken: Schemas) -> Adapter | None:
    """The adapter of one of the changing releases."""
    manifest = changing_release(version).manifest
    return Adapter.between(spoken, manifest, manifest.models[0])


def single(change: Change, own: TensorSpec, other: TensorSpec) -> Adapter:
    """An adapter of one change of one input."""
    blob = Blob.of(b"x")
    model = ReleaseModel(
        target="any", runtime="null", blob=blob, inputs=(own,), outputs=(own,)
    )
    manifest = Manifest(
        name="meter",
        version=1,
        created_at_ms=0,
        models=(model,),
        golden=blob,
        task=blob,
        input_schema="2",
        input_adapters=(
            SchemaAdapter(version="1", to="2", tensors=(other,), changes=(change,)),
        ),
    )
    adapter = Adapter.between(Schemas(), manifest, model)
    assert adapter is not None
    return adapter


def test_nothing_stands_between_those_who_speak_alike() -> None:
    """So nothing is spent on it."""
    assert adapter_of(3, SPOKEN[3]) is None


def test_a_schema_without_a_way_is_refused() -> None:
    """The message names both."""
    with pytest.raises(DataError, match=r"4/2 .* 1/1"):
        adapter_of(4, SPOKEN[1])


def test_inputs_go_over_all_schemas_in_between() -> None:
    """Renamed, in another unit, interpolated, completed."""
    adapter = adapter_of(3, SPOKEN[1])
    assert adapter is not None
    made = adapter.make_inputs(sent(1))
    assert made["x"].dtype == np.float32
    np.testing.assert_allclose(made["x"], [[0.2, 0.3, 0.5, 0.6]], atol=1e-6)
    np.testing.assert_array_equal(made["bias"], [[0.0]])
    told = adapter.make_outputs({"y": np.full((1, 1), 0.4, np.float32)})
    assert {name: float(array[0, 0]) for name, array in told.items()} == (
        pytest.approx(read(1))
    )


def test_a_missing_input_is_named_as_the_producer_calls_it() -> None:
    """Not as the model does."""
    adapter = adapter_of(3, SPOKEN[1])
    assert adapter is not None
    with pytest.raises(DataError, match="'raw' is missing"):
        adapter.make_inputs({})


def test_a_default_is_as_long_as_its_neighbours() -> None:
    """A named dimension has one size in all tensors."""
    adapter = adapter_of(3, SPOKEN[2])
    assert adapter is not None
    made = adapter.make_inputs({"x": np.zeros((5, 2), np.float32)})
    assert made["bias"].shape == (5, 1)


def test_whole_numbers_are_rounded_and_kept_in_range() -> None:
    """What does not fit is clipped, not wrapped around."""
    own = TensorSpec(name="x", dtype="uint8", shape=(4,))
    other = TensorSpec(name="x", dtype="float32", shape=(4,))
    adapter = single(Change(tensor="x", factor=255.0, offset=0.4), own, other)
    made = adapter.make_inputs({"x": np.array([-1, 0, 0.5, 2], np.float32)})
    assert made["x"].tolist() == [0, 0, 128, 255]


@given(size=st.integers(1, 40), old=st.integers(1, 40))
def test_resizing_keeps_a_constant_and_the_order(size: int, old: int) -> None:
    """Whatever the sizes: interpolated values lie between their neighbours."""
    own = TensorSpec(name="x", dtype="float32", shape=(size,))
    other = TensorSpec(name="x", dtype="float32", shape=(old,))
    adapter = single(Change(tensor="x", resize=True), own, other)
    made = adapter.make_inputs({"x": np.arange(old, dtype=np.float32)})["x"]
    assert made.shape == (size,)
    assert (np.diff(made) >= -1e-5).all()
    assert made.min() >= 0
    assert made.max() <= old - 1


def test_resizing_is_that_of_onnx(tmp_path: Path) -> None:
    """`Resize` with linear and half_pixel, of pictures up and down."""
    (path := tmp_path / "resize.onnx").write_bytes(
        model_bytes(
            "net (float[1, 3, 6, 8] x) => (float[1, 3, 9, 5] y) "
            "<float[0] roi = {}, float[0] scales = {}, int64[4] sizes = {1, 3, 9, 5}>"
            '{ y = Resize<mode = "linear", coordinate_transformation_mode = '
            '"half_pixel">(x, roi, scales, sizes) }'
        )
    )
    picture = np.random.default_rng(0).random((1, 3, 6, 8), np.float32)
    session = get_runtime("onnxruntime").load(open_model(path), LoadOptions())
    expected = session.run({"x": picture})["y"]
    session.close()
    own = TensorSpec(name="x", dtype="float32", shape=(1, 3, 9, 5))
    other = TensorSpec(name="x", dtype="float32", shape=(1, 3, 6, 8))
    adapter = single(Change(tensor="x", resize=True), own, other)
    made = adapter.make_inputs({"x": picture})["x"]
    np.testing.assert_allclose(made, expected, atol=1e-5)


def test_large_tensors_are_changed_on_a_thread() -> None:
    """The answer is the same; other requests are not held up meanwhile."""
    manifest = changing_release(2).manifest
    own = replace(manifest.models[0].inputs[0], shape=(1, 400_000))
    other = replace(FROM_1.tensors[0], shape=(1, 400_000))
    change = Change(tensor="x", source="raw", factor=1 / 255)
    adapter = single(change, own, other)
    inputs = {"raw": np.full((1, 400_000), 51, np.uint8)}

    async def both() -> float:
        made = await adapter.take(inputs)
        given_back = await adapter.give(made)
        return float(given_back["x"].mean())

    assert asyncio.run(both()) == pytest.approx(0.2, rel=1e-5)
