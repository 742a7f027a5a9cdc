"""What NVIDIA's `trtexec --exportProfile` writes: JSON, a list of layers."""

from __future__ import annotations

from typing import Any

from skerry.adapt.profiles.words import number, word
from skerry.core.errors import DataError
from skerry.core.profile import OperatorTime, Profile

_TIMES = ("medianMs", "averageMs")


def is_trtexec(document: Any) -> bool:
    """Whether a JSON document is such a list, or one of the tool's other lists."""
    if not isinstance(document, list):
        return False
    keys = {key for each in document[:2] if isinstance(each, dict) for key in each}
    return bool(keys & {"averageMs", "startComputeMs"}) or keys == {"count"}


def read_trtexec(document: Any, *, name: str) -> Profile:
    """Read the layers; the median where it is told, else the average.

    Args:
        document: The JSON.
        name: What messages call it.

    Raises:
        DataError: It is the list of whole inferences, or a time makes no sense.
    """
    layers = [each for each in document if isinstance(each, dict) and "name" in each]
    if not layers:
        raise DataError(
            f"{name} tells no times of layers",
            hint="Let trtexec write it: --exportProfile=FILE --separateProfileRun.",
        )
    counts = [each["count"] for each in document if _has_count(each)]
    repeats = number(counts[0], name=name, what="count") if counts else 0
    operators = tuple(
        OperatorTime(
            name=word(layer["name"]) or "unnamed",
            op_type="",
            latency_ms=_latency_ms(layer, name),
        )
        for layer in layers
    )
    return Profile(
        runtime="tensorrt", threads=0, repeats=int(repeats), operators=operators
    )


def _has_count(each: object) -> bool:
    return isinstance(each, dict) and "count" in each


def _latency_ms(layer: dict[str, Any], name: str) -> float:
    key = next((key for key in _TIMES if key in layer), _TIMES[-1])
    return number(layer.get(key), name=name, what=key)
