"""Profile a model on a gateway that has nothing else to do just then.

Only what is installed is run, and only what was signed is installed: a hub names a
model by its hash, and cannot make a gateway run one that no publisher vouches for. It
runs in a process of its own, with a lower priority and for a bounded time: whatever
happens to it, the gateway serves on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import (
    BusyError,
    LateError,
    RuntimeFailure,
    SkerryError,
    StateError,
    UsageError,
    WorkerLostError,
)
from skerry.core.messages import LARGEST_MESSAGE_BYTES
from skerry.core.model import ModelFormat, TensorSpec
from skerry.core.profile import Profile
from skerry.edge.installed import Installed
from skerry.edge.update_steps import Serving

log = logging.getLogger(__name__)

LIMIT_S = 20.0
"""Longest time that a profile may take."""

IDLE_S = 1.0
"""A gateway that serves nobody for so long is idle."""

MOST_REPEATS, MOST_THREADS = 600, 64
_LARGEST_BYTES = LARGEST_MESSAGE_BYTES - 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileJob:
    """What the process of its own is told.

    Attributes:
        path: The model's file.
        name: What the profile calls it.
        format: How it is written.
        runtime: What runs it.
        inputs: Its signature's inputs.
        outputs: Its signature's outputs.
        sha256: Of the file.
        libraries: Operators that it needs.
        threads: CPU threads of one inference.
        repeats: Inferences that are measured.
    """

    path: str
    name: str
    format: ModelFormat
    runtime: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sha256: str
    libraries: tuple[str, ...]
    threads: int
    repeats: int


class ProfileRefusal(msgspec.Struct):
    """Why that process made no profile."""

    what: str
    hint: str


class Profiler:
    """Answers what a hub asks: one profile at a time.

    Args:
        engine: What serves.
        names: The names of the releases that are installed.
        is_updating: Whether an update is under way.
        abi: The machine's, for libraries of operators; None for none.
        clock: What it waits by.
    """

    def __init__(
        self,
        engine: Serving,
        *,
        names: Callable[[], Iterable[str]],
        is_updating: Callable[[], bool],
        abi: str | None,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._names = names
        self._is_updating = is_updating
        self._abi = abi
        self._clock = clock
        self._lock = asyncio.Lock()

    async def answer(self, body: Mapping[str, Json]) -> dict[str, Json]:
        """Answer `{"id", "sha256", "repeats", "threads"}`; it never raises.

        Returns:
            `{"id", "profile"}`, or `{"id", "error": {"code", "what", "hint"}}`.
        """
        answer: dict[str, Json] = {"id": body.get("id")}
        try:
            profile = await self._profile(body)
        except SkerryError as error:
            kind = error.code
            answer["error"] = {"code": kind, "what": error.what, "hint": error.hint}
        except Exception:
            log.exception("profile.bug")
            answer["error"] = {
                "code": StateError.__name__,
                "what": "the gateway could not profile it",
                "hint": "Its log says why.",
            }
        else:
            answer["profile"] = _fitting(profile)
        return answer

    async def _profile(self, body: Mapping[str, Json]) -> Profile:
        installed = self._find(str(body.get("sha256")))
        repeats = _within(body.get("repeats"), MOST_REPEATS, "repeats")
        threads = _within(body.get("threads"), MOST_THREADS, "threads")
        if self._lock.locked():
            raise _busy("it profiles another model just now")
        async with self._lock:
            await self._check_idle()
            lend, model = installed.vault.lend, installed.model
            files = (installed.files["model"], *installed.libraries(self._abi or ""))
            with contextlib.ExitStack() as lent:
                path, *libraries = [
                    str(await asyncio.to_thread(lent.enter_context, lend(file)))
                    for file in files
                ]
                job = ProfileJob(
                    path=path,
                    name=str(installed.id),
                    format=model.format,
                    runtime=model.runtime,
                    inputs=model.inputs,
                    outputs=model.outputs,
                    sha256=model.blob.sha256,
                    libraries=tuple(libraries),
                    threads=threads,
                    repeats=repeats,
                )
                return await run_job(job)

    def _find(self, sha256: str) -> Installed:
        for name in self._names():
            installed = self._engine.active(name)
            if installed is not None and installed.model.blob.sha256 == sha256:
                return installed
        raise UsageError(
            f"this gateway serves no release of the model {sha256[:12]}",
            hint="Publish it and roll it out there first: a gateway runs only what is "
            "signed.",
        )

    async def _check_idle(self) -> None:
        """Refuse while requests come in or an update is under way."""
        before = self._requests()
        await self._clock.sleep(IDLE_S)
        if self._is_updating():
            raise _busy("an update is under way")
        if came := self._requests() - before:
            raise _busy(f"{came} requests came in {IDLE_S:g} s")

    def _requests(self) -> int:
        active = [name for name in self._names() if self._engine.active(name)]
        return sum(self._engine.figures(name).on_probation.requests for name in active)


async def run_job(job: ProfileJob, *, limit_s: float = LIMIT_S) -> Profile:
    """Profile in a process of its own.

    Raises:
        LateError: It took too long; the process was stopped.
        WorkerLostError: The process died.
        RuntimeFailure: The model does not run there.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "skerry.edge.profiling_child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(limit_s):
            said, _ = await child.communicate(msgspec.json.encode(job))
    except TimeoutError as error:
        raise LateError(
            f"the profile took longer than {limit_s:g} s",
            hint="Ask for fewer --repeats.",
        ) from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()
    if child.returncode or not said:
        raise WorkerLostError(
            f"the process that ran the model ended with {child.returncode}",
            hint="Does the model run there at all? See: skerry why DEVICE.",
        )
    with contextlib.suppress(msgspec.ValidationError):
        refused = msgspec.json.decode(said, type=ProfileRefusal)
        raise RuntimeFailure(refused.what, hint=refused.hint)
    return msgspec.json.decode(said, type=Profile)


def _within(value: Json, most: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise UsageError(
            f"{what} is {str(value)[:40]}, expected 1 to {most}",
            hint=f"Give other --{what}.",
        )
    return value


def _busy(why: str) -> BusyError:
    return BusyError(
        f"this gateway is not idle: {why}", hint="Ask one that is, or ask later."
    )


def _fitting(profile: Profile) -> dict[str, Json]:
    """A profile small enough for one message: the shortest operators go first."""
    operators = profile.operators
    longest = sorted(range(len(operators)), key=lambda at: -operators[at].latency_ms)
    shown = profile
    while longest and len(msgspec.json.encode(shown)) > _LARGEST_BYTES:
        longest = longest[: len(longest) // 2]
        left_out = len(operators) - len(longest)
        shown = replace(
            profile,
            operators=tuple(operators[at] for at in sorted(longest)),
            notes=(*profile.notes, f"{left_out} short operators are left out."),
        )
    fields: dict[str, Json] = msgspec.to_builtins(shown)
    return fields
