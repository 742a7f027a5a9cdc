"""A delta: the bytes that turn one blob into another.

Two codecs, the smaller result wins. `patch-from` gives the old blob to zstd as a
dictionary (as `zstd --patch-from` does): good where bytes were moved, put in or taken
out. `subtract` takes the old bytes from the new ones, one by one modulo 256, and
compresses the difference: good for retrained weights of the same layout, most of which
change a little or not at all.

A delta begins with a header: magic, codec, and size and SHA-256 of both blobs, big
endian. It is not signed itself: whoever applies one knows from signed metadata what the
result must be.

This is the door to `zstandard`; all of it is pure.
"""

from __future__ import annotations

import hashlib
import struct
from enum import IntEnum

import numpy as np

from skerry.core.errors import DataError, MissingExtraError

try:
    import zstandard
except ImportError as error:
    raise MissingExtraError(error.name or "zstandard", extra="gateway") from error

MAGIC = b"SKDELTA1"

_HEADER = struct.Struct(">8sBQQ32s32s")
_LEVEL = 19
_SMALLEST_WINDOW_LOG = 17
_LARGEST_WINDOW_LOG = 27  # 128 MiB: what a gateway can spare while it updates
_SMALLEST_DICTIONARY_BYTES = 8  # zstd ignores a smaller one


class Codec(IntEnum):
    """How a delta is written."""

    PATCH_FROM = 1
    """zstd, with the old blob as its dictionary."""
    SUBTRACT = 2
    """zstd of the bytes' differences; both blobs have the same size."""


def diff(old: bytes, new: bytes) -> bytes:
    """Write the delta that turns one blob into another.

    Args:
        old: What the device has.
        new: What it should have.

    Returns:
        The smallest of what the codecs give.
    """
    bodies = {Codec.PATCH_FROM: _compress(new, old)}
    if len(old) == len(new):
        bodies[Codec.SUBTRACT] = _compress(_subtract(new, old), b"")
    codec = min(bodies, key=lambda found: len(bodies[found]))
    header = _HEADER.pack(
        MAGIC,
        codec,
        len(old),
        len(new),
        hashlib.sha256(old).digest(),
        hashlib.sha256(new).digest(),
    )
    return header + bodies[codec]


def patch(old: bytes, delta: bytes, *, largest_bytes: int) -> bytes:
    """Apply a delta.

    Args:
        old: The blob that it starts from.
        delta: What `diff` wrote.
        largest_bytes: Most bytes that the new blob may have; nothing larger is
            unpacked, whatever the delta says.

    Returns:
        The new blob; its hash is the one in the delta's header.

    Raises:
        DataError: It is no delta, is damaged, starts from another blob, or gives more
            than allowed.
    """
    if len(delta) < _HEADER.size or not delta.startswith(MAGIC):
        raise _damaged("it is no delta of a kind that this version applies")
    _, codec, old_size, new_size, old_hash, new_hash = _HEADER.unpack_from(delta)
    if codec not in tuple(Codec):
        raise _damaged(f"its codec is {codec}, expected 1 or 2")
    if (len(old), hashlib.sha256(old).digest()) != (old_size, old_hash):
        raise _damaged(f"it starts from another blob, of {old_size} bytes")
    if new_size > largest_bytes:
        raise _damaged(f"it gives {new_size} bytes, at most {largest_bytes} expected")
    if codec == Codec.SUBTRACT and old_size != new_size:
        raise _damaged(f"it subtracts {old_size} bytes from {new_size}")
    dictionary = old if codec == Codec.PATCH_FROM else b""
    new = _decompress(delta[_HEADER.size :], dictionary, new_size)
    if codec == Codec.SUBTRACT:
        new = _add(new, old)
    if hashlib.sha256(new).digest() != new_hash:
        raise _damaged("it gives other bytes than it says")
    return new


def _compress(content: bytes, dictionary: bytes) -> bytes:
    # The window must reach back over all of the old blob, and find matches that far.
    size = len(content) + len(dictionary)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        window_log=min(
            max(size.bit_length(), _SMALLEST_WINDOW_LOG), _LARGEST_WINDOW_LOG
        ),
        enable_ldm=True,
    )
    compressor = zstandard.ZstdCompressor(
        compression_params=parameters, dict_data=_dictionary(dictionary)
    )
    return compressor.compress(content)


def _decompress(body: bytes, dictionary: bytes, size: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(
        dict_data=_dictionary(dictionary), max_window_size=1 << _LARGEST_WINDOW_LOG
    )
    try:
        # A stream, for its output is bounded by us and not by what the frame says.
        with decompressor.stream_reader(body) as reader:
            content = reader.read(size + 1)
    except (zstandard.ZstdError, MemoryError) as error:
        raise _damaged(f"it cannot be unpacked: {error}") from error
    if len(content) != size:
        raise _damaged(f"it unpacks to {len(content)} bytes or more, not to {size}")
    return content


def _dictionary(content: bytes) -> zstandard.ZstdCompressionDict | None:
    if len(content) < _SMALLEST_DICTIONARY_BYTES:
        return None
    return zstandard.ZstdCompressionDict(
        content, dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )


def _subtract(new: bytes, old: bytes) -> bytes:
    return (np.frombuffer(new, np.uint8) - np.frombuffer(old, np.uint8)).tobytes()


def _add(difference: bytes, old: bytes) -> bytes:
    parts = (np.frombuffer(difference, np.uint8), np.frombuffer(old, np.uint8))
    return (parts[0] + parts[1]).tobytes()


def _damaged(what: str) -> DataError:
    return DataError(
        f"the delta cannot be applied: {what}", hint="Fetch the whole blob instead."
    )
