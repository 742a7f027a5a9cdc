"""An outbox whose process is killed while it puts."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from skerry.comms.outbox import Outbox

pytestmark = pytest.mark.system

PUT = """
import sys
from pathlib import Path
from skerry.comms.outbox import Outbox

outbox = Outbox(Path(sys.argv[1]))
while True:
    number = outbox.put("event", {"n": outbox.depth}, sent_at_ms=0)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_killed_process_loses_nothing_that_was_put(tmp_path: Path) -> None:
    """Each number that it told is there, in order, after SIGKILL, four times."""
    path, told = tmp_path / "outbox", 0
    for round_ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", PUT, path], stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                told = int(line)
                if told >= 25 * (round_ + 1):
                    process.kill()
                    break
            told = max([told, *map(int, process.stdout.read().split())])
        with closing(Outbox(path)) as outbox:
            kept = [entry.seq for entry in outbox.after(0, 10_000)]
        assert kept == list(range(1, len(kept) + 1))
        assert len(kept) >= told
