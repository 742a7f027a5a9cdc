"""What was asked, what was done, and whether each answer was one that was allowed.

A request is judged when it ends, by what stood and what was broken between its sending
and its answer: a few hundred requests a second are judged one by one, against a journal
of every change, not against totals.
"""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skerry.core.release import ReleaseId
from skerry.edge.engine import Engine, Routing
from tests.serving import Response
from tests.storm.shelf import SOUR_BELOW, Shelf

LATE_SLACK_S = 10.0
"""An answer may come so long after its deadline: this machine has much else to do."""

CRASH_LOOP_S = 125.0
"""How long deaths may be remembered: the window, and the longest pause after it."""

DEATHS = {
    "kill": 1,
    "stop": 1,
    "hang": 1,
    "freeze": 1,
    "crash": 2,
    "exit": 2,
    "hog": 2,
    "odd": 0,
    "raise": 0,
    "fail": 0,
    "swell": 0,
}
"""How many workers each harm costs at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """Who may answer under a name from a moment on.

    Attributes:
        at_s: The moment.
        loaded: The versions that are loaded.
        eligible: Those that answer a request that names none.
    """

    at_s: float
    loaded: frozenset[int]
    eligible: frozenset[int]


@dataclass(slots=True, kw_only=True)
class Harm:
    """Something that breaks workers of a name, from its beginning to its end."""

    kind: str
    began_s: float
    ended_s: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request.

    Attributes:
        id: Its answer must have the same.
        name: Of the release.
        x: The numbers.
        harm: What they do, or empty.
        version: Which version is asked for, or None.
        deadline_s: As given; the service's own otherwise.
        sent_s: When.
    """

    id: str
    name: str
    x: Any
    harm: str = ""
    version: int | None = None
    deadline_s: float
    sent_s: float = field(default_factory=time.monotonic)


class JournaledEngine(Engine):
    """An engine that writes down what stands after each change."""

    journal: dict[str, list[Stand]]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.journal = defaultdict(list)

    def switch(self, prepared: Any) -> None:
        super().switch(prepared)
        self._note(prepared.installed.id.name)

    def roll_back(self, name: str) -> ReleaseId | None:
        back = super().roll_back(name)
        self._note(name)
        return back

    def settle(self, name: str) -> None:
        super().settle(name)
        self._note(name)

    def route(self, name: str, routing: Routing) -> None:
        super().route(name, routing)
        self._note(name)

    def remove(self, name: str) -> None:
        super().remove(name)
        self._note(name)

    def _note(self, name: str) -> None:
        loaded = self.versions(name)
        eligible = frozenset(loaded)
        if loaded:
            routing = self.routing(name)
            if routing.kind == "latest":
                eligible = frozenset(loaded[:1])
            elif routing.kind == "pinned":
                eligible = frozenset((routing.version or 0,))
        self.journal[name].append(
            Stand(at_s=time.monotonic(), loaded=frozenset(loaded), eligible=eligible)
        )


