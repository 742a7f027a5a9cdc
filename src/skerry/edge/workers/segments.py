"""Memory that a gateway shares with one worker process.

A segment is made by the gateway with `memfd_create(2)` and handed to its worker as a
descriptor over their socket, never by name. So nothing needs to be swept: a segment has
no name that could outlive a run in `/dev/shm`, and the kernel frees it with the last
process that has it open, however that one ended. It does not count against the 64 MB
that container engines give `/dev/shm`, either. And it is sealed: a worker that runs
damaged native code cannot shrink it under the gateway, which would die of SIGBUS.
"""

from __future__ import annotations

import fcntl
import mmap
import os

SMALLEST_BYTES = 4096


class Segment:
    """A piece of shared memory, mapped here.

    Args:
        fd: The descriptor of a memory file; the segment closes it with itself.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        try:
            self.size_bytes = os.fstat(fd).st_size
            self.memory = mmap.mmap(fd, self.size_bytes)
        except (OSError, ValueError):
            os.close(fd)
            raise

    @classmethod
    def create(cls, size_bytes: int) -> Segment:
        """Make one of at least this size, whose size nobody can change.

        Raises:
            OSError: There is no memory, or no descriptor, left.
        """
        fd = os.memfd_create("skerry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, max(size_bytes, SMALLEST_BYTES))
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        except OSError:
            os.close(fd)
            raise
        return cls(fd)

    def close(self) -> None:
        """Close the descriptor; the mapping goes with the last array that is in it."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
            del self.memory
