"""The scheduler: who is looked at now, by which models. A pure machine.

The clock and the costs are arguments, and nothing here waits. Of each camera only the
newest picture counts. Each pair of a camera and a model has a rate (see `rates`), and
is due that long after it was last begun; the one that is due first goes first (earliest
deadline first: C. L. Liu, J. W. Layland, 1973). What is due moves on only by being
served, so nobody waits for ever. Models of one camera that are due soon look at one
picture together.

A look is best begun as its picture comes: what is due within half the time to the next
picture begins at once, and what falls due later waits for the next one. A picture that
is older than the deadline allows is not looked at, either: there will be a newer one.
Where each newer one is too old as well, one is looked at each `STARVE_S` all the same:
late news are better than none.

Of a picture that is due for one model only, and of which a part will do, that part is
looked at together with those of others that are due just then (see `mosaics`): a look
that costs as much as one alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from skerry.edge.streams.mosaics import Part, pack
from skerry.edge.streams.rates import Demand, Level, share_out

STARVE_S = 1.0
"""No camera with pictures waits for longer only because they are late."""

PLAN_S = 0.25
"""How often the machine is shared out anew, where something has changed."""

MOST_INTERVAL_S = 0.5
"""Cameras whose pictures come less often are treated as though they came so often."""

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
        beside: Others' pictures of which parts are looked at with a part of this one,
            in one input of the one model; none where all of it is looked at.
    """

    camera: str
    number: int
    models: tuple[str, ...]
    beside: tuple[Look, ...] = ()

    @property
    def all(self) -> tuple[Look, ...]:
        """This one and those beside it."""
        return (self, *self.beside)


class _Pair:
    """What a camera wants of a model, what it gets, and when it last did."""

    def __init__(self) -> None:
        self.want = Want(rate=0.0)
        self.granted = 0.0
        self.begun_s = float("-inf")
        self.number = -1

    @property
    def due_s(self) -> float:
        """When its next look is due; something must be granted."""
        return self.begun_s + 1 / self.granted


class _Camera:
    """A camera's newest picture, and its pairs by model."""

    def __init__(self, *, weight: float, models: Iterable[str]) -> None:
        self.weight = weight
        self.number = -1
        self.captured_s = 0.0
        self.offered_s = float("-inf")
        self.interval_s = MOST_INTERVAL_S
        self.is_looked_at = False
        self.refused: tuple[float, int] | None = None
        self.parts: Mapping[str, Part] = {}
        self.pairs = {model: _Pair() for model in models}
        self.due_s = math.inf

    def settle(self) -> None:
        """Note when its next look is due; to be called whenever that may change."""
        self.due_s = min((due_s for due_s, _, _ in self.waiting()), default=math.inf)

    def waiting(self) -> list[tuple[float, str, _Pair]]:
        """Who has not looked at the newest picture, and when that is due."""
        if self.number < 0 or self.is_looked_at:
            return []
        return [
            (pair.due_s, model, pair)
            for model, pair in self.pairs.items()
            if pair.granted and pair.number != self.number
        ]

    @property
    def fresh_until_s(self) -> float:
        """Until when it is better to look at this picture than at the next one."""
        return self.offered_s + self.interval_s / 2


