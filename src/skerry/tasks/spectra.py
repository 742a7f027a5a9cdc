"""The declared steps that turn a time series into features of its spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Array
from skerry.tasks.series import (
    LARGEST_SERIES,
    check_series,
    check_size,
    frames_of,
    taper_of,
)

_Floats = NDArray[np.float64]
MelScale = Literal["htk", "slaney"]

LARGEST_FFT = 1 << 20
"""Most points of a transform, and most mel bands times bins of a filter bank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fft:
    """Compute the one-sided spectrum of a series or of each of its windows.

    With `amplitude` a sine of amplitude A on a bin gives the magnitude A, a constant
    its own; the powers are mean squares and add up to that of the series (Parseval).
    With `none` they are |X| and |X|² as numpy's `rfft` has them. A taper makes both
    smaller by its mean, or its mean square.

    Attributes:
        kind: What is told of each bin.
        size: Points of the transform, the series filled with zeros; 0 is its length.
        scaling: What the numbers are divided by.
    """

    version: ClassVar[int] = 1

    kind: Literal["magnitude", "power"] = "magnitude"
    size: int = 0
    scaling: Literal["amplitude", "none"] = "amplitude"

    def __post_init__(self) -> None:
        """Refuse a size that is none."""
        if not 0 <= self.size <= LARGEST_FFT:
            raise UsageError(
                f"fft: size is {self.size}, expected 0 to {LARGEST_FFT}",
                hint="0 takes the length of the series.",
            )

    def apply(self, array: Array) -> Array:
        """Transform, [..., T, C] to float32 [..., size // 2 + 1, C].

        Raises:
            DataError: There is no axis of time, or more rows than points.
        """
        rows = _rows_of("fft", array)
        size = self.size or rows
        if size < rows:
            raise DataError(
                f"fft: the series has {rows} samples, the transform {size} points",
                hint="Put a window before it, or raise its size.",
            )
        check_size("fft", array.size // rows, size)
        magnitude = np.abs(np.fft.rfft(array, n=size, axis=-2))
        if self.scaling == "none":
            found = magnitude if self.kind == "magnitude" else magnitude**2
        elif self.kind == "magnitude":
            found = magnitude * _sides(size)[:, None] / rows
        else:
            found = magnitude**2 * _sides(size)[:, None] / (rows * size)
        return found.astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class BandEnergies:
    """Compute how strong a series is in bands of frequencies: its mean square in each.

    By Parseval's theorem the bands of a whole partition add up to the mean square.

    Attributes:
        rate_hz: Samples a second.
        bands_hz: From where, included, to where, not included; half the rate is.
        log: Whether they are told in decibels, 10 · log₁₀(x + floor).
        floor: What keeps silence finite.
    """

    version: ClassVar[int] = 1

    rate_hz: float
    bands_hz: tuple[tuple[float, float], ...]
    log: bool = False
    floor: float = 1e-12

    def __post_init__(self) -> None:
        """Refuse bands that no series of this rate has."""
        _check_rate("band_energies", self.rate_hz)
        is_right = bool(self.bands_hz) and 0 < self.floor < np.inf
        for low, high in self.bands_hz:
            is_right &= 0 <= low < high <= self.rate_hz / 2
        if not is_right:
            raise UsageError(
                f"band_energies: got bands {self.bands_hz} and floor {self.floor}; "
                f"expected 0 ≤ low < high ≤ {self.rate_hz / 2:g} Hz, floor above 0",
                hint="Use bands_hz = [[0, 100], [100, 1000]].",
            )

    def apply(self, array: Array) -> Array:
        """Sum up, [..., T, C] to float32 [..., bands, C].

        Raises:
            DataError: There is no axis of time, or too few rows to tell a band apart.
        """
        rows = _rows_of("band_energies", array)
        power = np.abs(np.fft.rfft(array, axis=-2)) ** 2
        power *= _sides(rows)[:, None] / rows**2
        # This way round the last one is half the rate to the last bit.
        places = np.arange(rows // 2 + 1) * self.rate_hz / rows
        sums = []
        for low, high in self.bands_hz:
            is_in = (places >= low) & (places < high)
            if high == self.rate_hz / 2:
                is_in |= places == high
            if not is_in.any():
                raise DataError(
                    f"{rows} samples tell frequencies {self.rate_hz / rows:g} Hz apart "
                    f"and none from {low:g} to {high:g} Hz",
                    hint="Send a longer series, or use wider bands.",
                )
            sums.append(power[..., is_in, :].sum(axis=-2))
        energies = np.stack(sums, axis=-2)
        if self.log:
            energies = 10 * np.log10(energies + self.floor)
        return energies.astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mfcc:
    """Compute mel-frequency cepstral coefficients of one channel.

    Frames under a periodic Hann taper, their spectrum, triangular mel bands, the
    logarithm, a DCT-II (S. Davis and P. Mermelstein, "Comparison of Parametric
    Representations for Monosyllabic Word Recognition", IEEE ASSP 28, 1980). There are
    two usages of the parts, and nets are trained with either:

    - `htk` ("The HTK Book", 5.4–5.6; `tf.signal`): 1127 · ln(1 + f/700) mel, triangles
      of height 1 drawn in mel, a DCT times √(2/bands).
    - `slaney` (M. Slaney, "Auditory Toolbox", 1998; librosa): linear to 1 kHz and
      logarithmic above, triangles of area 1 drawn in Hz, an orthonormal DCT.

    The features of MLPerf Tiny's keywords, 49 × 10 out of 1 s at 16 kHz: `frame = 480,
    hop = 320, mels = 40, coefficients = 10, low_hz = 20, high_hz = 4000`.

    Attributes:
        rate_hz: Samples a second.
        frame: Samples of a frame.
        hop: Samples from a frame to the next.
        size: Points of the transform; 0 is the next power of 2 from the frame on.
        mels: Mel bands.
        coefficients: How many are kept; 0 keeps the logarithms of all bands instead.
        low_hz: Where the lowest band begins.
        high_hz: Where the highest band ends; 0 is half the rate.
        scale: Which of the usages.
        power: 1 for bands of magnitudes, 2 for bands of powers.
        log: ln(x + floor), or 10 · log₁₀(x + floor) for `db`.
        floor: What keeps silence finite.
    """

    version: ClassVar[int] = 1

    rate_hz: float
    frame: int
    hop: int
    size: int = 0
    mels: int = 40
    coefficients: int = 13
    low_hz: float = 20.0
    high_hz: float = 0.0
    scale: MelScale = "htk"
    power: Literal[1, 2] = 1
    log: Literal["natural", "db"] = "natural"
    floor: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse frames and bands that make no spectrum."""
        _check_rate("mfcc", self.rate_hz)
        size, high_hz = self.points, self.highest_hz
        is_right = 1 <= self.frame <= size <= LARGEST_FFT and self.hop >= 1
        is_right &= 1 <= self.mels <= size and self.mels * size <= LARGEST_SERIES
        is_right &= 0 <= self.coefficients <= self.mels
        is_right &= 0 <= self.low_hz < high_hz <= self.rate_hz / 2
        if not is_right or not 0 < self.floor < np.inf:
            raise UsageError(
                f"mfcc: got frame {self.frame}, hop {self.hop}, size {size}, mels "
                f"{self.mels}, coefficients {self.coefficients}, {self.low_hz} to "
                f"{high_hz} Hz, floor {self.floor}; expected frame ≤ size, "
                "coefficients ≤ mels ≤ size, low < high ≤ half the rate, floor > 0",
                hint="Speech at 16 kHz: frame = 480, hop = 320, mels = 40.",
            )

    def apply(self, array: Array) -> Array:
        """Compute, [T, 1] to float32 [1 + (T − frame) // hop, coefficients].

        Raises:
            DataError: It is no series of one channel, too short, or too long.
        """
        check_series("mfcc", array)
        if array.shape[1] != 1:
            raise DataError(
                f"mfcc takes one channel, got {array.shape[1]}",
                hint="Send a recording of one microphone.",
            )
        frames = frames_of("mfcc", array, self.frame, self.hop)[:, :, 0]
        check_size("mfcc", len(frames), self.points)
        tapered = frames * taper_of("hann", self.frame)
        spectrum = np.abs(np.fft.rfft(tapered, n=self.points))
        bands = spectrum**self.power @ mel_bank(self) + self.floor
        told = np.log(bands) if self.log == "natural" else 10 * np.log10(bands)
        if self.coefficients:
            told = told @ _cosines(self.scale, self.mels)[:, : self.coefficients]
        return np.asarray(told, dtype=np.float32)

    @property
    def points(self) -> int:
        """Points of the transform."""
        return self.size or 1 << max(self.frame - 1, 0).bit_length()

    @property
    def highest_hz(self) -> float:
        """Where the highest band ends."""
        return self.high_hz or self.rate_hz / 2


@lru_cache(maxsize=8)
def mel_bank(step: Mfcc) -> _Floats:
    """The triangular filters of a step, [size // 2 + 1, mels]; not to be written to.

    Each begins and ends in the middle of its neighbours.
    """
    places: _Floats = np.fft.rfftfreq(step.points, 1 / step.rate_hz).astype(np.float64)
    ends = to_mel(np.array([step.low_hz, step.highest_hz]), step.scale)
    steps = np.arange(step.mels + 2) / (step.mels + 1)
    edges: _Floats = ends[0] + (ends[1] - ends[0]) * steps
    if step.scale == "htk":
        places = to_mel(places, step.scale)
    else:
        edges = _to_hz_slaney(edges)
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (places[:, None] - left) / (middle - left)
    falling = (right - places[:, None]) / (right - middle)
    bank: _Floats = np.clip(np.minimum(rising, falling), 0, None)
    if step.scale == "htk":
        bank[0] = 0  # a constant is no tone, as `tf.signal` has it
    else:
        bank *= 2 / (right - left)
    bank.setflags(write=False)
    return bank


_SLANEY_LINEAR_HZ = 1000.0
_SLANEY_HZ_A_MEL = 200 / 3
_SLANEY_LOG_STEP = np.log(6.4) / 27


def to_mel(frequencies_hz: _Floats, scale: MelScale) -> _Floats:
    """Turn frequencies into mel, as `Mfcc` tells."""
    if scale == "htk":
        return np.asarray(1127 * np.log1p(frequencies_hz / 700))
    octaves = np.log(np.maximum(frequencies_hz, _SLANEY_LINEAR_HZ) / _SLANEY_LINEAR_HZ)
    linear = np.minimum(frequencies_hz, _SLANEY_LINEAR_HZ) / _SLANEY_HZ_A_MEL
    return np.asarray(linear + octaves / _SLANEY_LOG_STEP)


def _to_hz_slaney(mels: _Floats) -> _Floats:
    bend = _SLANEY_LINEAR_HZ / _SLANEY_HZ_A_MEL
    linear = np.minimum(mels, bend) * _SLANEY_HZ_A_MEL
    return np.asarray(linear * np.exp(_SLANEY_LOG_STEP * np.clip(mels - bend, 0, None)))


@lru_cache(maxsize=8)
def _cosines(scale: MelScale, bands: int) -> _Floats:
    """The DCT-II, [bands, coefficients]."""
    middles = np.arange(bands)[:, None] + 0.5
    table = np.cos(np.pi / bands * middles * np.arange(bands)) * np.sqrt(2 / bands)
    if scale == "slaney":
        table[:, 0] *= np.sqrt(0.5)
    table.setflags(write=False)
    return np.asarray(table)


def _sides(size: int) -> _Floats:
    """How often a bin of the one-sided spectrum is in the whole one."""
    counts = np.full(size // 2 + 1, 2.0)
    counts[0] = 1
    if size % 2 == 0:
        counts[-1] = 1
    return counts


def _rows_of(step: str, array: Array) -> int:
    if array.ndim < 2 or not array.size or array.dtype.kind not in "fiu":
        raise DataError(
            f"{step} takes rows × channels; got {array.dtype} "
            f"{' × '.join(map(str, array.shape)) or 'a number'}",
            hint="Put it right after the steps that cut windows.",
        )
    check_size(step, array.size)
    return int(array.shape[-2])


def _check_rate(step: str, rate_hz: float) -> None:
    if not 0 < rate_hz < np.inf:
        raise UsageError(
            f"{step}: rate_hz is {rate_hz}, expected above 0",
            hint="It is samples a second.",
        )
