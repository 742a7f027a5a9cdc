"""One plane of bytes, entropy-coded with contexts, and decoded piece by piece.

The bytes of a piece lie lane after lane, so that what comes after one another in the
file is coded after one another in a lane: its contexts follow the weights from channel
to channel. A plane is written in the way that makes it smallest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

import numpy as np

from skerry.evolve.delta.rans import (
    SYMBOLS,
    TOTAL,
    Bytes,
    Decoder,
    Ints,
    encode,
    make_tables,
    weigh,
)

MOST_LANES_LOG = 12
_STEPS_PER_LANE = 2048
_FIXED_POINT = 6
_LONGEST_MEAN = SYMBOLS << _FIXED_POINT
_FIRST_BOUND, _OCTAVES = 4, 12
_LEVELS = (0, 1, 2, 3)
_RATES = (4, 5)
_STATE_BYTES = 4
_PRICED_SYMBOLS = 1 << 22
_TABLE_BYTE_BITS = 6.0
"""About what a byte of the tables costs once they are packed."""


class Mode(IntEnum):
    """How a plane is written."""

    ZEROS = 0
    """Not at all: all of it is 0."""
    RAW = 1
    """As it is."""
    RECENT = 2
    """In the context of how large the lane's symbols were lately."""
    ABOVE = 3
    """In the context of the byte of the next higher plane."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Coding:
    """How a plane is written, and in how many bytes.

    Attributes:
        mode: The way.
        level: 0 for one context, up to 3 for many.
        rate: With `RECENT`, the binary logarithm of how many symbols are lately.
        size_bytes: Of the payload.
        weights: Of symbols by context, `[contexts, 256]`; see `rans.weigh`.
    """

    mode: Mode
    level: int = 0
    rate: int = 0
    size_bytes: int = 0
    weights: Bytes | None = None

    @property
    def contexts(self) -> int:
        """How many contexts there are."""
        if self.mode is Mode.ABOVE:
            return _above_contexts(self.level)
        return int(_recent_contexts(self.level)[-1]) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the bytes of a plane lie.

    Attributes:
        size: How many there are.
        lanes: How many are coded side by side.
        piece: How many make a piece.
    """

    size: int
    lanes: int
    piece: int

    def pieces(self) -> list[tuple[int, int]]:
        """First byte and steps of each piece."""
        return [
            (first, -(-min(self.piece, self.size - first) // self.lanes))
            for first in range(0, self.size, self.piece)
        ]

    def arrange(self, plane: Bytes) -> Bytes:
        """Lay a plane out as `[steps, lanes]`."""
        rows = []
        for first, steps in self.pieces():
            part = plane[first : first + self.piece]
            padded = np.zeros(steps * self.lanes, np.uint8)
            padded[: len(part)] = part
            rows.append(padded.reshape(self.lanes, steps).T)
        return np.concatenate(rows)


def lanes_log_of(size: int) -> int:
    """How many lanes suit so many symbols, as a binary logarithm."""
    wanted = max(size // _STEPS_PER_LANE, 1).bit_length() - 1
    return min(wanted, MOST_LANES_LOG)


def write_plane(
    plane: Bytes, above: Bytes | None, layout: Layout
) -> tuple[Coding, bytes]:
    """Write a plane in the way that takes fewest bytes.

    Args:
        plane: Its bytes.
        above: The next higher plane, or None.
        layout: How both are laid out.

    Returns:
        How, and the payload.
    """
    if not plane.any():
        return Coding(mode=Mode.ZEROS), b""
    symbols = layout.arrange(plane)
    over = None if above is None else layout.arrange(above)
    few = max(_PRICED_SYMBOLS // layout.lanes, 1)
    ways = _ways(symbols[:few], None if over is None else over[:few])
    coding = min(ways, key=lambda way: way[0])[1]
    contexts = _contexts(coding, symbols, over)
    bits, weights = _price(coding, symbols, contexts)
    if bits / 8 + _STATE_BYTES * layout.lanes >= len(plane):
        return Coding(mode=Mode.RAW, size_bytes=len(plane)), plane.tobytes()
    states, words = encode(symbols, contexts, make_tables(weights))
    payload = states.astype("<u4").tobytes() + words
    chosen = Coding(
        mode=coding.mode,
        level=coding.level,
        rate=coding.rate,
        size_bytes=len(payload),
        weights=weights,
    )
    return chosen, payload


def _ways(symbols: Bytes, over: Bytes | None) -> Iterator[tuple[float, Coding]]:
    """What each way of writing some symbols costs in bits."""
    codings = [
        Coding(mode=Mode.RECENT, level=level, rate=rate)
        for level in _LEVELS
        for rate in (_RATES if level else _RATES[:1])
    ]
    if over is not None:
        codings += [Coding(mode=Mode.ABOVE, level=level) for level in _LEVELS[1:]]
    for coding in codings:
        yield _price(coding, symbols, _contexts(coding, symbols, over))[0], coding


def _contexts(coding: Coding, symbols: Bytes, over: Bytes | None) -> Bytes:
    """The context of each symbol."""
    if over is not None and coding.mode is Mode.ABOVE:
        return np.minimum(over, _above_contexts(coding.level) - 1)
    return _recent(symbols, coding.level, coding.rate)


def _price(coding: Coding, symbols: Bytes, contexts: Bytes) -> tuple[float, Bytes]:
    """What a way costs in bits, and the weights of its symbols."""
    places = contexts.astype(np.int64) * SYMBOLS + symbols
    counts = np.bincount(places.ravel(), minlength=coding.contexts * SYMBOLS)
    weights = weigh(counts.reshape(-1, SYMBOLS))
    frequencies = make_tables(weights).frequencies
    used = counts > 0
    bits = -(counts[used] * np.log2(frequencies[used] / TOTAL)).sum()
    return float(bits + _TABLE_BYTE_BITS * np.count_nonzero(used)), weights


class PlaneReader:
    """Reads a plane that `write_plane` wrote, piece by piece.

    Args:
        coding: How it was written.
        layout: How it is laid out.
        read: Gives the payload's next bytes, at most so many; fewer only at the end.

    Raises:
        ValueError: It cannot have been written so.
    """

    def __init__(
        self, coding: Coding, layout: Layout, read: Callable[[int], bytes]
    ) -> None:
        self._coding = coding
        self._lanes = layout.lanes
        self._read = read
        self._decoder: Decoder | None = None
        self._means = np.zeros(layout.lanes, np.int64)
        if coding.weights is not None:
            states = np.frombuffer(read(_STATE_BYTES * layout.lanes), "<u4")
            if len(states) < layout.lanes:
                raise ValueError("a plane ends before its states")
            tables = make_tables(coding.weights)
            self._decoder = Decoder(tables, states.astype(np.int64), read)

    def next(self, size: int, above: Bytes | None) -> Bytes:
        """The next piece.

        Args:
            size: How many bytes it has.
            above: The same piece of the next higher plane, if there is one.

        Raises:
            ValueError: It ends too early, or cannot have been written so.
        """
        if self._decoder is None:
            return self._plain(size)
        lanes, steps = self._lanes, -(-size // self._lanes)
        if self._coding.mode is Mode.ABOVE:
            over = np.zeros(size, np.uint8) if above is None else above
            piece = Layout(size=size, lanes=lanes, piece=max(size, 1))
            most = _above_contexts(self._coding.level) - 1
            rows = np.minimum(piece.arrange(over), most).astype(np.int64)
            found = self._decoder.rows(steps, lambda step: rows[step], _nothing)
        else:
            found = self._decode_recent(self._decoder, steps)
        return found.T.ravel()[:size]

    def _plain(self, size: int) -> Bytes:
        if self._coding.mode is Mode.ZEROS:
            return np.zeros(size, np.uint8)
        found = np.frombuffer(self._read(size), np.uint8)
        if len(found) < size:
            raise ValueError("a plane ends too early")
        return found

    def _decode_recent(self, decoder: Decoder, steps: int) -> Bytes:
        numbers = _recent_contexts(self._coding.level)
        means, rate = self._means, self._coding.rate

        def told(symbols: Ints) -> None:
            change = symbols << _FIXED_POINT
            change -= means
            change >>= rate
            np.add(means, change, out=means)

        return decoder.rows(steps, lambda _: numbers.take(means), told)


def _nothing(_: Ints) -> None:
    """Symbols that no context depends on."""


def _recent(symbols: Bytes, level: int, rate: int) -> Bytes:
    """The context of each symbol by those before it in its lane."""
    contexts = np.zeros(symbols.shape, np.uint8)
    if not level:
        return contexts
    numbers = _recent_contexts(level).astype(np.uint8)
    means = np.zeros(symbols.shape[1], np.int64)
    for step, row in enumerate(symbols.astype(np.int64) << _FIXED_POINT):
        contexts[step] = numbers[means]
        means += (row - means) >> rate
    return contexts


@cache
def _recent_contexts(level: int) -> Ints:
    """The context by the mean of the symbols lately, in 64ths."""
    means = np.arange(_LONGEST_MEAN)
    if not level:
        return np.zeros(_LONGEST_MEAN, np.int64)
    per_octave = 2.0 ** (level - 2)
    steps = np.arange(int(_OCTAVES * per_octave) + 1)
    bounds = np.rint(_FIRST_BOUND * 2.0 ** (steps / per_octave))
    return np.searchsorted(bounds, means, side="right").astype(np.int64)


def _above_contexts(level: int) -> int:
    return int(2 ** (2 * level - 1)) if level else 1
