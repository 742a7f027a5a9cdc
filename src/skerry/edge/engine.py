"""The engine: releases by name, each swapped for the next without losing a request.

A name has a latest release and, while that one is on probation, the one before it as a
fallback that stays loaded; a policy (`skerry.edge.routing`) may keep others and say who
answers. A switch exchanges one reference, on the thread of the event loop: a request
keeps the release that it began with, and a release is closed when its last request has
been answered. `prepare` loads and checks on the thread that calls it and on one of its
own; it shares neither lock nor thread nor queue with requests.

On probation the fallback runs some of the requests too, in the background, so that both
can be compared on the same inputs (`skerry.evolve.probation`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from skerry.core.clock import Clock
from skerry.core.errors import BusyError, ConflictError, UsageError
from skerry.core.names import did_you_mean
from skerry.core.release import ReleaseId
from skerry.core.seams import Array, Runtime, Tensors
from skerry.edge import checks, probation
from skerry.edge.checks import Findings, Prepared
from skerry.edge.comparing import (
    DisagreementRecord,
    Disagreements,
    compare,
    copy_tensors,
    distance_of,
    impression_of,
)
from skerry.edge.installed import Installed
from skerry.edge.loaded import Answer, Loaded
from skerry.edge.probation import ProbationEnd
from skerry.edge.queueing import PRIORITIES
from skerry.edge.routing import Routing, Versions
from skerry.edge.serving_figures import ServingFigures
from skerry.edge.turns import Turns
from skerry.evolve.probation import Impression, Pairs, ProbationLimits
from skerry.runtimes import get_runtime

__all__ = [
    "Answer",
    "Disagreements",
    "Engine",
    "Findings",
    "Prepared",
    "ProbationEnd",
    "Routing",
    "ServingFigures",
]

log = logging.getLogger(__name__)


class _Name:
    """What stands under one name, and what is counted of it."""

    def __init__(self, versions: Versions) -> None:
        self.versions = versions
        self.turn = 0
        self.pairs: Pairs | None = None
        self.is_pairing = False
        self.record: DisagreementRecord | None = None
        self.beside: tuple[Loaded, Loaded] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapFigures:
    """What became of the releases of a name since the start.

    Attributes:
        swaps: How often one was switched to, the first one included.
        roll_backs: How often the one before had to serve again.
    """

    swaps: int
    roll_backs: int


class Engine:
    """Serves releases by name.

    All methods but `prepare` belong to the thread of the event loop.

    Args:
        clock: What measures time.
        runtimes: Finds a runtime by name.
        threads: How many inferences of one release run at once, each on one CPU.
        max_waiting: How many more requests of one release may wait.
        cpus: How many inferences run at once, of all releases; None: as many as they
            have threads.
        weights: Names that may use more or less of the CPUs than others, whose weight
            is 1.
        check_limit_s: Most seconds that a release is checked for.

    Raises:
        UsageError: One of them is too small.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        runtimes: Callable[[str], Runtime] = get_runtime,
        threads: int = 1,
        max_waiting: int = 64,
        cpus: int | None = None,
        weights: Mapping[str, float] | None = None,
        check_limit_s: float = checks.LIMIT_S,
    ) -> None:
        if threads < 1 or max_waiting < 0:
            raise UsageError(
                f"got {threads} threads and {max_waiting} waiting requests, expected "
                "at least 1 and 0",
                hint="One thread a CPU is a good start.",
            )
        self._clock = clock
        self._runtimes = runtimes
        self._threads = threads
        self._max_waiting = max_waiting
        self._check_limit_s = check_limit_s
        self._turns = Turns(clock, cpus=cpus, weights=weights)
        self._names: dict[str, _Name] = {}
        self._swaps: Counter[str] = Counter()
        self._roll_backs: Counter[str] = Counter()
        self._preparing: set[str] = set()
        self._preparing_lock = threading.Lock()

    def prepare(self, installed: Installed) -> Prepared:
        """Load a release beside the one that serves, and check it; this blocks.

        It may be called from any thread; on the event loop's it would hold it up.

        Raises:
            RefusedError: It does not hold here what it promises; `reason` says which,
                and what serves goes on serving.
            ConflictError: Another release of this name is being loaded.
        """
        with self._only_load(installed.id.name):
            return checks.prepare(
                installed,
                runtimes=self._runtimes,
                clock=self._clock,
                serving=self.active(installed.id.name),
                limit_s=self._check_limit_s,
            )

    def switch(self, prepared: Prepared) -> None:
        """Let a prepared release serve from now on, as far as the routing has it so.

        The one before it stays loaded as the fallback; an older one that no routing
        needs is closed.
        """
        name = prepared.installed.id.name
        loaded = Loaded(
            prepared.installed,
            prepared.session,
            clock=self._clock,
            turns=self._turns,
            threads=self._threads,
            max_waiting=self._max_waiting,
            typical_s=prepared.typical_s,
            tolerance=prepared.findings.tolerance,
            golden_error=prepared.findings.golden_error,
        )
        place = self._names.get(name)
        if place is None:
            self._names[name] = _Name(Versions(loaded=(loaded,)))
        else:
            self._change(place, place.versions.switched(loaded))
            place.pairs = Pairs()
        self._swaps[name] += 1
        log.info("release.switched", extra={"release": str(prepared.installed.id)})

    def roll_back(self, name: str) -> ReleaseId | None:
        """Let the fallback serve again.

        Returns:
            What is the latest now, or None where there is no fallback and nothing
            changed.
        """
        place = self._names.get(name)
        back = place.versions.rolled_back() if place else None
        if place is None or back is None:
            return None
        self._change(place, back)
        self._roll_backs[name] += 1
        release = back.latest.installed.id
        log.warning("release.rolled_back", extra={"release": str(release)})
        return release

    def settle(self, name: str) -> None:
        """End the probation: the fallback is closed once it is idle."""
        place = self._names.get(name)
        if place and place.versions.fallback:
            self._change(place, place.versions.settled())

    async def watch(
        self,
        name: str,
        *,
        probation_s: float = 5.0,
        limits: ProbationLimits | None = None,
    ) -> ProbationEnd:
        """Watch what was switched to last: it settles, or is rolled back by itself.

        An agent does this in its own way, by the same rule; it is for an engine
        without one.

        Args:
            name: The release's name.
            probation_s: How long it serves before it is accepted.
            limits: What it may do until then.
        """
        return await probation.watch(
            self,
            name,
            clock=self._clock,
            probation_s=probation_s,
            limits=limits or ProbationLimits(),
        )

    def route(self, name: str, routing: Routing) -> None:
        """Set who answers the requests that name no version.

        Raises:
            UsageError: Nothing is served under this name, the version is not loaded,
                or it has nothing of the same signature to be tried out against.
        """
        place = self._place(name)
        self._change(place, place.versions.routed(routing))
        log.info(
            "release.routed",
            extra={"release": name, "kind": routing.kind, "version": routing.version},
        )

    def routing(self, name: str) -> Routing:
        """Who answers the requests that name no version.

        Raises:
            UsageError: Nothing is served under this name.
        """
        return self._place(name).versions.routing

    def disagreements(self, name: str) -> Disagreements | None:
        """How far the candidate of a shadow is from what was answered.

        Returns:
            None where no candidate has run anything yet.

        Raises:
            UsageError: Nothing is served under this name.
        """
        record = self._place(name).record
        return record.figures() if record else None

    def remove(self, name: str) -> None:
        """Stop serving a name; requests in flight are still answered."""
        place = self._names.pop(name, None)
        if place:
            place.pairs = place.beside = None  # for the answers that are still to come
            for loaded in place.versions.loaded:
                loaded.retire()

    def close(self) -> None:
        """Stop serving every name; requests in flight are still answered."""
        for name in self.names():
            self.remove(name)

    def names(self) -> tuple[str, ...]:
        """The names that are served, sorted."""
        return tuple(sorted(self._names))

    def active(self, name: str) -> Installed | None:
        """The release that was switched to last under a name, or None."""
        place = self._names.get(name)
        return place.versions.latest.installed if place else None

    def find(self, name: str, *, version: int | None = None) -> Installed:
        """The release that answers the next request.

        Args:
            name: The release's name.
            version: One that is loaded; None: whichever the routing says.

        Raises:
            UsageError: No such release is loaded.
        """
        return self._find(name, version).installed

    def choose(self, name: str) -> Installed:
        """Choose who answers a request that is then asked of that very version.

        As `find`, and the request counts among those that the routing shares out.

        Raises:
            UsageError: Nothing is served under this name.
        """
        place = self._place(name)
        place.turn += 1
        return place.versions.pick(place.turn).installed

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions of a name that are loaded, that switched to last first."""
        place = self._names.get(name)
        loaded = place.versions.loaded if place else ()
        return tuple(each.installed.id.version for each in loaded)

    def figures(self, name: str, *, version: int | None = None) -> ServingFigures:
        """How a release of a name has served; the latest beside its fallback.

        Raises:
            UsageError: No such release is loaded.
        """
        place = self._place(name)
        versions = place.versions
        if version is not None and version != versions.latest.installed.id.version:
            return self._pick(place, version).figures()
        pairs = place.pairs.figures() if place.pairs else None
        return versions.latest.figures(versions.fallback, pairs)

    def swap_figures(self, name: str) -> SwapFigures:
        """How often the releases of a name were switched to and rolled back."""
        return SwapFigures(swaps=self._swaps[name], roll_backs=self._roll_backs[name])

    def session_figures(self, name: str, version: int) -> object | None:
        """What the session of a release tells of itself, or None: it may tell nothing.

        Raises:
            UsageError: No such release is loaded.
        """
        return self._pick(self._place(name), version).session_figures()

    async def infer(
        self,
        name: str,
        inputs: Tensors,
        *,
        version: int | None = None,
        deadline_s: float | None = None,
        priority: int = 0,
        is_own: bool = False,
    ) -> Answer:
        """Run one inference.

        Args:
            name: The release's name.
            inputs: One array an input, of its dtype and a shape it accepts.
            version: One that is loaded; None: whichever the routing says.
            deadline_s: After how long the answer is of no more use, the wait in the
                queue included; None: never. What has not begun by then is never run;
                what hangs is interrupted where the runtime can be, else given up.
            priority: Higher ones go first, within one name; below 0, what nobody waits
                for. Each `skerry.edge.queueing.AGE_S` of waiting adds 1.
            is_own: Whether the inputs, and the outputs that are wanted, are of the
                release's own schemas, whatever is spoken here.

        Raises:
            UsageError: No such release is loaded, or the priority is out of range.
            DataError: The inputs do not fit the model.
            BusyError: As many requests wait as may.
            LateError: The deadline has passed.
            RuntimeFailure: The runtime failed.
        """
        if not PRIORITIES[0] <= priority <= PRIORITIES[1]:
            raise UsageError(
                f"the priority is {priority}, expected {PRIORITIES[0]} to "
                f"{PRIORITIES[1]}",
                hint="0 is the usual one.",
            )
        place = self._place(name)
        loaded = self._pick(place, version)
        place.turn += version is None
        due_s = None if deadline_s is None else self._clock.wall_s() + deadline_s
        adapter = None if is_own else loaded.installed.adapter
        taken = inputs if adapter is None else await adapter.take(inputs)
        answer = await loaded.infer(taken, due_s=due_s, priority=priority)
        if place.beside is not None or place.pairs is not None:
            self._run_beside(place, loaded, taken, answer)
        if adapter is None:
            return answer
        return replace(answer, outputs=await adapter.give(answer.outputs))

    @contextlib.contextmanager
    def _only_load(self, name: str) -> Iterator[None]:
        with self._preparing_lock:
            if name in self._preparing:
                raise ConflictError(
                    f"another release of {name!r} is being loaded",
                    hint="Wait until it serves or is refused, then ask again.",
                )
            self._preparing.add(name)
        try:
            yield
        finally:
            with self._preparing_lock:
                self._preparing.discard(name)

    def _place(self, name: str) -> _Name:
        place = self._names.get(name)
        if place is None:
            raise UsageError(
                f"nothing is served under the name {name[:80]!r}",
                hint=did_you_mean(name[:80], self._names),
            )
        return place

    def _find(self, name: str, version: int | None) -> Loaded:
        return self._pick(self._place(name), version)

    def _pick(self, place: _Name, version: int | None) -> Loaded:
        if version is None:
            return place.versions.pick(place.turn)
        loaded = place.versions.find(version)
        if loaded is None:
            name = place.versions.latest.installed.id.name
            raise UsageError(
                f"version {version} of {name!r} is not loaded",
                hint=f"Loaded: {', '.join(map(str, self.versions(name)))}.",
            )
        return loaded

    def _change(self, place: _Name, versions: Versions) -> None:
        """Put other versions in place, and let go of what is not among them."""
        before, place.versions = place.versions, versions
        if versions.fallback is None:
            place.pairs = None
        place.beside = None
        if versions.routing.kind == "shadow" and versions.candidate is not None:
            place.beside = versions.stable, versions.candidate
            one, other = (each.installed.id for each in place.beside)
            record = place.record
            if record is None or (record.stable, record.candidate) != (one, other):
                place.record = DisagreementRecord(
                    one, other, tolerance=versions.candidate.tolerance
                )
        for loaded in before.without(versions):
            loaded.retire()

    def _run_beside(
        self, place: _Name, loaded: Loaded, inputs: Tensors, answer: Answer
    ) -> None:
        """Have another release run what was just answered, where that is of use.

        It is of none where the two do not speak the same schemas.
        """
        beside, versions = place.beside, place.versions
        if beside is not None and beside[0] is loaded and loaded.speaks_as(beside[1]):
            self._compare(place, beside[1], inputs, answer)
        is_tried = place.pairs is not None and loaded is versions.latest
        fallback = versions.fallback
        if is_tried and fallback is not None and loaded.speaks_as(fallback):
            self._pair(place, fallback, inputs, answer)

    def _compare(
        self, place: _Name, candidate: Loaded, inputs: Tensors, answer: Answer
    ) -> None:
        record, versions = place.record, place.versions
        if record is None:
            return
        pairs = place.pairs if candidate is versions.latest else None
        answered = copy_tensors(answer.outputs)
        at_ms = self._clock.unix_ms()

        def make(
            outputs: dict[str, Array], latency_ms: float
        ) -> tuple[Impression, Impression, float]:
            return (
                impression_of(answered, answer.latency_ms),
                impression_of(outputs, latency_ms),
                distance_of(answered, outputs),
            )

        def finish(ended: asyncio.Future[Any]) -> None:
            error = ended.exception()
            if error is not None:
                record.skipped += isinstance(error, BusyError)
                record.failed += not isinstance(error, BusyError)
                return
            before, after, distance = ended.result()
            record.add(compare(before, after, distance, at_ms=at_ms))
            if pairs is not None:
                pairs.add(before, after)

        comparing = candidate.compare(copy_tensors(inputs), make, is_counted=True)
        if comparing is None:
            record.skipped += 1
        else:
            comparing.add_done_callback(finish)

    def _pair(
        self, place: _Name, fallback: Loaded, inputs: Tensors, answer: Answer
    ) -> None:
        """Compare with the fallback, one request at a time: it costs few of them."""
        pairs = place.pairs
        if pairs is None or pairs.is_full or place.is_pairing:
            return
        answered = copy_tensors(answer.outputs)

        def make(
            outputs: dict[str, Array], latency_ms: float
        ) -> tuple[Impression, Impression]:
            return (
                impression_of(outputs, latency_ms),
                impression_of(answered, answer.latency_ms),
            )

        def finish(ended: asyncio.Future[Any]) -> None:
            place.is_pairing = False
            if ended.exception() is None:
                pairs.add(*ended.result())

        pairing = fallback.compare(copy_tensors(inputs), make)
        if pairing is not None:
            place.is_pairing = True
            pairing.add_done_callback(finish)
