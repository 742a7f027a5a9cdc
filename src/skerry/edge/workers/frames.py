"""What gateway and worker tell each other of tensors, at each inference.

The bytes of the tensors lie in two segments, one for inputs and one for outputs. A
frame says of which dtypes and shapes they are, in the order of the signature:

    kind uint8, then for each tensor: dtype uint8, rank uint8, each size uint64

Frames are little-endian and travel whole (`SOCK_SEQPACKET`). They name no offsets: both
sides put each tensor at the next multiple of 64 bytes, so there is none to be believed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from mmap import mmap

import numpy as np

from skerry.core.errors import DataError, RuntimeFailure
from skerry.core.seams import Array

ALIGNMENT = 64
LARGEST_FRAME_BYTES = 65_536
MOST_AXES = 32
MOST_ELEMENTS = 1 << 30
_SIZE_BYTES = 8

DTYPES = tuple(
    np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
)
"""What can lie in shared memory; a dtype's place here is its number on the wire."""

_CODES = {dtype: code for code, dtype in enumerate(DTYPES)}

Layout = tuple[np.dtype[np.generic], tuple[int, ...]]
"""A tensor's dtype and shape."""


class Kind(IntEnum):
    """What a frame is; the last three are a worker's."""

    RUN = 1
    """The inputs lie ready: run one inference."""
    FETCH = 2
    """Put the outputs that were too large into the segment that has just come."""
    INPUTS = 3
    """The next message brings a larger segment for inputs."""
    OUTPUTS = 4
    """The next message brings a larger segment for outputs."""
    REPEAT = 5
    """The next inference is run so many times, a uint64; its last outputs count."""
    DONE = 11
    """The outputs lie ready."""
    LARGER = 12
    """The outputs do not fit; a uint64 says how many bytes they take."""
    FAILED = 13
    """There are none; an encoded `Failed` says why."""


def write_frame(kind: Kind, layouts: Iterable[Layout]) -> bytes:
    """Encode a frame of tensors.

    Raises:
        RuntimeFailure: A dtype cannot be shared, or the frame grows too long.
    """
    parts = [bytes((kind,))]
    for dtype, shape in layouts:
        code = _CODES.get(dtype)
        if code is None or len(shape) > MOST_AXES:
            raise RuntimeFailure(
                f"a tensor of {dtype} with {len(shape)} axes cannot be shared with a "
                f"worker process",
                hint="Serve the model with --isolation thread.",
            )
        parts.append(struct.pack(f"<BB{len(shape)}Q", code, len(shape), *shape))
    frame = b"".join(parts)
    if len(frame) > LARGEST_FRAME_BYTES:
        raise RuntimeFailure(
            f"a frame has {len(frame)} bytes, expected at most {LARGEST_FRAME_BYTES}",
            hint="Serve the model with --isolation thread.",
        )
    return frame


def read_frame(frame: bytes, *, count: int, room_bytes: int) -> tuple[Layout, ...]:
    """Decode a frame of tensors, from a side that need not be believed.

    Args:
        frame: The frame.
        count: How many tensors it must tell of.
        room_bytes: The size of the segment that they must lie in.

    Raises:
        DataError: It is malformed, or its tensors do not fit the segment.
    """
    layouts: list[Layout] = []
    at = 1
    for _ in range(count):
        head = frame[at : at + 2]
        if len(head) < 2 or head[0] >= len(DTYPES) or head[1] > MOST_AXES:
            raise _malformed(frame)
        at += 2
        end = at + head[1] * _SIZE_BYTES
        if end > len(frame):
            raise _malformed(frame)
        shape = struct.unpack_from(f"<{head[1]}Q", frame, at)
        # Empty tensors take no room, but numpy counts the sizes that are not 0, too.
        if math.prod(size or 1 for size in shape) > MOST_ELEMENTS:
            raise _malformed(frame)
        layouts.append((DTYPES[head[0]], shape))
        at = end
    if at != len(frame) or size_bytes(layouts) > room_bytes:
        raise _malformed(frame)
    return tuple(layouts)


def write_size(kind: Kind, needed_bytes: int) -> bytes:
    """Encode a frame of one size."""
    return struct.pack("<BQ", kind, needed_bytes)


def read_size(frame: bytes) -> int:
    """Decode a frame of one size.

    Raises:
        DataError: It is malformed.
    """
    if len(frame) != 1 + _SIZE_BYTES:
        raise _malformed(frame)
    size: int = struct.unpack_from("<Q", frame, 1)[0]
    return size


def size_bytes(layouts: Sequence[Layout]) -> int:
    """How much room tensors take in a segment."""
    return sum(_taken_bytes(layout) for layout in layouts)


def views(layouts: Sequence[Layout], memory: mmap) -> list[Array]:
    """Arrays in a segment, which must have room for them."""
    made: list[Array] = []
    offset = 0
    for dtype, shape in layouts:
        if 0 in shape:  # its place may be the segment's very end, which numpy refuses
            made.append(np.empty(shape, dtype))
        else:
            made.append(np.ndarray(shape, dtype, memory, offset))
        offset += _taken_bytes((dtype, shape))
    return made


def _taken_bytes(layout: Layout) -> int:
    dtype, shape = layout
    taken_bytes = math.prod(shape) * dtype.itemsize
    return -(-taken_bytes // ALIGNMENT) * ALIGNMENT


def _malformed(frame: bytes) -> DataError:
    return DataError(
        f"a frame of {len(frame)} bytes is malformed, or its tensors do not fit",
        hint="One side of a worker process is broken.",
    )
