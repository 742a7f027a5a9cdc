"""The door to `zstandard`."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Protocol, cast

from skerry.core.errors import MissingExtraError

try:
    import zstandard
except ImportError as error:
    raise MissingExtraError(error.name or "zstandard", extra="gateway") from error

LARGEST_WINDOW_LOG = 27
"""128 MiB: what a gateway can spare while it applies a delta of the first kind."""

WINDOW_LOG = 22
"""4 MiB: so much of what came before is in memory while a delta is applied."""

LARGE_BYTES = 16 << 20
"""From here on to pack as small as can be would take minutes."""

_LEVEL, _LARGE_LEVEL = 19, 9
_SMALLEST_WINDOW_LOG = 17
_SMALLEST_DICTIONARY_BYTES = 8  # zstd ignores a smaller one


class Reader(Protocol):
    """Gives what was packed, bit by bit."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes, at most so many."""
        ...


def compress(
    content: bytes, dictionary: bytes = b"", *, window_log: int = LARGEST_WINDOW_LOG
) -> bytes:
    """Pack bytes, as `zstd --patch-from` does where there is a dictionary.

    Args:
        content: What to pack.
        dictionary: What it may refer to.
        window_log: Most bytes that it may refer back to, as a binary logarithm.
    """
    size = len(content) + len(dictionary)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL if size <= LARGE_BYTES else _LARGE_LEVEL,
        # The window must reach over all of the dictionary, and find matches that far.
        window_log=min(max(size.bit_length(), _SMALLEST_WINDOW_LOG), window_log),
        enable_ldm=True,
        # Who applies it knows these from elsewhere.
        write_checksum=False,
        write_content_size=False,
    )
    compressor = zstandard.ZstdCompressor(
        compression_params=parameters, dict_data=_dictionary(dictionary)
    )
    return compressor.compress(content)


def open_packed(
    source: bytes | Callable[[int], bytes],
    dictionary: bytes = b"",
    *,
    window_log: int = LARGEST_WINDOW_LOG,
) -> Reader:
    """Unpack bytes as they are asked for; what cannot be raises ValueError.

    Args:
        source: What was packed: all of it, or what gives its next bytes, at most so
            many.
        dictionary: What it may refer to.
        window_log: Most bytes that it may refer back to, as a binary logarithm.
    """
    decompressor = zstandard.ZstdDecompressor(
        dict_data=_dictionary(dictionary), max_window_size=1 << window_log
    )
    if isinstance(source, bytes):
        return _Unpacked(decompressor.stream_reader(source))
    # All that it asks of a file is to read.
    file = cast("IO[bytes]", _Source(source))
    return _Unpacked(decompressor.stream_reader(file))


class _Source:
    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read

    def read(self, size: int) -> bytes:
        return self._read(size)


class _Unpacked:
    def __init__(self, reader: zstandard.ZstdDecompressionReader) -> None:
        self._reader = reader

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._reader.read(size)
        except (zstandard.ZstdError, MemoryError) as error:
            raise ValueError(str(error)) from error


def _dictionary(content: bytes) -> zstandard.ZstdCompressionDict | None:
    if len(content) < _SMALLEST_DICTIONARY_BYTES:
        return None
    return zstandard.ZstdCompressionDict(
        content, dict_type=zstandard.DICT_TYPE_RAWCONTENT
    )
