"""Make a delta in a process of its own: it takes seconds, and memory.

`python -m skerry.cloud.packing OLD NEW` writes the delta to standard output, or nothing
where none is worth it. It goes on at the lowest priority, within bounds of memory and
time; the hub, its broker and its downloads never wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from pathlib import Path

from skerry.core.errors import LateError, WorkerLostError
from skerry.evolve.delta import diff, patch
from skerry.evolve.ways import WORTHWHILE

LIMIT_S = 300.0
MEMORY_BYTES = 4 << 30
_NICENESS = 19


async def pack(old: Path, new: Path, *, limit_s: float = LIMIT_S) -> bytes:
    """Make the delta of two files.

    Args:
        old: What it begins from.
        new: What it gives.
        limit_s: How long it may take.

    Returns:
        The delta; empty where none is worth it.

    Raises:
        LateError: It took too long; the process was stopped.
        WorkerLostError: The process died.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "skerry.cloud.packing",
        str(old),
        str(new),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        async with asyncio.timeout(limit_s):
            delta, _ = await child.communicate()
    except TimeoutError as error:
        raise LateError(
            f"a delta took longer than {limit_s:g} s",
            hint="Devices fetch the model in full.",
        ) from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
    if child.returncode:
        raise WorkerLostError(
            f"the process that made a delta ended with {child.returncode}",
            hint="Devices fetch the model in full.",
        )
    return delta


def pack_files(old_path: Path, new_path: Path) -> bytes:
    """The delta of two files, applied once; empty where none is worth it."""
    old, new = old_path.read_bytes(), new_path.read_bytes()
    delta = diff(old, new)
    is_right = patch(old, delta, largest_bytes=len(new)) == new
    return delta if is_right and len(delta) < WORTHWHILE * len(new) else b""


def main() -> int:
    """Make one delta; the exit code."""
    signal.alarm(round(LIMIT_S) + 1)  # should the hub die, so do we
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    sys.stdout.buffer.write(pack_files(*map(Path, sys.argv[1:3])))
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
