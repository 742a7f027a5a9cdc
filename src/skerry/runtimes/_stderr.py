"""What native libraries print where nobody asked them to.

ncnn tells why it refuses a file on standard error and nowhere else, and LiteRT says
there that it has made a delegate. The first is a reason that belongs into an error, the
second belongs nowhere.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2
_MOST_BYTES = 1 << 16
_one_at_a_time = threading.Lock()


@contextmanager
def captured_stderr(talk: re.Pattern[str]) -> Iterator[list[str]]:
    """Take what is printed to standard error meanwhile, by native code too.

    The descriptor is the whole process's: lines of other threads that do not look like
    the library's are handed on afterwards. So this is for loading, never for running.

    Args:
        talk: What the beginning of a line of the library's looks like.

    Yields:
        A list that holds the library's lines once the block is left.
    """
    lines: list[str] = []
    with _one_at_a_time:
        try:
            kept = os.dup(_STDERR)
        except OSError:  # There is none, so nothing can be printed to it either.
            yield lines
            return
        with tempfile.TemporaryFile(prefix="skerry-") as caught:
            os.dup2(caught.fileno(), _STDERR)
            try:
                yield lines
            finally:
                os.dup2(kept, _STDERR)
                os.close(kept)
                caught.seek(0)
                _sort_out(caught.read(_MOST_BYTES), talk, lines)


def _sort_out(content: bytes, talk: re.Pattern[str], lines: list[str]) -> None:
    for line in content.decode(errors="replace").splitlines(keepends=True):
        if talk.match(line):
            lines.append(line.strip())
        else:
            os.write(_STDERR, line.encode())
