"""Which of the versions loaded under a name answers a request.

A policy (`Routing`) stands until another is set; releases come and go under it:

- `latest`: what was switched to last.
- `pinned`: one version, whatever is switched to meanwhile.
- `canary`: a share of the requests goes to the candidate, the rest to the stable one.
- `shadow`: the stable one answers, the candidate runs each request too.

The candidate of the last two is the version that they name; where they name none, it is
whatever is on probation, until it has settled or was rolled back. The stable release is
the newest of the others. A candidate that takes other inputs or gives other outputs
than the stable one gets nothing: no request fits both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from skerry.core.errors import UsageError
from skerry.edge.installed import Installed
from skerry.edge.loaded import Loaded

RoutingKind = Literal["latest", "pinned", "canary", "shadow"]

_TURN = 0x9E3779B9
"""2³² times the golden ratio's fraction: its multiples fill the circle most evenly (D.
E. Knuth, "The Art of Computer Programming", volume 3, section 6.4), so that any few
requests in a row, and each n-th of them, are split as the whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Who answers the requests that name no version.

    Attributes:
        kind: `latest`, `pinned`, `canary` or `shadow`.
        version: Of the pinned release or of the candidate; None: see above.
        share: What fraction of the requests the candidate of a canary answers.
    """

    kind: RoutingKind = "latest"
    version: int | None = None
    share: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: The kind is none, the share no fraction, or a version is missing
                or has no meaning.
        """
        is_kind = self.kind in {"latest", "pinned", "canary", "shadow"}
        is_named = self.version is not None
        fits = {"latest": not is_named, "pinned": is_named}.get(self.kind, True)
        if not is_kind or not fits or not 0 <= self.share <= 1:
            raise UsageError(
                f"got the routing {self.kind!r} of version {self.version} with a share "
                f"of {self.share}, expected latest (no version), pinned (a version), "
                "canary or shadow, and a share from 0 to 1",
                hint="Pin a version, or give a canary its share.",
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Versions:
    """What stands under one name; replaced as a whole, never changed.

    Attributes:
        loaded: The releases, that switched to last first; at least one.
        fallback: What served before the last switch, until it has settled.
        routing: Who answers.
    """

    loaded: tuple[Loaded, ...]
    fallback: Loaded | None = None
    routing: Routing = Routing()

    @property
    def latest(self) -> Loaded:
        """What was switched to last."""
        return self.loaded[0]

    @property
    def candidate(self) -> Loaded | None:
        """What a canary or shadow tries out, or None where there is none."""
        candidate = self._candidate
        if candidate is None or not is_alike(
            candidate.installed, self.stable.installed
        ):
            return None
        return candidate

    @property
    def stable(self) -> Loaded:
        """What answers whenever the candidate does not."""
        if self.routing.kind == "latest":
            return self.latest
        if self.routing.kind == "pinned":
            return self.find(self.routing.version) or self.latest
        candidate = self._candidate
        others = [each for each in self.loaded if each is not candidate]
        return others[0] if others else self.latest

    @property
    def _candidate(self) -> Loaded | None:
        routing = self.routing
        if routing.kind not in {"canary", "shadow"}:
            return None
        if routing.version is None:
            return self.latest if self.fallback is not None else None
        found = self.find(routing.version)
        return found if len(self.loaded) > 1 else None

    def find(self, version: int | None) -> Loaded | None:
        """The release of a version, that switched to last if there are two."""
        found = (e for e in self.loaded if e.installed.id.version == version)
        return next(found, None)

    def pick(self, turn: int) -> Loaded:
        """Who answers the request of this number."""
        if self.routing.kind == "canary" and falls_to_candidate(
            turn, self.routing.share
        ):
            return self.candidate or self.stable
        return self.stable

    def switched(self, loaded: Loaded) -> Versions:
        """With another release as the latest, on probation."""
        both = (loaded, *self.loaded)
        return _prune(replace(self, loaded=both, fallback=self.latest))

    def settled(self) -> Versions:
        """With the probation over."""
        return _prune(replace(self, fallback=None))

    def rolled_back(self) -> Versions | None:
        """Without the latest; None where there is nothing to go back to."""
        if self.fallback is None:
            return None
        back = self.fallback
        rest = tuple(e for e in self.loaded if e not in {self.latest, back})
        left = replace(self, loaded=(back, *rest), fallback=None)
        version = self.routing.version
        if version is not None and left.find(version) is None:
            left = replace(left, routing=Routing())
        return _prune(left)

    def routed(self, routing: Routing) -> Versions:
        """Under another policy.

        Raises:
            UsageError: Its version is not loaded, is the only one, or takes other
                inputs or gives other outputs than the one that it is tried out against.
        """
        changed = replace(self, routing=routing)
        version = routing.version
        if version is not None and changed.find(version) is None:
            known = ", ".join(str(e.installed.id.version) for e in self.loaded)
            raise UsageError(
                f"version {version} of {self.latest.installed.id.name!r} is not loaded",
                hint=f"Loaded: {known}.",
            )
        is_trial = routing.kind in {"canary", "shadow"} and version is not None
        if is_trial and changed.candidate is None:
            raise UsageError(
                f"version {version} of {self.latest.installed.id.name!r} has nothing "
                "beside it of the same inputs and outputs",
                hint="Load the other version first; or pin the one that shall serve.",
            )
        return _prune(changed)

    def without(self, later: Versions | None) -> Iterable[Loaded]:
        """What of it is in the later one no more."""
        kept = later.loaded if later else ()
        return [each for each in self.loaded if each not in kept]


def falls_to_candidate(turn: int, share: float) -> bool:
    """Whether a share of all numbers from 0 on, spread most evenly, holds this one."""
    return (turn * _TURN & 0xFFFFFFFF) < share * 2.0**32


def is_alike(one: Installed, other: Installed) -> bool:
    """Whether two releases take the same inputs and give the same outputs."""
    return one.inputs == other.inputs and one.outputs == other.outputs


def _prune(versions: Versions) -> Versions:
    """Without what nothing needs any more."""
    needed = {versions.latest, versions.fallback, versions.stable}
    if versions.routing.version is not None:
        needed.add(versions.find(versions.routing.version))
    return replace(versions, loaded=tuple(e for e in versions.loaded if e in needed))
