"""The process in which a gateway profiles: a job comes in as JSON, a profile goes out.

`python -m skerry.edge.profiling_child`; only `skerry.edge.profiling` starts it.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import msgspec

from skerry.core.errors import SkerryError
from skerry.core.model import Model
from skerry.core.profile import Profile
from skerry.core.seams import LoadOptions
from skerry.edge.profiling import LIMIT_S, ProfileJob, ProfileRefusal
from skerry.runtimes import get_runtime
from skerry.tasks.made_up import made_up_inputs
from skerry.tasks.profiling import Subject, profile_in_turns

NICENESS = 5
"""Requests that come meanwhile go first; a busy machine still lets it end in time."""


def main() -> int:
    """Take one job from standard input; the exit code."""
    signal.alarm(round(LIMIT_S) + 1)  # should the gateway die, so do we
    os.nice(NICENESS)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=ProfileJob)
    answer: Profile | ProfileRefusal
    try:
        answer = profile(job)
    except SkerryError as error:
        answer = ProfileRefusal(what=error.what, hint=error.hint)
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    sys.stdout.flush()
    return 0


def profile(job: ProfileJob) -> Profile:
    """Profile what a job names, on inputs that are made up.

    Raises:
        The errors of `profile_in_turns`.
    """
    path = Path(job.path)
    model = Model(
        path=path,
        format=job.format,
        inputs=job.inputs,
        outputs=job.outputs,
        sha256=job.sha256,
        size_bytes=path.stat().st_size,
    )
    libraries = tuple(map(Path, job.libraries))
    subject = Subject(
        model=model,
        runtime=get_runtime(job.runtime),
        inputs=made_up_inputs(job.inputs),
        options=LoadOptions(threads=job.threads, libraries=libraries),
    )
    (found,) = profile_in_turns([subject], repeats=job.repeats)
    return replace(found, model=job.name)


if __name__ == "__main__":
    sys.exit(main())
