"""What clients send: recordings, arrays, galleries."""

from __future__ import annotations

import io
import wave
from typing import Any

import numpy as np


def wav(
    samples: list[float], *, width: int = 2, channels: int = 1, rate_hz: int = 16000
) -> bytes:
    """A WAV of PCM samples from -1 to 1."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as recording:
        recording.setparams((channels, width, rate_hz, 0, "NONE", "not compressed"))
        for sample in samples:
            most = 2 ** (8 * width - 1)
            whole = min(round(sample * most), most - 1)
            if width == 1:
                recording.writeframes(bytes([whole + 128]))
            else:
                recording.writeframes(whole.to_bytes(width, "little", signed=True))
    return stream.getvalue()


def npy(array: Any) -> bytes:
    """An array as numpy stores it."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def gallery_bytes(**arrays: Any) -> bytes:
    """An `.npz` of Ann, who looks to the right, and Bob, who looks up, twice."""
    stream = io.BytesIO()
    content: dict[str, Any] = {
        "names": np.array(["Ann", "Bob", "Bob"]),
        "vectors": np.array([[2, 0], [0, 1], [0.6, 0.8]]),
    }
    np.savez(stream, **(content | arrays))
    return stream.getvalue()
