"""The declared steps for time series: samples in, evenly spaced windows out.

A series is rows × channels, float, one row a moment; what is missing is NaN. These
steps need numpy alone. Those of `skerry.tasks.spectra` come after them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array

LARGEST_SERIES = 1 << 24
"""Most numbers of a series, and of the windows or frames cut out of one."""

MOST_PHASES = 4096
"""Most phases of a polyphase filter: both parts of a ratio of rates are at most it."""

_HALF_WIDTH = 10
"""Zero crossings of the filter on each side of its middle."""

_KAISER_BETA = 5.0

_Floats = NDArray[np.float64]
Taper = Literal["none", "hann", "hamming"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resample:
    """Change how many samples a second a series has, without aliases.

    A polyphase filter: a sinc under a Kaiser window (β = 5), ten zero crossings to
    each side, that cuts at the lower of the two Nyquist frequencies (R. Crochiere and
    L. Rabiner, "Multirate Digital Signal Processing", 1983, chapter 4). The series is
    held at both ends, and a constant stays what it is.

    Attributes:
        to_hz: Samples a second afterwards.
        from_hz: Samples a second before; 0 where the recording says it, as a WAV does.
    """

    version: ClassVar[int] = 1

    to_hz: float
    from_hz: float = 0.0

    def __post_init__(self) -> None:
        """Refuse rates that no series has, and ratios that need too long a filter."""
        if not (0 < self.to_hz < np.inf and 0 <= self.from_hz < np.inf):
            raise UsageError(
                f"resample: got from {self.from_hz} Hz to {self.to_hz} Hz, expected "
                "numbers above 0",
                hint="Leave from_hz out where the recording says its own rate.",
            )
        if self.from_hz:
            self._ratio()

    def apply(self, array: Array) -> Array:
        """Resample, [T, C] to float32 [⌈T · to_hz / from_hz⌉, C].

        Raises:
            DataError: It is no series, nothing says its rate, or the result is too
                long.
        """
        check_series("resample", array)
        if not self.from_hz:
            raise DataError(
                "resample: nothing says how many samples a second the series has",
                hint="Set from_hz in the task, or send a WAV, which says it.",
            )
        ratio = self._ratio()
        rows = -(-len(array) * ratio.numerator // ratio.denominator)
        check_size("resample", rows, array.shape[1])
        if ratio == 1 or not len(array):
            return array.astype(np.float32)
        return _resample(array.astype(np.float64), ratio, rows)

    def _ratio(self) -> Fraction:
        # Through text: 0.1 means a tenth, not the binary fraction next to it.
        ratio = Fraction(str(self.to_hz)) / Fraction(str(self.from_hz))
        if max(ratio.numerator, ratio.denominator) > MOST_PHASES:
            raise UsageError(
                f"resample: {self.from_hz:g} Hz to {self.to_hz:g} Hz is {ratio}; "
                f"expected a ratio of numbers up to {MOST_PHASES}",
                hint="Choose a rate that shares more factors with the other one.",
            )
        return ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class GapFill:
    """Fill in what is missing, or refuse a series that lacks too much.

    Attributes:
        kind: `hold` repeats the last value known, `linear` draws a line between the
            values on both sides. At the start and the end the nearest one is held.
        largest_gap: Most values in a row, in one channel, that may be missing.
    """

    version: ClassVar[int] = 1

    kind: Literal["hold", "linear"] = "linear"
    largest_gap: int = 10

    def __post_init__(self) -> None:
        """Refuse a gap that is none."""
        if self.largest_gap < 0:
            raise UsageError(
                f"gap_fill: largest_gap is {self.largest_gap}, expected 0 or more",
                hint="It counts samples in a row.",
            )

    def apply(self, array: Array) -> Array:
        """Fill, [T, C] with values that are not finite to [T, C] without.

        Raises:
            DataError: A gap is too long, or a channel has no value at all.
        """
        check_series("gap_fill", array)
        is_there = np.isfinite(array)
        if is_there.all():
            return array
        filled = array.copy()
        for channel, known in enumerate(is_there.T):
            places = np.flatnonzero(known)
            ends = np.concatenate(([-1], places, [len(array)]))
            longest = int(np.diff(ends).max()) - 1
            if longest > self.largest_gap or not len(places):
                raise DataError(
                    f"channel {channel} lacks {longest} values in a row, expected at "
                    f"most {self.largest_gap}",
                    hint="Wait for more data, or raise largest_gap in the task.",
                )
            filled[:, channel] = self._fill(array[:, channel], places)
        return filled

    def _fill(self, column: Array, places: NDArray[np.intp]) -> Array:
        moments = np.arange(len(column))
        if self.kind == "linear":
            return np.interp(moments, places, column[places])
        last = np.searchsorted(places, moments, side="right") - 1
        return np.asarray(column[places[np.maximum(last, 0)]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Cut windows of one length out of a series.

    Tapers are the periodic ones, for spectra (F. Harris, "On the Use of Windows for
    Harmonic Analysis with the Discrete Fourier Transform", Proc. IEEE 66, 1978):
    Hann ½ − ½ cos(2πn/N), Hamming 0.54 − 0.46 cos(2πn/N).

    Attributes:
        length: Rows of a window.
        hop: Rows from the start of a window to that of the next; 0 gives one window.
        taper: What the rows of a window are multiplied by.
        keep: Whether one window is the first or the last of the series.
        pad: Whether a series that is too short gets zeros at its end; else it is
            refused.
    """

    version: ClassVar[int] = 1

    length: int
    hop: int = 0
    taper: Taper = "none"
    keep: Literal["first", "last"] = "last"
    pad: bool = False

    def __post_init__(self) -> None:
        """Refuse a length that is none."""
        if not 1 <= self.length <= LARGEST_SERIES or self.hop < 0:
            raise UsageError(
                f"window: got length {self.length} and hop {self.hop}; expected 1 to "
                f"{LARGEST_SERIES}, and 0 or more",
                hint="Both count samples.",
            )

    def apply(self, array: Array) -> Array:
        """Cut, [T, C] to [length, C], or with a hop to [windows, length, C].

        Raises:
            DataError: The series is too short, or the windows hold too many numbers.
        """
        check_series("window", array)
        if len(array) < self.length:
            array = self._padded(array)
        if not self.hop:
            is_first = self.keep == "first"
            cut = array[: self.length] if is_first else array[-self.length :]
        else:
            cut = frames_of("window", array, self.length, self.hop)
        if self.taper == "none":
            return cut
        shape = taper_of(self.taper, self.length)[:, None]
        return np.asarray(cut * shape, dtype=np.float32)

    def _padded(self, array: Array) -> Array:
        if not self.pad:
            raise DataError(
                f"the series has {len(array)} samples, the window takes {self.length}",
                hint="Send a longer one, or set pad in the task's window step.",
            )
        check_size("window", self.length, array.shape[1])
        padded = np.zeros((self.length, array.shape[1]), dtype=array.dtype)
        padded[: len(array)] = array
        return padded


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Compute (x − centre) / spread, channel by channel; the last axis has channels.

    Without numbers of its own the array gives them. A channel without spread becomes
    zeros.

    Attributes:
        by: What centre and spread are taken from the array: its mean and its standard
            deviation (`deviation`), its smallest value and the range (`range`), 0 and
            its largest magnitude (`magnitude`), or 0 and its largest value
            (`maximum`, as the reference features of MLPerf Tiny's keywords have it).
        centre: What the training had, one number or one a channel; empty where the
            array gives it.
        spread: The same; either both are given, or none.
    """

    version: ClassVar[int] = 1

    by: Literal["deviation", "range", "magnitude", "maximum"] = "deviation"
    centre: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers that would make infinities."""
        numbers = (*self.centre, *self.spread)
        is_right = bool(np.isfinite(numbers).all()) and all(self.spread)
        if not is_right or bool(self.centre) != bool(self.spread):
            raise UsageError(
                f"scale: got centre {self.centre} and spread {self.spread}; expected "
                "both or none, finite, and no spread of 0",
                hint="Give the mean and the deviation of the training data.",
            )

    def apply(self, array: Array) -> Array:
        """Scale, [..., C] of any dtype to float32 [..., C].

        Raises:
            DataError: The array holds nothing, or has another number of channels.
        """
        if not array.ndim or not array.size:
            raise DataError("scale: the array holds nothing", hint="Send samples.")
        if self.centre:
            centre, spread = np.array(self.centre), np.array(self.spread)
        else:
            centre, spread = self._measure(array.reshape(-1, array.shape[-1]))
        if {centre.size, spread.size} - {1, array.shape[-1]}:
            raise DataError(
                f"scale has {centre.size} values of centre and {spread.size} of "
                f"spread for {array.shape[-1]} channels",
                hint="Give one, or one a channel.",
            )
        moved = array.astype(np.float64) - centre
        is_flat = spread == 0
        scaled = np.where(is_flat, 0.0, moved / np.where(is_flat, 1.0, spread))
        return scaled.astype(np.float32)

    def _measure(self, rows: Array) -> tuple[_Floats, _Floats]:
        rows = rows.astype(np.float64)
        nothing = np.zeros(rows.shape[1])
        match self.by:
            case "deviation":
                return rows.mean(axis=0), rows.std(axis=0)
            case "range":
                return rows.min(axis=0), np.ptp(rows, axis=0)
            case "magnitude":
                return nothing, np.abs(rows).max(axis=0)
            case "maximum":
                return nothing, rows.max(axis=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape:
    """Give features the sizes of the model's input, a batch axis of 1 in front.

    Attributes:
        sizes: The sizes without the batch axis.
        transpose: Whether the last two axes change places first: most convolutions
            over time take channels × time.
    """

    version: ClassVar[int] = 1

    sizes: tuple[int, ...]
    transpose: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that hold nothing."""
        if min(self.sizes, default=1) < 1:
            raise UsageError(
                f"reshape: sizes are {self.sizes}, expected numbers above 0",
                hint="Give the model's own sizes, without the batch axis.",
            )

    def apply(self, array: Array) -> Array:
        """Reshape to float32 [1, *sizes].

        Raises:
            DataError: There are more or fewer numbers.
        """
        if self.transpose and array.ndim > 1:
            array = array.swapaxes(-1, -2)
        if array.size != int(np.prod(self.sizes, dtype=np.int64)):
            raise DataError(
                f"reshape: got {' × '.join(map(str, array.shape))}, expected as many "
                f"numbers as {' × '.join(map(str, self.sizes))}",
                hint="Do the steps before it fit the length of the series?",
            )
        return np.ascontiguousarray(array, dtype=np.float32).reshape(1, *self.sizes)


def check_series(step: str, array: Array) -> None:
    """Check that an array is rows × channels of numbers.

    Raises:
        DataError: It is not.
    """
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise DataError(
            f"{step} takes a series, rows × channels; got {array.dtype} "
            f"{' × '.join(map(str, array.shape)) or 'a number'}",
            hint="Put it before the steps that cut windows or compute spectra.",
        )


def check_size(step: str, *sizes: int) -> None:
    """Check that no more numbers are made than memory is for.

    Raises:
        DataError: They would be.
    """
    count = 1
    for size in sizes:
        count *= size
    if count > LARGEST_SERIES:
        raise DataError(
            f"{step} would make {count} numbers, expected at most {LARGEST_SERIES}",
            hint="Send a shorter series, or use a longer hop.",
        )


def frames_of(step: str, array: Array, length: int, hop: int) -> Array:
    """Cut overlapping frames, [T, C] to a view [frames, length, C].

    Raises:
        DataError: The series is shorter than one, or they hold too many numbers.
    """
    if len(array) < length:
        raise DataError(
            f"the series has {len(array)} samples, {step} takes at least {length}",
            hint="Send a longer one.",
        )
    count = 1 + (len(array) - length) // hop
    check_size(step, count, length, array.shape[1])
    return sliding_window_view(array, length, axis=0)[::hop].swapaxes(1, 2)


@lru_cache(maxsize=16)
def taper_of(taper: Taper, length: int) -> _Floats:
    """The periodic taper, float64 [length]; not to be written to."""
    turns = 2 * np.pi * np.arange(length) / length
    match taper:
        case "hann":
            shape = 0.5 - 0.5 * np.cos(turns)
        case "hamming":
            shape = 0.54 - 0.46 * np.cos(turns)
        case "none":
            shape = np.ones(length)
    shape.setflags(write=False)
    return shape


def _resample(series: _Floats, ratio: Fraction, rows: int) -> Array:
    """Filter phase by phase: outputs r, r + up, r + 2·up … see the same taps."""
    up, down = ratio.numerator, ratio.denominator
    taps, reach = _phases(up, down)
    after = reach + rows * down // up + 1 - len(series)
    padded = np.pad(series, ((reach, max(after, reach)), (0, 0)), mode="edge")
    views = sliding_window_view(padded, 2 * reach + 1, axis=0)
    result = np.empty((rows, series.shape[1]), dtype=np.float32)
    for phase in range(min(up, rows)):
        start = phase * down // up
        count = len(range(phase, rows, up))
        result[phase::up] = views[start::down][:count] @ taps[phase]
    return result


@lru_cache(maxsize=8)
def _phases(up: int, down: int) -> tuple[_Floats, int]:
    """The taps of each output phase, [up, 2·reach + 1], and how far they reach.

    Output m lies at m·down/up in samples of the input: tap j weighs the sample that
    is j − reach past the one at or before it. Each phase adds up to 1.
    """
    widest = max(up, down)
    reach = -(-_HALF_WIDTH * widest // up) + 1
    offsets = np.arange(-reach, reach + 1)
    past = (np.arange(up) * down % up) / up
    distance = (offsets[None] - past[:, None]) * up / widest
    share = np.clip(1 - (distance / _HALF_WIDTH) ** 2, 0, None)
    is_inside = np.abs(distance) <= _HALF_WIDTH
    kaiser = np.where(is_inside, np.i0(_KAISER_BETA * np.sqrt(share)), 0.0)
    taps = np.sinc(distance) * kaiser
    taps /= taps.sum(axis=1, keepdims=True)
    taps.setflags(write=False)
    return taps, reach