class Scheduler:
    """Decides who is looked at; time is an argument of each call.

    Args:
        costs_s: What a look of each model takes, at first; what it really
            takes is learnt.
        capacity: Seconds of looks in a second: how many go on at once, on average.
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
        """What a look of each model takes, as far as it is known."""
        return self._costs_s

    @property
    def capacity(self) -> float:
        """Seconds of looks in a second: how many go on at once, on average."""
        return self._capacity

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
        one = self._cameras[camera]
        for model, pair in one.pairs.items():
            want = wants.get(model, Want(rate=0.0))
            if want == pair.want:
                continue
            # Until the machine is shared out anew: what begins to move is looked at
            # at once, and who wants less gets less.
            started = want.rate if want.least > pair.want.least else pair.granted
            pair.granted = min(want.rate, started or want.rate)
            pair.want = want
            self._is_stale = True
        one.settle()

    def offer(
        self,
        camera: str,
        number: int,
        captured_s: float,
        *,
        now_s: float,
        parts: Mapping[str, Part] | None = None,
    ) -> None:
        """Take in a camera's newest picture; the one before it is forgotten.

        Args:
            camera: Whose.
            number: Which one of its pictures.
            captured_s: When it was taken.
            now_s: The time.
            parts: By model, the part of it that will do; all of it where left out.
        """
        one = self._cameras[camera]
        one.parts = parts or {}
        if one.number >= 0 and all(p.number != one.number for p in one.pairs.values()):
            self.superseded[camera] += 1
        one.number, one.captured_s = number, captured_s
        one.interval_s = min(max(0.0, now_s - one.offered_s), MOST_INTERVAL_S)
        one.offered_s = now_s
        one.settle()

    def forget(self, camera: str) -> None:
        """The camera's newest picture is gone: it failed, or changed its size."""
        self._cameras[camera].number = -1
        self._cameras[camera].settle()

    def next(self, now_s: float) -> Look | None:
        """Begin the look whose turn it is; None where none is due, or all are busy."""
        if self._under_way >= self._at_once:
            return None
        self._share_out(now_s)
        due = [name for _, name in sorted(self._due(now_s))]
        if not due:
            return None
        beside = self._beside(due, now_s)
        self._under_way += 1
        look = self._begin(due[0], now_s)
        return replace(look, beside=tuple(self._begin(name, now_s) for name in beside))

    def ended(self, look: Look, costs_s: Mapping[str, float]) -> None:
        """A look has ended, well or not.

        Args:
            look: It.
            costs_s: What its models took, of all pictures that were looked at
                together; those that failed are left out.
        """
        self._under_way -= 1
        for one in look.all:
            camera = self._cameras.get(one.camera)
            if camera is not None:
                camera.is_looked_at = False
                camera.settle()
        for model, cost_s in costs_s.items():
            each_s = cost_s / len(look.all)
            self._costs_s[model] += _RECENT * (each_s - self._costs_s[model])
            self._is_stale = True

    def wake_s(self, now_s: float) -> float | None:
        """When `next` is to be asked again if nothing happens; None: only then."""
        found = []
        for camera in self._cameras.values():
            begins_s = camera.due_s - camera.interval_s / 2
            if now_s < begins_s <= camera.fresh_until_s:
                found.append(begins_s)
        return min(found, default=None)

    def _begin(self, name: str, now_s: float) -> Look:
        camera = self._cameras[name]
        early_s = camera.interval_s / 2
        models = self._soon(camera, now_s)
        for due_s, model, pair in camera.waiting():
            if model in models:
                # What begins a little early or late evens out with the next ones.
                pair.begun_s = min(max(due_s, now_s - early_s), now_s + early_s)
                pair.number = camera.number
        camera.is_looked_at, camera.refused = True, None
        camera.settle()
        return Look(camera=name, number=camera.number, models=models)

    def _soon(self, camera: _Camera, now_s: float) -> tuple[str, ...]:
        """The models that look at a camera's picture if it is looked at now."""
        early_s = camera.interval_s / 2
        return tuple(
            model
            for due_s, model, pair in camera.waiting()
            if due_s <= now_s + max(early_s, TOGETHER / pair.granted)
        )

    def _beside(self, due: Sequence[str], now_s: float) -> list[str]:
        """Who of those that are due has a part that fits beside the first one's."""
        first, *others = (self._cameras[name] for name in due)
        models = self._soon(first, now_s)
        if len(models) != 1 or models[0] not in first.parts:
            return []
        parts, names = [first.parts[models[0]]], []
        for name, camera in zip(due[1:], others, strict=True):
            part = camera.parts.get(models[0])
            if part is None or self._soon(camera, now_s) != models:
                continue
            if pack([*parts, part]) is not None:
                parts.append(part)
                names.append(name)
        return names

    def _due(self, now_s: float) -> list[tuple[float, str]]:
        """Who is due: when, and which camera."""
        found = []
        for name, camera in self._cameras.items():
            is_due = camera.due_s <= now_s + camera.interval_s / 2
            if is_due and self._is_worth_it(name, camera, now_s):
                found.append((camera.due_s, name))
        return found

    def _is_worth_it(self, name: str, camera: _Camera, now_s: float) -> bool:
        """Whether the newest picture is to be looked at, or a newer one."""
        cost_s = sum(self._costs_s[model] for model in camera.pairs)
        is_late = now_s + cost_s > camera.captured_s + self._deadline_s
        if not is_late and now_s <= camera.fresh_until_s:
            return True
        # What fell due only when a newer one was soon to come waits for that one: it
        # is not late, and its camera does not starve.
        if camera.due_s - camera.interval_s / 2 > camera.fresh_until_s:
            return False
        if camera.refused is None:
            camera.refused = now_s, camera.number
        refused_s, number = camera.refused
        if number != camera.number and now_s - refused_s >= STARVE_S:
            return True
        if is_late:
            self.late[name] += 1
            camera.number = -1
            camera.settle()
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
            camera.settle()
