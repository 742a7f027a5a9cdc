"""One look: a picture through the models, and into a veiled picture; on the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from skerry.core.clock import Clock
from skerry.core.errors import SkerryError, UsageError
from skerry.core.seams import Tensors
from skerry.core.video import Shot
from skerry.edge.engine import Engine
from skerry.edge.streams.eyes import Eye, Eyes
from skerry.edge.streams.leaving import keep
from skerry.edge.streams.privacy import Veiled
from skerry.edge.streams.tracks import Seen
from skerry.edge.streams.watched import Found, Watched

TRIES = 3
"""So often a release is chosen for a look, where each is gone before it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looked:
    """What became of a look.

    Attributes:
        found: What was found.
        veiled: The picture as it may leave, or None.
        costs_s: What each model took; those that failed are left out.
        errors: Why those that failed did.
    """

    found: Found
    veiled: Veiled | None
    costs_s: Mapping[str, float]
    errors: Mapping[str, SkerryError]


class _Work:
    """A look under way: one thread at a time has it."""

    def __init__(self, shot: Shot) -> None:
        self.shot = shot
        self.eyes: dict[str, Eye] = {}
        self.versions: dict[str, int] = {}
        self.inputs: dict[str, Tensors] = {}
        self.outputs: dict[str, Tensors] = {}
        self.seen: dict[str, tuple[Seen, ...]] = {}
        self.took_s: dict[str, float] = {}
        self.errors: dict[str, SkerryError] = {}


class Looker:
    """Has models look at pictures.

    Args:
        engine: Runs them.
        eyes: How each is fed and read.
        clock: What measures time.
        deadline_s: How long an inference may wait and run.
    """

    def __init__(
        self, engine: Engine, eyes: Eyes, *, clock: Clock, deadline_s: float
    ) -> None:
        self._engine = engine
        self._eyes = eyes
        self._clock = clock
        self._deadline_s = deadline_s

    async def look(self, watched: Watched, shot: Shot, models: Sequence[str]) -> Looked:
        """Look at a picture; a model that fails leaves the others' answers."""
        work = _Work(shot)
        for model in models:
            with self._kept(work, model):
                self._choose(work, model)
        await asyncio.to_thread(self._prepare, work, list(work.eyes))
        for model in list(work.inputs):
            with self._kept(work, model):
                await self._ask(work, model)
        return await asyncio.to_thread(self._read, work, watched)

    def _choose(self, work: _Work, model: str) -> None:
        installed = self._engine.choose(model)
        work.eyes[model] = self._eyes.of(installed)
        work.versions[model] = installed.id.version

    async def _ask(self, work: _Work, model: str) -> None:
        """Ask the very release that the picture was prepared for.

        Where it was let go of meanwhile, what serves now is prepared for and asked.
        """
        for left in reversed(range(TRIES)):
            try:
                answer = await self._engine.infer(
                    model,
                    work.inputs[model],
                    version=work.versions[model],
                    deadline_s=self._deadline_s,
                    is_own=True,
                )
            except UsageError:
                if not left:
                    raise
                self._choose(work, model)
                await asyncio.to_thread(self._prepare, work, [model])
                if model in work.errors:
                    return
            else:
                work.outputs[model] = answer.outputs
                work.took_s[model] += answer.latency_ms / 1000
                return

    def _prepare(self, work: _Work, models: list[str]) -> None:
        begun_s = self._clock.wall_s()
        for model in models:
            with self._kept(work, model):
                eye = work.eyes[model]
                size = eye.size_of(*work.shot.luma.shape)
                work.inputs[model] = eye.prepare(work.shot.to_size(*size))
        self._charge(work, begun_s, models)

    def _read(self, work: _Work, watched: Watched) -> Looked:
        begun_s = self._clock.wall_s()
        rows, columns = work.shot.luma.shape
        for model, outputs in work.outputs.items():
            with self._kept(work, model):
                work.seen[model] = work.eyes[model].read(outputs, rows, columns)
        found = Found(
            shot=work.shot,
            tracked=_joined(work, {"people", "objects"}),
            people=_joined(work, {"people"}),
            faces=_joined(work, {"faces"}),
        )
        veiled = watched.veil.cover(work.shot, faces=found.faces, people=found.people)
        shown = [one.region for one in found.tracked or ()]
        shown += [one.region for one in watched.tracker.tracks]
        if veiled is not None and shown and watched.recent.wants(veiled.captured_s):
            watched.recent.add(keep(veiled, shown))
        self._charge(work, begun_s, list(work.outputs))
        costs = {model: work.took_s[model] for model in work.seen}
        return Looked(found=found, veiled=veiled, costs_s=costs, errors=work.errors)

    def _charge(self, work: _Work, begun_s: float, models: list[str]) -> None:
        took_s = self._clock.wall_s() - begun_s
        for model in models:
            work.took_s[model] = work.took_s.get(model, 0.0) + took_s / len(models)

    @contextlib.contextmanager
    def _kept(self, work: _Work, model: str) -> Iterator[None]:
        try:
            yield
        except SkerryError as error:
            work.errors[model] = error


def _joined(work: _Work, finds: set[str]) -> tuple[Seen, ...] | None:
    """What the models of a kind have seen; None where one of them has not looked."""
    models = [model for model, eye in work.eyes.items() if eye.finds in finds]
    if not models or any(model not in work.seen for model in models):
        return None
    return tuple(one for model in models for one in work.seen[model])
