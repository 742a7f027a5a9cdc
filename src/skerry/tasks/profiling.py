"""Profile models operator by operator on a noisy machine, so that it can be believed.

Subjects take turns, block by block: each block loads the model anew under the runtime's
own profiler, then times whole inferences without it. What is kept of each operator and
of the whole is the mean of the fastest fifth over all blocks. The even and the odd
blocks are two interleaved measurements of the same thing: how far they are apart is the
noise floor.

With one thread an operator that is not interrupted takes as much CPU time as time, and
the fastest fifth are those that were not interrupted. With more, operators' times are
elapsed times, and only the whole inference has a CPU time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from skerry.core.clock import Clock
from skerry.core.errors import RuntimeFailure, UsageError
from skerry.core.model import Model
from skerry.core.profile import (
    HardwareState,
    InferenceTime,
    OperatorTime,
    Profile,
    lowest_quintile,
    noise_of,
)
from skerry.core.seams import LoadOptions, Runtime, Session, Tensors
from skerry.tasks.measure import added_memory, measure_latency

BLOCKS = 6
_SERIAL = re.compile(r"_\d{3,}")

Progress = Callable[[str, int, int], None]
"""Told (what, done, total) while long work goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model on a runtime, and what it is fed.

    Attributes:
        model: The model.
        runtime: What runs it.
        inputs: One array an input.
        options: How it is loaded.
    """

    model: Model
    runtime: Runtime
    inputs: Tensors
    options: LoadOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one block measured of one subject.

    Attributes:
        operators: Each with the times of its calls.
        cpu_ms: CPU time of each whole inference.
        wall_ms: Elapsed time of each whole inference.
    """

    operators: tuple[OperatorTime, ...]
    cpu_ms: tuple[float, ...]
    wall_ms: tuple[float, ...]


