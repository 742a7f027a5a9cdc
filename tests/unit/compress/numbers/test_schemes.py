from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skerry.compress import INT8_WEIGHTS, UINT8_ACTIVATIONS, Scheme
from skerry.core.errors import UsageError


@pytest.mark.parametrize(
    ("scheme", "qmin", "qmax", "dtype"),
    [
        (Scheme(), -128, 127, np.int8),
        (Scheme(narrow=True), -127, 127, np.int8),
        (Scheme(signed=False), 0, 255, np.uint8),
        (Scheme(signed=False, narrow=True), 1, 255, np.uint8),
        (Scheme(bits=4), -8, 7, np.int8),
        (Scheme(bits=2, signed=False), 0, 3, np.uint8),
        (Scheme(bits=9), -256, 255, np.int16),
        (Scheme(bits=16), -32768, 32767, np.int16),
        (Scheme(bits=16, signed=False), 0, 65535, np.uint16),
    ],
)
def test_codes_follow_from_bits_sign_and_narrow(
    scheme: Scheme, qmin: int, qmax: int, dtype: type
) -> None:
    """The lowest and highest code and their dtype are those of two's complement."""
    assert (scheme.qmin, scheme.qmax, scheme.dtype) == (qmin, qmax, np.dtype(dtype))


def test_presets_are_what_their_names_say() -> None:
    """The presets are the usual choices for weights and activations."""
    assert (INT8_WEIGHTS.qmin, INT8_WEIGHTS.axis, INT8_WEIGHTS.symmetric) == (
        -127,
        0,
        True,
    )
    assert (UINT8_ACTIVATIONS.qmax, UINT8_ACTIVATIONS.symmetric) == (255, False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": 1},
        {"bits": 17},
        {"bits": 8.0},
        {"bits": True},
        {"axis": 1.5},
        {"method": "variance"},
        {"percentile": 0.9999},
        {"percentile": 100.5},
        {"percentile": float("nan")},
        {"percentile": "99"},
    ],
)
def test_nonsense_is_refused_with_a_hint(wrong: dict[str, Any]) -> None:
    """A scheme that no codes can have is refused, by the name of the field."""
    with pytest.raises(UsageError, match=next(iter(wrong))) as caught:
        replace(Scheme(), **wrong)
    assert caught.value.hint


def test_mistyped_method_is_recognized() -> None:
    """The hint names the method that was meant."""
    with pytest.raises(UsageError) as caught:
        replace(Scheme(), method="percentil")  # type: ignore[arg-type]
    assert "percentile" in caught.value.hint
