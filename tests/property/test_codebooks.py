from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skerry.compress import Method, Scheme, choose_range, quantize_tensor
from skerry.compress.numbers.arrays import along_axis
from skerry.compress.numbers.codebooks import CodebookKind, encode, pack, unpack
from skerry.core.seams import Array

numbers = st.floats(-1e6, 1e6, width=32)
arrays = hnp.arrays(
    np.float32, hnp.array_shapes(max_dims=3, max_side=20), elements=numbers
)
kinds = st.sampled_from(["kmeans", "power-of-two"])


@given(hnp.arrays(np.uint8, st.integers(1, 99), elements=st.integers(0, 15)))
def test_packed_codes_come_back(codes: Array) -> None:
    """Packing takes half the bytes, rounded up, and loses nothing."""
    packed = pack(codes)
    assert packed.size == (codes.size + 1) // 2
    assert np.array_equal(unpack(packed, codes.size), codes)


@given(arrays, kinds, st.sampled_from([None, 0]))
def test_each_number_becomes_the_nearest_entry(
    values: Array, kind: CodebookKind, axis: int | None
) -> None:
    """No entry of its channel is nearer than the one coded, up to float32."""
    coded = encode(values, kind=kind, axis=axis)
    scale = along_axis(coded.scale, values, axis)
    entries = coded.entries * scale[..., None]
    least = np.abs(values[..., None].astype(np.float64) - entries).min(axis=-1)
    got = np.abs(values.astype(np.float64) - coded.decode())
    assert np.all(got <= least + 1e-5 * np.abs(values) + 1e-30)


@given(arrays)
def test_codes_are_within_the_table_and_their_width(values: Array) -> None:
    """Four bits suffice, and entries ascend."""
    coded = encode(values)
    assert coded.codes.max() < len(coded.entries) <= 16
    assert np.all(np.diff(coded.entries) > 0)


schemes = st.builds(
    Scheme, bits=st.integers(2, 16), signed=st.booleans(), symmetric=st.booleans()
)


@given(arrays, schemes)
def test_entropy_only_ever_narrows(values: Array, scheme: Scheme) -> None:
    """Its range lies within that of all numbers; few are outside."""
    whole = choose_range(values, scheme)
    chosen = choose_range(values, replace(scheme, method="entropy"))
    assert whole.low <= chosen.low <= chosen.high <= whole.high
    outside = (values < chosen.low) | (values > chosen.high)
    assert np.count_nonzero(outside) <= 0.01 * values.size + 1


@given(arrays, schemes, st.sampled_from(["minmax", "percentile", "mse", "entropy"]))
def test_no_number_inside_is_more_than_half_a_step_off(
    values: Array, scheme: Scheme, method: Method
) -> None:
    """Whatever the method, the width and the symmetry, within the codes' reach."""
    quantized = quantize_tensor(values, replace(scheme, method=method))
    step = float(quantized.scale)
    ends = np.array([scheme.qmin, scheme.qmax]) - int(quantized.zero_point)
    low, high = ends * step
    inside = values[(values >= low) & (values <= high)]
    off = np.abs(inside - quantized.dequantize()[(values >= low) & (values <= high)])
    # Dividing and multiplying in float32 each round once more.
    assert np.all(off <= step / 2 + 3e-7 * np.abs(inside))


@given(arrays, schemes)
def test_one_more_bit_halves_the_most_that_is_lost(
    values: Array, scheme: Scheme
) -> None:
    """Over the whole range all are within half a step, and steps shrink with bits."""
    quantized = quantize_tensor(values, scheme)
    step = float(quantized.scale)
    off = np.abs(values.astype(np.float64) - quantized.dequantize())
    assert off.max() <= step / 2 * (1 + 1e-4) + 3e-7 * np.abs(values).max()
    if scheme.bits < 16 and values.any():
        finer = quantize_tensor(values, replace(scheme, bits=scheme.bits + 1))
        assert float(finer.scale) <= step / 2 + 1e-37
