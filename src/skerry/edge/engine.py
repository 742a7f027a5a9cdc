"""The engine: releases by name, each swapped for the next without losing a request.

A name has one active release and, while the new one is on probation, the one before it
as a fallback that stays loaded. A switch exchanges one reference, on the thread of the
event loop: a request keeps the release that it began with, and a release is closed when
its last request has been answered. `prepare` loads and checks on the thread that calls
it and on one of its own; it shares neither lock nor thread nor queue with requests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from skerry.core.clock import Clock
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.core.release import ReleaseId
from skerry.core.seams import Runtime, Tensors
from skerry.edge import checks
from skerry.edge.checks import Findings, Prepared
from skerry.edge.installed import Installed
from skerry.edge.loaded import Answer, Loaded, ServingFigures
from skerry.runtimes import get_runtime

__all__ = ["Answer", "Engine", "Findings", "Prepared", "ServingFigures"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Place:
    """What stands under one name; replaced as a whole, never changed."""

    active: Loaded
    fallback: Loaded | None = None


class Engine:
    """Serves releases by name.

    All methods but `prepare` belong to the thread of the event loop.

    Args:
        clock: What measures time.
        runtimes: Finds a runtime by name.
        threads: How many inferences of one release run at once, each on one CPU.
        max_waiting: How many more requests of one release may wait.
        check_limit_s: Most seconds that a release is checked for.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        runtimes: Callable[[str], Runtime] = get_runtime,
        threads: int = 1,
        max_waiting: int = 64,
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
        self._places: dict[str, _Place] = {}

    def prepare(self, installed: Installed) -> Prepared:
        """Load a release beside the one that serves, and check it; this blocks.

        It may be called from any thread; on the event loop's it would hold it up.

        Raises:
            RefusedError: It does not hold here what it promises; `reason` says which,
                and what serves goes on serving.
        """
        return checks.prepare(
            installed,
            runtimes=self._runtimes,
            clock=self._clock,
            limit_s=self._check_limit_s,
        )

    def switch(self, prepared: Prepared) -> None:
        """Let a prepared release serve from now on.

        The one before it stays loaded as the fallback; an older fallback is closed.
        """
        name = prepared.installed.id.name
        loaded = Loaded(
            prepared.installed,
            prepared.session,
            clock=self._clock,
            threads=self._threads,
            max_waiting=self._max_waiting,
        )
        before = self._places.get(name)
        self._places[name] = _Place(
            active=loaded, fallback=before.active if before else None
        )
        if before and before.fallback:
            before.fallback.retire()
        log.info("release.switched", extra={"release": str(prepared.installed.id)})

    def roll_back(self, name: str) -> ReleaseId | None:
        """Let the fallback serve again.

        Returns:
            What serves now, or None where there is no fallback and nothing changed.
        """
        place = self._places.get(name)
        if place is None or place.fallback is None:
            return None
        self._places[name] = _Place(active=place.fallback)
        place.active.retire()
        release = place.fallback.installed.id
        log.warning("release.rolled_back", extra={"release": str(release)})
        return release

    def settle(self, name: str) -> None:
        """End the probation: the fallback is closed once it is idle."""
        place = self._places.get(name)
        if place and place.fallback:
            self._places[name] = _Place(active=place.active)
            place.fallback.retire()

    def remove(self, name: str) -> None:
        """Stop serving a name; requests in flight are still answered."""
        place = self._places.pop(name, None)
        if place:
            for loaded in (place.active, place.fallback):
                if loaded:
                    loaded.retire()

    def close(self) -> None:
        """Stop serving every name; requests in flight are still answered."""
        for name in self.names():
            self.remove(name)

    def names(self) -> tuple[str, ...]:
        """The names that are served, sorted."""
        return tuple(sorted(self._places))

    def active(self, name: str) -> Installed | None:
        """The release that serves under a name, or None."""
        place = self._places.get(name)
        return place.active.installed if place else None

    def find(self, name: str, *, version: int | None = None) -> Installed:
        """The release that answers a request.

        Args:
            name: The release's name.
            version: That of the active release or of the fallback; None: the active.

        Raises:
            UsageError: No such release is loaded.
        """
        return self._find(name, version).installed

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions of a name that are loaded, the active one first."""
        place = self._places.get(name)
        both = (place.active, place.fallback) if place else ()
        return tuple(loaded.installed.id.version for loaded in both if loaded)

    def figures(self, name: str) -> ServingFigures:
        """How the active release of a name has served, beside its fallback.

        Raises:
            UsageError: Nothing is served under this name.
        """
        active = self._find(name, None)
        return active.figures(self._places[name].fallback)

    async def infer(
        self,
        name: str,
        inputs: Tensors,
        *,
        version: int | None = None,
        deadline_s: float | None = None,
    ) -> Answer:
        """Run one inference.

        Args:
            name: The release's name.
            inputs: One array an input, of its dtype and a shape it accepts.
            version: That of the active release or of the fallback; None: the active.
            deadline_s: After how long the answer is of no more use, the wait in the
                queue included; None: never. A running inference cannot be
                interrupted: at the deadline it is given up, its result is dropped.

        Raises:
            UsageError: No such release is loaded.
            DataError: The inputs do not fit the model.
            BusyError: As many requests wait as may.
            LateError: The deadline has passed.
            RuntimeFailure: The runtime failed.
        """
        loaded = self._find(name, version)
        due_s = None if deadline_s is None else self._clock.wall_s() + deadline_s
        return await loaded.infer(inputs, due_s=due_s)

    def _find(self, name: str, version: int | None) -> Loaded:
        place = self._places.get(name)
        if place is None:
            raise UsageError(
                f"nothing is served under the name {name[:80]!r}",
                hint=did_you_mean(name[:80], self._places),
            )
        for loaded in (place.active, place.fallback):
            if loaded and version in {None, loaded.installed.id.version}:
                return loaded
        raise UsageError(
            f"version {version} of {name!r} is not loaded",
            hint=f"Loaded: {', '.join(map(str, self.versions(name)))}.",
        )
