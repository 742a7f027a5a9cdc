"""What applying a delta costs a device: CPU time and memory, in a process of its own.

`python -m benchmarks._delta_device OLD DELTA NEW` applies it; without arguments it does
what any process does that has numpy imported, which is what memory is compared with.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np


def main() -> None:
    """Apply a delta, or nothing, and print what it cost as JSON."""
    took_s = 0.0
    if len(sys.argv) > 1:
        from skerry.core.release import Blob
        from skerry.edge.patching import patch_file
        from skerry.edge.vault import CLEAR

        old, delta, new = map(Path, sys.argv[1:4])
        wanted = Blob(sha256=sys.argv[4], size_bytes=int(sys.argv[5]))
        began = time.process_time()
        patch_file(CLEAR, old, delta, new, wanted)
        took_s = time.process_time() - began
    figures = {"cpu_s": took_s, "peak_kb": _peak_kb(), "numpy": np.__version__}
    print(json.dumps(figures))


def _peak_kb() -> int:
    """The most memory that this process has had; `getrusage` counts its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
