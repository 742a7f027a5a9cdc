"""What a camera gives, and what is known of it: between who senses and who looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""Rows × columns × 3, RGB."""


class Attention(StrEnum):
    """How closely a camera is watched, which is what its decoding costs."""

    FULL = "full"
    """Each picture is decoded."""
    IDLE = "idle"
    """Only pictures that stand alone, and one whose packet is of unusual size."""


class CameraState(StrEnum):
    """Where a camera stands."""

    WAITING = "waiting"
    """Not tried yet, or to be tried again."""
    LIVE = "live"
    ENDED = "ended"
    """A recording that is not repeated was played."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraHealth:
    """How a camera does.

    Attributes:
        state: Where it stands.
        reason: Why it last failed, or what it last did that it should not; empty where
            there was nothing.
        packets: How many pictures came, decoded or not.
        shots: How many were decoded and given.
        shed: How many came too late, or beyond what it may cost, and were passed over.
        bad: How many could not be decoded.
        lies: How often its timestamps were not believed.
        reconnects: How often it was opened again.
        decode_s: Seconds of decoding.
    """

    state: CameraState = CameraState.WAITING
    reason: str = ""
    packets: int = 0
    shots: int = 0
    shed: int = 0
    bad: int = 0
    lies: int = 0
    reconnects: int = 0
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shot:
    """One picture of a camera.

    Attributes:
        camera: The camera's name.
        number: Counts from 0 in its camera.
        captured_s: When it was taken, on the clock's `wall_s`.
        captured_at_ms: The same, milliseconds since 1970.
        size_bytes: Of what was sent for it.
        luma: Its brightness, rows × columns; read, never written.
        to_rgb: Converts it, which costs more than decoding brightness alone; it may be
            called from any thread.
        to_size: Converts it to so many rows and columns, which costs less than to
            convert and then to resize; likewise.
    """

    camera: str
    number: int
    captured_s: float
    captured_at_ms: int
    size_bytes: int
    luma: NDArray[np.uint8]
    to_rgb: Callable[[], Picture]
    to_size: Callable[[int, int], Picture]
