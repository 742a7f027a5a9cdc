"""Suggest, for an operator that loses accuracy or time, what is likely to help.

A suggestion is made only for what matters: an operator with a share of the error, or of
the time. Each rule has a test that does what it says and sees it help.
"""

from __future__ import annotations

from dataclasses import dataclass

from skerry.compress.ptq.quantize import Quantize
from skerry.compress.search.error_sources import TensorError

LEAST_ERROR = 1e-4
"""A relative squared error of the outputs that no metric notices."""

LEAST_SHARE = 0.02
"""Share of all operators' error, or of the model's time, that is worth a word."""

LEAST_MS = 0.05
"""Profilers count whole microseconds, and add some: less than this is not believed."""

SLOWER = 1.15
"""How many times as long as in float an operator must take: times of single operators
are noisy."""

MOST_UNUSED = 0.6
"""Share of the codes unused by the channels from which equalizing can help: half of a
range is easily unused where channels differ in sign."""

MOST_NOISE = 0.003
"""Share of a channel's energy that the rounding of its weights may be: 25 dB."""

HALF = 0.5
"""Part of a loss at most that must remain for a suggestion to be one."""

BYTE_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is known of one quantized operator.

    Attributes:
        error: What it adds to the outputs' relative squared error; None where that
            was not measured.
        share: Its error ÷ the sum of all operators'.
        tensors: What it reads, writes and is weighted with.
        written: That of them which it writes; None where its output stays float.
        runtime: The name of what ran it.
        fell_back: Whether it ran in float.
        before_ms: Its time in the source model; None where not known.
        after_ms: Its time in the quantized model; None where not known.
        total_ms: The time of the whole source model.
        step: How the graph was quantized; None where that is not known.
    """

    error: float | None
    share: float
    tensors: tuple[TensorError, ...]
    written: TensorError | None
    runtime: str
    fell_back: bool
    before_ms: float | None
    after_ms: float | None
    total_ms: float
    step: Quantize | None


def suggest_fix(found: Finding) -> str:
    """Say what is likely to help an operator, or nothing."""
    said = [_of_time(found), _of_accuracy(found)]
    return " ".join(words for words in said if words)


def _of_time(found: Finding) -> str:
    if found.fell_back:
        return (
            f"{found.runtime} has no integer kernel for it as it stands, and converts "
            "to float and back: keep it float."
        )
    before, after = found.before_ms, found.after_ms
    if before is None or after is None:
        return ""
    is_large = after - before > max(LEAST_SHARE * found.total_ms, LEAST_MS)
    if is_large and after > SLOWER * before:
        return (
            f"It takes {after:.3g} ms in integers and {before:.3g} ms in float: keep "
            "it float."
        )
    return ""


def _of_accuracy(found: Finding) -> str:
    if said := _of_weights(found.tensors):
        return said
    is_small = found.error is None or found.error < LEAST_ERROR
    # Weights are rounded in every run, so the error measured is not theirs.
    values = [one for one in found.tensors if one.kind == "activation"]
    if is_small or found.share < LEAST_SHARE or not values:
        return ""
    worst = max(values, key=lambda tensor: tensor.total)
    if worst.clipping > worst.rounding and worst.minmax < HALF * worst.total:
        return _of_clipping(found.step)
    if worst.wasted > MOST_UNUSED:
        return _of_waste(worst, found)
    return f"Rounding alone: {_finer(worst, found)}"


def _of_weights(tensors: tuple[TensorError, ...]) -> str:
    """Weights with one scale: their channels' own errors tell, as outputs do not."""
    for one in tensors:
        is_shared = one.kind == "weights" and not one.has_channel_scales
        if is_shared and one.wasted > MOST_UNUSED and one.rounding > MOST_NOISE:
            return (
                f"{one.wasted:.0%} of the codes of its weights are unused by a channel "
                "on average: give each channel a scale of its own (per_channel)."
            )
    return ""


def _of_clipping(step: Quantize | None) -> str:
    if step is None or step.method != "minmax":
        return "Its range cuts off too much: choose ranges by minmax."
    return (
        "Its values lie beyond those of calibration: calibrate on more samples like "
        "these."
    )


def _of_waste(worst: TensorError, found: Finding) -> str:
    where = f"{worst.wasted:.0%} of its range is unused by a channel on average"
    if worst.outlier is not None:
        where += f" (channel {worst.outlier} reaches {worst.reach:.0f} × as far)"
    if found.step is not None and found.step.equalize != "none":
        return f"{where}, equalized as it is: {_finer(worst, found)}"
    return f"{where}: equalize channels by activations."


def _finer(worst: TensorError, found: Finding) -> str:
    """Which operators to keep in float: a value is one thing to two operators."""
    other = "reads it" if worst is found.written else "makes what it reads"
    floats = f"keep it and what {other} float"
    return (
        f"{floats}." if worst.bits > BYTE_BITS else f"{floats}, or take 16-bit codes."
    )
