"""The scheduler: who is looked at now, by which models. A pure machine.

The clock and the costs are arguments, and nothing here waits. Of each camera only the
newest picture counts. Each pair of a camera and a model has a rate (see `rates`), and
is due that long after it was last begun; the one that is due first goes first (earliest
deadline first: C. L. Liu, J. W. Layland, 1973). What is due moves on only by being
served, so nobody waits for ever. Models of one camera that are due soon look at one
picture together.

A picture that is older than the deadline allows is not looked at: there will be a newer
one. Where there is none, or all are too late, one is looked at each `STARVE_S` all the
same: late news are better than none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from skerry.edge.streams.rates import Demand, Level, share_out

STARVE_S = 1.0
"""No camera with pictures waits for longer only because they are late."""

PLAN_S = 0.25
"""How often the machine is shared out anew, where something has changed."""

LEAST_CHANGE = 0.02
"""A change of the capacity that is worth sharing it out anew, in CPUs."""

TOGETHER = 0.5
"""Models that are due within such a part of their period look at the same picture."""

_RECENT = 0.1
"""Weight of the newest look in the running mean of their costs."""


class Pair(NamedTuple):
    """A camera, and a model that looks at it."""

    camera: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What a camera wants of a model at the moment.

    Attributes:
        rate: Looks a second.
        least: The least that will do; 0 where only a check is wanted.
    """

    rate: float
    least: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is to be looked at now.

    Attributes:
        camera: Whose picture.
        number: Which one of its pictures.
        models: By which models.
    """

    camera: str
    number: int
    models: tuple[str, ...]


class _Pair:
    """What a camera wants of a model, what it gets, and when it last did."""

    def __init__(self) -> None:
        self.want = Want(rate=0.0)
        self.granted = 0.0
        self.begun_s = float("-inf")
        self.number = -1


class _Camera:
    """A camera's newest picture, and its pairs by model."""

    def __init__(self, *, weight: float, models: Iterable[str]) -> None:
        self.weight = weight
        self.number = -1
        self.captured_s = 0.0
        self.is_looked_at = False
        self.pairs = {model: _Pair() for model in models}


