"""An entropy coder for bytes: asymmetric numeral systems, many of them side by side.

Range ANS (J. Duda, "Asymmetric numeral systems", 2013, section 3), interleaved as in
F. Giesen, "Interleaved entropy coders" (2014): each of `lanes` states takes every so
many symbols, all in one step of numpy. States have 32 bits and give or take 16 at a
time, probabilities 14; so a message costs its entropy and two bytes a lane.

A symbol's probabilities depend on its context, a small number that the decoder knows
before it: how large the lane's symbols were lately, or one that the caller gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PRECISION_BITS = 14
TOTAL = 1 << PRECISION_BITS
"""What the frequencies of all symbols in a context sum to."""

SYMBOLS = 256
STEPS_PER_OCTAVE = 8
LARGEST_WEIGHT = 1 + STEPS_PER_OCTAVE * PRECISION_BITS
"""Frequencies are told as logarithms, in eighths of an octave; 0 is never."""

_WEIGHTS = np.array(
    [0, *(round(2 ** (step / STEPS_PER_OCTAVE)) for step in range(LARGEST_WEIGHT))]
)
_LOWEST = 1 << 16
_WORD_BITS = 16
_WORD = (1 << _WORD_BITS) - 1
_ROOM = 32 - PRECISION_BITS

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tables:
    """The frequencies of symbols by context.

    Attributes:
        frequencies: Of each symbol, `[contexts * 256]`.
        starts: How much stands before each symbol in its context, likewise.
    """

    frequencies: Ints
    starts: Ints


def weigh(counts: Ints) -> Bytes:
    """Tell how often symbols come, a byte each.

    Args:
        counts: By context and symbol, `[contexts, 256]`.

    Returns:
        Weights of the same shape: 0 for what never comes, else one more than eight
        times the binary logarithm of the frequency.
    """
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = np.maximum(counts * TOTAL / total, 1.0)
    weights = 1 + np.rint(STEPS_PER_OCTAVE * np.log2(shares))
    return np.where(counts > 0, weights, 0).astype(np.uint8)


def make_tables(weights: Bytes) -> Tables:
    """Make frequencies of weights, the same on every machine.

    Args:
        weights: `[contexts, 256]`; in a context without any, only symbol 0 comes.

    Raises:
        ValueError: A weight is none, or there are too many symbols for their weights.
    """
    if weights.max(initial=0) > LARGEST_WEIGHT:
        raise ValueError(f"a weight is {weights.max()}")
    told = _WEIGHTS[weights]
    told[:, 0] += told.sum(axis=1) == 0
    scaled = told * TOTAL // told.sum(axis=1, keepdims=True)
    frequencies = np.where(told > 0, np.maximum(scaled, 1), 0)
    # What rounding has left over goes to the most frequent one.
    rows = np.arange(len(frequencies))
    frequencies[rows, frequencies.argmax(axis=1)] += TOTAL - frequencies.sum(axis=1)
    if frequencies.min(initial=0) < 0:
        raise ValueError("rounding took more than the most frequent symbol has")
    starts = np.cumsum(frequencies, axis=1) - frequencies
    return Tables(frequencies=frequencies.ravel(), starts=starts.ravel())


def encode(symbols: Bytes, contexts: Bytes, tables: Tables) -> tuple[Ints, bytes]:
    """Encode symbols.

    Args:
        symbols: `[steps, lanes]`, each possible in its context.
        contexts: Of each symbol, likewise.
        tables: How often they come.

    Returns:
        The states that the decoder begins with, and the words that it reads.
    """
    states = np.full(symbols.shape[1], _LOWEST, np.int64)
    words: list[NDArray[np.uint16]] = []
    for step in range(len(symbols) - 1, -1, -1):
        places = contexts[step].astype(np.int64) * SYMBOLS + symbols[step]
        frequency = tables.frequencies[places]
        full = np.flatnonzero(states >= frequency << _ROOM)
        if full.size:
            words.append((states[full] & _WORD).astype("<u2"))
            states[full] >>= _WORD_BITS
        quotient, remainder = np.divmod(states, frequency)
        states = (quotient << PRECISION_BITS) + remainder + tables.starts[places]
    return states, b"".join(word.tobytes() for word in reversed(words))


class Decoder:
    """Decodes what `encode` wrote, any number of steps at a time.

    Args:
        tables: How often symbols come.
        states: What it begins with, `[lanes]`.
        read: Gives the next words, at most so many bytes; fewer only at the end.
    """

    def __init__(
        self, tables: Tables, states: Ints, read: Callable[[int], bytes]
    ) -> None:
        self._tables = tables
        self._states = states
        self._read = read
        self._words = np.zeros(0, np.uint16)
        rows = tables.frequencies.reshape(-1, SYMBOLS)
        every = np.arange(SYMBOLS, dtype=np.uint8)
        self._symbols = np.concatenate([np.repeat(every, row) for row in rows])

    def rows(
        self, steps: int, contexts: Callable[[int], Ints], told: Callable[[Ints], None]
    ) -> Bytes:
        """Decode some steps.

        Args:
            steps: How many.
            contexts: The contexts of a step's symbols.
            told: Is given each step's symbols before the next one's contexts are asked.

        Returns:
            Symbols, `[steps, lanes]`.

        Raises:
            ValueError: The words end before.
        """
        frequencies, starts = self._tables.frequencies, self._tables.starts
        states = self._states
        found = np.empty((steps, len(states)), np.uint8)
        words, place = self._fill(steps * len(states)), 0
        for step in range(steps):
            context = contexts(step)
            slots = states & (TOTAL - 1)
            found[step] = self._symbols.take((context << PRECISION_BITS) + slots)
            symbols = found[step].astype(np.int64)
            places = context * SYMBOLS + symbols
            states = frequencies.take(places) * (states >> PRECISION_BITS)
            states += slots
            states -= starts.take(places)
            low = np.flatnonzero(states < _LOWEST)
            if low.size:
                taken = words[place : place + low.size]
                if taken.size < low.size:
                    raise ValueError("the words end before the symbols")
                states[low] = (states.take(low) << _WORD_BITS) | taken
                place += low.size
            told(symbols)
        self._states, self._words = states, words[place:]
        return found

    def _fill(self, most: int) -> NDArray[np.uint16]:
        """The next words, as many as there may be need of."""
        lacking = most - len(self._words)
        if lacking <= 0:
            return self._words
        more = np.frombuffer(self._read(2 * lacking), "<u2")
        return np.concatenate([self._words, more])
