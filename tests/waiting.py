"""A process for tests of those who start them: says where it is, then waits.

`python -m tests.waiting TOLD [deaf|broken]`
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    kind = sys.argv[2] if len(sys.argv) > 2 else ""
    if kind == "broken":
        sys.exit("it cannot start")
    if kind == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    fields = {"address": "http://127.0.0.1:1", "pid": os.getpid()}
    partial = Path(f"{sys.argv[1]}.part")
    partial.write_text(json.dumps(fields), "utf-8")
    partial.rename(sys.argv[1])
    time.sleep(120)