def profile_in_turns(
    subjects: Sequence[Subject],
    *,
    repeats: int,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> tuple[Profile, ...]:
    """Profile subjects in turns, and say of each how far it can be believed.

    Args:
        subjects: What to measure.
        repeats: Inferences of each under the profiler, and as many without; rounded up
            to a multiple of `BLOCKS`.
        clock: What measures time; this machine's clock by default.
        progress: Told after each block.

    Returns:
        One profile a subject, in their order.

    Raises:
        UsageError: There is nothing to measure, or no repeat; and as `Runtime.load`.
        ModelError, DataError: As `Runtime.load` and `Session.run`.
    """
    if not subjects or repeats < 1:
        raise UsageError(
            f"got {len(subjects)} subjects and {repeats} repeats, expected at least 1",
            hint="Name what to profile, and how often.",
        )
    a_block = math.ceil(repeats / BLOCKS)
    blocks: list[list[Block]] = [[] for _ in subjects]
    before = hardware_state()
    with ExitStack() as opened:
        memory, sessions = [], []
        for subject in subjects:
            session, added = _load(subject, opened)
            sessions.append(session)
            memory.append(added)
        refusals = ["" for _ in subjects]
        for number in range(BLOCKS):
            kernels = []
            for index, subject in enumerate(subjects):
                found, refusals[index] = _operators(subject, a_block)
                kernels.append(found)
            wholes = _wholes(subjects, sessions, a_block, clock)
            for found, whole, kept in zip(kernels, wholes, blocks, strict=True):
                cpu_ms, wall_ms = whole
                kept.append(Block(operators=found, cpu_ms=cpu_ms, wall_ms=wall_ms))
            if progress is not None:
                progress("measure", number + 1, BLOCKS)
    after = hardware_state()
    return tuple(
        replace(
            pool(kept),
            runtime=subject.runtime.name,
            threads=subject.options.threads,
            model=subject.model.path.name,
            memory_bytes=added,
            before=before,
            after=after,
            notes=(refusal,) if refusal else (),
        )
        for subject, kept, added, refusal in zip(
            subjects, blocks, memory, refusals, strict=True
        )
    )


def pool(blocks: Sequence[Block]) -> Profile:
    """Make one profile of the blocks of one subject, one block at least.

    An operator is told by its name, its type, and which of several it is. Long numbers
    in a name do not count: OpenVINO draws them anew each time that it loads a model.
    """
    times: dict[tuple[str, str, int], list[list[float]]] = {}
    first: dict[tuple[str, str, int], OperatorTime] = {}
    for number, block in enumerate(blocks):
        seen: dict[tuple[str, str], int] = {}
        for operator in block.operators:
            name = _SERIAL.sub("", operator.name), operator.op_type
            seen[name] = seen.get(name, 0) + 1
            key = (*name, seen[name])
            first.setdefault(key, operator)
            kept = times.setdefault(key, [[] for _ in blocks])
            kept[number] += operator.times_ms or (operator.latency_ms,)
    operators = tuple(
        replace(
            operator,
            latency_ms=lowest_quintile([one for each in times[key] for one in each]),
            noise=noise_of(times[key]),
            times_ms=(),
        )
        for key, operator in first.items()
    )
    cpu_ms = [block.cpu_ms for block in blocks]
    return Profile(
        runtime="",
        threads=0,
        repeats=sum(map(len, cpu_ms)),
        operators=operators,
        inference=InferenceTime(
            cpu_ms=lowest_quintile([one for each in cpu_ms for one in each]),
            wall_ms=lowest_quintile([one for each in blocks for one in each.wall_ms]),
            noise=noise_of(cpu_ms) or 0.0,
        ),
    )


def hardware_state(root: Path = Path("/")) -> HardwareState:
    """Read the hottest sensor and the fastest core's clock, as Linux tells them.

    Args:
        root: Where the system's own files hang; `/` but for tests.
    """
    heats = _numbers(root, "sys/class/thermal/thermal_zone*/temp")
    clocks = _numbers(root, "sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")
    return HardwareState(
        temperature_c=max(heats) / 1000 if heats else None,
        clock_mhz=max(clocks) / 1000 if clocks else _clock_mhz(root),
    )


def _load(subject: Subject, opened: ExitStack) -> tuple[Session, int | None]:
    """Load and run once; the session, and the bytes that it took at the peak."""
    sessions: list[Session] = []

    def begin() -> None:
        session = subject.runtime.load(subject.model, subject.options)
        sessions.append(opened.enter_context(closing(session)))
        session.run(subject.inputs)

    added = added_memory(begin)
    return sessions[0], added


def _operators(subject: Subject, repeats: int) -> tuple[tuple[OperatorTime, ...], str]:
    """The operators of one block; or none, and why the runtime does not tell."""
    try:
        found = subject.runtime.profile(
            subject.model, subject.inputs, subject.options, repeats=repeats
        )
    except RuntimeFailure as error:
        # The model runs, or it would not have come so far: only its parts stay unknown.
        return (), f"{error}. {error.hint}"
    return found.operators, ""


def _wholes(
    subjects: Sequence[Subject],
    sessions: Sequence[Session],
    repeats: int,
    clock: Clock | None,
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """CPU and elapsed times of whole inferences, all subjects in turn."""
    calls: Mapping[str, Callable[[], object]] = {
        str(index): _call(session, subject.inputs)
        for index, (session, subject) in enumerate(zip(sessions, subjects, strict=True))
    }
    found = measure_latency(calls, repeats=repeats, clock=clock)
    return [(found[name].cpu_ms, found[name].wall_ms) for name in calls]


def _call(session: Session, inputs: Tensors) -> Callable[[], object]:
    return lambda: session.run(inputs)


def _numbers(root: Path, pattern: str) -> list[float]:
    found = []
    for path in root.glob(pattern):
        try:
            found.append(float(path.read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # a sensor that is switched off
    return found


def _clock_mhz(root: Path) -> float | None:
    """The fastest core's clock as /proc/cpuinfo has it, on x86."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="ascii", errors="replace")
        lines = [line.partition(":") for line in text.splitlines()]
        clocks = [float(last) for first, _, last in lines if "cpu MHz" in first]
    except (OSError, ValueError):
        return None
    return max(clocks, default=None)
