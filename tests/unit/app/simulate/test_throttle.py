from __future__ import annotations

import os
import subprocess
import sys

import pytest

from skerry.app.simulate.throttle import CpuLimit
from skerry.core.errors import StateError, UsageError


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2, float("nan")])
def test_a_fraction_lies_between_nothing_and_all(fraction: float) -> None:
    """What would stop a process for ever, or never, is refused."""
    with pytest.raises(UsageError, match="above 0 and below 1"):
        CpuLimit(12345, fraction)


@pytest.mark.parametrize("pid", [-1, 0, 1, pytest.param(os.getpid(), id="own")])
def test_some_processes_are_left_alone(pid: int) -> None:
    """The system's first, groups of processes, and this one."""
    with pytest.raises(UsageError, match="cannot be limited"):
        CpuLimit(pid, 0.5)


def test_a_process_that_is_gone_cannot_be_limited() -> None:
    """It is said at the start; to stop what never began is no fault."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    limit = CpuLimit(gone.pid, 0.5)
    with pytest.raises(StateError, match="cannot be limited"):
        limit.start()
    limit.stop()
