from __future__ import annotations

import mmap
import struct

import numpy as np
import pytest

from skerry.core.errors import DataError, RuntimeFailure
from skerry.edge.workers.frames import (
    DTYPES,
    Kind,
    Layout,
    read_frame,
    read_size,
    size_bytes,
    views,
    write_frame,
    write_size,
)

F32, U8 = np.dtype("float32"), np.dtype("uint8")
LAYOUTS: list[Layout] = [(F32, (2, 3)), (U8, ()), (F32, (0, 5)), (U8, (7,))]


def test_what_is_written_is_read() -> None:
    """Each dtype, scalars and empty tensors included."""
    layouts = [*LAYOUTS, *((dtype, (1, 2)) for dtype in DTYPES)]
    frame = write_frame(Kind.RUN, layouts)
    assert frame[0] == Kind.RUN
    assert read_frame(frame, count=len(layouts), room_bytes=4096) == tuple(layouts)
    assert read_size(write_size(Kind.LARGER, 1 << 40)) == 1 << 40


def test_tensors_lie_apart() -> None:
    """Each at the next multiple of 64 bytes; none writes into another."""
    assert size_bytes(LAYOUTS) == 64 + 64 + 0 + 64
    with mmap.mmap(-1, 4096) as memory:
        arrays = views(LAYOUTS, memory)
        for number, array in enumerate(arrays, start=1):
            array[...] = number
        assert [int(array.sum()) for array in arrays] == [6, 2, 0, 28]
        assert memory[64] == 2
        assert memory[128:135] == b"\x04" * 7
        del array, arrays


def test_a_full_segment_may_end_in_nothing() -> None:
    """An empty tensor behind the last byte is still one."""
    with mmap.mmap(-1, 4096) as memory:
        arrays = views([(U8, (4096,)), (F32, (0, 3))], memory)
        assert arrays[1].shape == (0, 3)
        del arrays


def tensor(code: int, *shape: int) -> bytes:
    """One tensor of a frame, however wrong."""
    return struct.pack(f"<BB{len(shape)}Q", code, len(shape), *shape)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        tensor(10, 4)[:-1],
        tensor(10, 4) + b"\0",
        tensor(10, 4) * 2,
        tensor(len(DTYPES), 4),
        tensor(10, 1025),
        tensor(10, 1 << 63),
        tensor(10, 1 << 32, 1 << 32),
        tensor(10, 0, 1 << 62),
        bytes((10, 33)) + bytes(33 * 8),
    ],
)
def test_a_frame_that_lies_is_refused(body: bytes) -> None:
    """Too short, too long, of no dtype, larger than the segment, overflowing."""
    with pytest.raises(DataError, match="malformed"):
        read_frame(b"\x0b" + body, count=1, room_bytes=4096)


def test_a_size_is_eight_bytes() -> None:
    """Nothing else is a size."""
    with pytest.raises(DataError, match="malformed"):
        read_size(b"\x0c1234")


@pytest.mark.parametrize(
    ("layouts", "what"),
    [
        ([(np.dtype("U3"), (1,))], "cannot be shared"),
        ([(U8, (1,) * 33)], "33 axes"),
        ([(U8, (1,) * 32)] * 400, "at most 65536"),
    ],
)
def test_what_no_frame_can_say(layouts: list[Layout], what: str) -> None:
    """It is refused before it is sent."""
    with pytest.raises(RuntimeFailure, match=what):
        write_frame(Kind.DONE, layouts)