class Ledger:
    """Judges every request.

    Args:
        engine: Whose journal says what stood.
        shelf: Knows which releases are sour.
        calm: The names that nothing may happen to.
    """

    def __init__(
        self, engine: JournaledEngine, shelf: Shelf, *, calm: tuple[str, ...]
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.calm_worst_s = self.gap_worst_s = 0.0
        self.late_worst_s = -math.inf
        self.waiting: Counter[str] = Counter()
        self._full_s: dict[str, float] = {}
        self._last_s: dict[str, float] = defaultdict(time.monotonic)
        self._engine = engine
        self._shelf = shelf
        self._calm = calm
        self._harms: dict[str, list[Harm]] = defaultdict(list)

    def harm(self, name: str, kind: str, *, lasts_s: float = math.inf) -> Harm:
        """Something breaks from now on."""
        now_s = time.monotonic()
        made = Harm(kind=kind, began_s=now_s, ended_s=now_s + lasts_s)
        self._harms[name].append(made)
        return made

    @contextmanager
    def asking(self, asked: Asked, *, most: int) -> Iterator[None]:
        """A request is under way; `most` of them make a line full."""
        name = asked.name
        self.counts["sent"] += 1
        self.waiting[name] += 1
        if self.waiting[name] >= most:
            self._full_s[name] = time.monotonic()
        harm = self.harm(name, asked.harm) if asked.harm in DEATHS else None
        try:
            yield
        finally:
            if self.waiting[name] >= most:
                self._full_s[name] = time.monotonic()
            self.waiting[name] -= 1
            if harm is not None:
                harm.ended_s = time.monotonic() + 1.0

    def lost(self, asked: Asked, error: BaseException) -> None:
        """A request got no answer."""
        self._fault(asked, f"no answer: {type(error).__name__}: {error}")

    def left(self, asked: Asked) -> None:
        """A client left before its answer."""
        del asked
        self.counts["left"] += 1

    def answered(self, asked: Asked, response: Response) -> None:
        """A request got its answer."""
        now_s = time.monotonic()
        took_s = now_s - asked.sent_s
        self.counts[str(response.status)] += 1
        late_s = took_s - asked.deadline_s
        self.late_worst_s = max(self.late_worst_s, late_s)
        if asked.name in self._calm:
            self.calm_worst_s = max(self.calm_worst_s, took_s)
            last_s, self._last_s[asked.name] = self._last_s[asked.name], now_s
            self.gap_worst_s = max(self.gap_worst_s, now_s - last_s)
        if late_s > LATE_SLACK_S:
            self._fault(asked, f"{late_s:.2f} s after its deadline: {response}")
        elif what := self._judge(asked, response, took_s):
            self._fault(asked, f"{what}: {response}")

    def summary(self) -> str:
        """What came of it, in one line."""
        counts = ", ".join(f"{self.counts[key]} {key}" for key in sorted(self.counts))
        return (
            f"{counts}; the calm: slowest {self.calm_worst_s:.2f} s, longest gap "
            f"{self.gap_worst_s:.2f} s; latest answer {self.late_worst_s:+.3f} s "
            "after its deadline"
        )

    def _judge(self, asked: Asked, response: Response, took_s: float) -> str:
        """Say what is wrong with an answer, or nothing."""
        if response.status == 200:
            return self._judge_answer(asked, response.json)
        told = response.json
        if not (told.get("error") and told.get("code")):
            return "an error without a type"
        if asked.name in self._calm:
            return "a calm name was hit"
        match response.status:
            case 504:
                is_allowed = took_s >= asked.deadline_s - 0.01
            case 429:
                has_hint = int(response.headers.get("retry-after", 0)) >= 1
                full_s = self._full_s.get(asked.name, -1.0)
                is_allowed = has_hint and full_s >= asked.sent_s - 1.0
            case 404:
                is_allowed = self._was_missing(asked)
            case 500:
                is_harm = asked.harm in DEATHS
                is_allowed = is_harm or self._may_fail(asked, told["error"])
            case _:
                is_allowed = False
        return "" if is_allowed else "not allowed now"

    def _judge_answer(self, asked: Asked, told: Any) -> str:
        if told.get("id") != asked.id:
            return "the answer to another request"
        if asked.harm not in {"", "nap"}:
            return "an answer where there can be none"
        version = int(told["model_version"])
        release = f"{asked.name}/{version}"
        if (told["model_name"], told["parameters"]["release"]) != (asked.name, release):
            return "of another name"
        y = np.array(told["outputs"][0]["data"], np.float32).reshape(asked.x.shape)
        if not np.array_equal(y, asked.x * np.float32(version)):
            return f"not what {release} answers"
        if asked.version not in {None, version}:
            return "of another version than was asked for"
        allowed = {
            each
            for stand in self._stands(asked)
            for each in (stand.eligible if asked.version is None else stand.loaded)
        }
        return "" if version in allowed else f"version {version} not among {allowed}"

    def _was_missing(self, asked: Asked) -> bool:
        if asked.version is None:
            return any(not stand.loaded for stand in self._stands(asked))
        return any(asked.version not in each.loaded for each in self._stands(asked))

    def _may_fail(self, asked: Asked, what: str) -> bool:
        """Whether a request that does no harm may have been hit by others' harm."""
        if "it stumbled" in what:
            is_sour = any(
                (asked.name, version) in self._shelf.sour
                for stand in self._stands(asked)
                for version in stand.loaded
            )
            return is_sour and asked.x.flat[0] < SOUR_BELOW
        if "brought down" in what:
            return self._deaths(asked.name, asked.sent_s) >= 2
        if "again and again" in what:
            return self._deaths(asked.name, asked.sent_s - CRASH_LOOP_S) >= 3
        return "interrupted" in what and self._deaths(asked.name, asked.sent_s) >= 1

    def _deaths(self, name: str, since_s: float) -> int:
        return sum(
            DEATHS[harm.kind] for harm in self._harms[name] if harm.ended_s >= since_s
        )

    def _stands(self, asked: Asked) -> list[Stand]:
        """What stood while a request was under way."""
        stands = self._engine.journal[asked.name]
        later = [stand for stand in stands if stand.at_s > asked.sent_s]
        earlier = stands[: len(stands) - len(later)]
        return earlier[-1:] + later

    def _fault(self, asked: Asked, what: str) -> None:
        x = asked.x.flat[0]
        self.wrong.append(
            f"{asked.id} to {asked.name} (version {asked.version}, harm "
            f"{asked.harm or 'none'}, x {x:g}, deadline {asked.deadline_s:g} s): {what}"
        )