class Scheduler:
    """Decides who is looked at; time is an argument of each call.

    Args:
        costs_s: What a look of each model takes of a CPU, at first; what it really
            takes is learnt.
        capacity: Seconds of CPU in a second that there are for looks.
        at_once: How many looks may be under way.
        deadline_s: How old a picture may be when its look ends.

    Attributes:
        level: How much had to be given up when the machine was last shared out.
        superseded: By camera, pictures that a newer one came before; never looked at.
        late: By camera, pictures that were too old when their turn came.
    """

    def __init__(
        self,
        costs_s: Mapping[str, float],
        *,
        capacity: float,
        at_once: int = 1,
        deadline_s: float = 0.2,
    ) -> None:
        self.level = Level.FULL
        self.superseded: Counter[str] = Counter()
        self.late: Counter[str] = Counter()
        self._costs_s = dict(costs_s)
        self._capacity = capacity
        self._at_once = at_once
        self._deadline_s = deadline_s
        self._cameras: dict[str, _Camera] = {}
        self._under_way = 0
        self._planned_s = float("-inf")
        self._is_stale = True

    @property
    def costs_s(self) -> Mapping[str, float]:
        """What a look of each model takes of a CPU, as far as it is known."""
        return self._costs_s

    @property
    def capacity(self) -> float:
        """Seconds of CPU in a second that there are for looks."""
        return self._capacity

    def allow(self, capacity: float) -> None:
        """Say how many seconds of CPU in a second there are for looks from now on."""
        if abs(capacity - self._capacity) > LEAST_CHANGE:
            self._is_stale = True
            self._capacity = capacity

    def join(self, camera: str, *, weight: float = 1.0) -> None:
        """Take a camera in."""
        self._cameras[camera] = _Camera(weight=weight, models=self._costs_s)
        self._is_stale = True

    def leave(self, camera: str) -> None:
        """Let go of a camera; a look that is under way is still to be ended."""
        self._cameras.pop(camera, None)
        self._is_stale = True

    def want(self, camera: str, wants: Mapping[str, Want]) -> None:
        """Say what a camera wants from now on; a model that is left out, nothing."""
        pairs = self._cameras[camera].pairs
        for model, pair in pairs.items():
            want = wants.get(model, Want(rate=0.0))
            if want == pair.want:
                continue
            # Until the machine is shared out anew: what begins to move is looked at
            # at once, and who wants less gets less.
            started = want.rate if want.least > pair.want.least else pair.granted
            pair.granted = min(want.rate, started or want.rate)
            pair.want = want
            self._is_stale = True

    def offer(self, camera: str, number: int, captured_s: float) -> None:
        """Take in a camera's newest picture; the one before it is forgotten."""
        one = self._cameras[camera]
        if one.number >= 0 and all(p.number != one.number for p in one.pairs.values()):
            self.superseded[camera] += 1
        one.number, one.captured_s = number, captured_s

    def forget(self, camera: str) -> None:
        """The camera's newest picture is gone: it failed, or changed its size."""
        self._cameras[camera].number = -1

    def next(self, now_s: float) -> Look | None:
        """Begin the look whose turn it is; None where none is due, or all are busy."""
        if self._under_way >= self._at_once:
            return None
        self._share_out(now_s)
        chosen = min(self._due(now_s), default=None)
        if chosen is None:
            return None
        _, name, _ = chosen
        camera = self._cameras[name]
        models = []
        for model, pair in camera.pairs.items():
            if pair.granted and pair.number != camera.number:
                early_s = TOGETHER / pair.granted
                if now_s >= pair.begun_s + 1 / pair.granted - early_s:
                    pair.begun_s, pair.number = now_s, camera.number
                    models.append(model)
        camera.is_looked_at = True
        self._under_way += 1
        return Look(camera=name, number=camera.number, models=tuple(models))

    def ended(self, look: Look, costs_s: Mapping[str, float]) -> None:
        """A look has ended, well or not.

        Args:
            look: It.
            costs_s: What its models took of a CPU; those that failed are left out.
        """
        self._under_way -= 1
        camera = self._cameras.get(look.camera)
        if camera is not None:
            camera.is_looked_at = False
        for model, cost_s in costs_s.items():
            self._costs_s[model] += _RECENT * (cost_s - self._costs_s[model])
            self._is_stale = True

    def wake_s(self, now_s: float) -> float | None:
        """When `next` is to be asked again if nothing happens; None: only then."""
        due = [
            pair.begun_s + 1 / pair.granted
            for camera in self._cameras.values()
            for pair in camera.pairs.values()
            if pair.granted and camera.number not in {-1, pair.number}
        ]
        return max(min(due), now_s) if due else None

    def _due(self, now_s: float) -> list[tuple[float, str, str]]:
        """Pairs that are due: when, and who."""
        found = []
        for name, camera in self._cameras.items():
            if camera.number < 0 or camera.is_looked_at:
                continue
            due = [
                (pair.begun_s + 1 / pair.granted, name, model)
                for model, pair in camera.pairs.items()
                if pair.granted and pair.number != camera.number
            ]
            due = [one for one in due if one[0] <= now_s]
            if due and self._is_in_time(name, camera, min(due)[0], now_s):
                found += due
        return found

    def _is_in_time(
        self, name: str, camera: _Camera, due_s: float, now_s: float
    ) -> bool:
        cost_s = sum(self._costs_s[model] for model in camera.pairs)
        if now_s + cost_s <= camera.captured_s + self._deadline_s:
            return True
        last_s = max(pair.begun_s for pair in camera.pairs.values())
        if now_s - max(last_s, due_s - STARVE_S) >= STARVE_S and now_s >= due_s:
            return True
        self.late[name] += 1
        camera.number = -1
        return False

    def _share_out(self, now_s: float) -> None:
        if not self._is_stale or now_s < self._planned_s + PLAN_S:
            return
        self._is_stale, self._planned_s = False, now_s
        demands = {
            Pair(name, model): Demand(
                rate=pair.want.rate,
                least=pair.want.least,
                cost_s=self._costs_s[model],
                weight=camera.weight,
            )
            for name, camera in self._cameras.items()
            for model, pair in camera.pairs.items()
            if pair.want.rate > 0
        }
        granted = share_out(demands, self._capacity)
        self.level = granted.level
        for name, camera in self._cameras.items():
            for model, pair in camera.pairs.items():
                pair.granted = granted.rates.get(Pair(name, model), 0.0)
