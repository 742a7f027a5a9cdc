"""One look: a picture through the models, on the engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from skerry.core.allowance import ShortWork
from skerry.core.clock import Clock
from skerry.core.errors import SkerryError, UsageError
from skerry.core.seams import Tensors
from skerry.core.video import Picture, Shot
from skerry.edge.engine import Engine
from skerry.edge.streams.eyes import Eye, Eyes
from skerry.edge.streams.leaving import keep
from skerry.edge.streams.mosaics import Corner, Part, pack, sort_out
from skerry.edge.streams.privacy import Coverable
from skerry.edge.streams.tracks import Seen
from skerry.edge.streams.watched import Found, Watched

FILL = 114
"""Between the parts of a mosaic: as detectors are used to."""

TRIES = 3
"""So often a release is chosen for a look, where each is gone before it was asked."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looked:
    """What became of a look.

    Attributes:
        found: What was found.
        coverable: The picture, which may leave once it is covered; or None.
        costs_s: What each model took; those that failed are left out.
        errors: Why those that failed did.
    """

    found: Found
    coverable: Coverable | None
    costs_s: Mapping[str, float]
    errors: Mapping[str, SkerryError]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """A part of a camera's picture that is to be looked at with others'."""

    watched: Watched
    shot: Shot
    part: Part


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
        self._short_work = ShortWork()

    async def look(self, watched: Watched, shot: Shot, models: Sequence[str]) -> Looked:
        """Look at a picture; a model that fails leaves the others' answers."""
        work = _Work(shot)
        for model in models:
            with self._kept(work, model):
                self._choose(work, model)
        models = list(work.eyes)
        named = "+".join(models)
        await self._compute(f"prepare {named}", lambda: self._prepare(work, models))
        await asyncio.gather(*(self._ask(work, model) for model in work.inputs))
        return await self._compute(f"read {named}", lambda: self._read(work, watched))

    async def look_together(self, views: Sequence[View], model: str) -> list[Looked]:
        """Look at parts of several pictures in one input of a model.

        Args:
            views: They fit together (`mosaics.pack`).
            model: By which model.
        """
        begun_s = self._clock.wall_s()
        seen: list[tuple[Seen, ...]] | None = None
        errors: dict[str, SkerryError] = {}
        try:
            seen = await self._see_together(views, model)
        except SkerryError as error:
            errors[model] = error
        took_s = (self._clock.wall_s() - begun_s) / len(views)
        return [
            Looked(
                found=Found(
                    shot=view.shot,
                    region=view.part.region,
                    tracked=None if seen is None else seen[place],
                    people=None,
                    faces=None,
                ),
                coverable=None,
                costs_s={} if seen is None else {model: took_s},
                errors=errors,
            )
            for place, view in enumerate(views)
        ]

    async def _see_together(
        self, views: Sequence[View], model: str
    ) -> list[tuple[Seen, ...]]:
        parts = [view.part for view in views]
        corners = pack(parts) or ()
        mosaic = await asyncio.to_thread(_compose, views, corners)
        for left in reversed(range(TRIES)):
            installed = self._engine.choose(model)
            eye = self._eyes.of(installed)
            inputs = await asyncio.to_thread(eye.prepare, mosaic)
            try:
                answer = await self._engine.infer(
                    model,
                    inputs,
                    version=installed.id.version,
                    deadline_s=self._deadline_s,
                    is_own=True,
                )
                break
            except UsageError:  # it was let go of meanwhile
                if not left:
                    raise
        boxes = eye.read(answer.outputs, *mosaic.shape[:2])
        return sort_out(boxes, parts, corners)

    def _choose(self, work: _Work, model: str) -> None:
        installed = self._engine.choose(model)
        work.eyes[model] = self._eyes.of(installed)
        work.versions[model] = installed.id.version

    async def _compute(self, name: str, work: Callable[[], _T]) -> _T:
        """Have something computed where that costs less."""
        if self._short_work.is_due(name, now_s=self._clock.wall_s()):
            return self._short_work.at_once(name, work, clock=self._clock)
        return await asyncio.to_thread(work)

    async def _ask(self, work: _Work, model: str) -> None:
        with self._kept(work, model):
            await self._ask_anew(work, model)

    async def _ask_anew(self, work: _Work, model: str) -> None:
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
        coverable = watched.veil.take(work.shot, faces=found.faces, people=found.people)
        shown = [one.region for one in found.tracked or ()]
        shown += [one.region for one in watched.tracker.tracks]
        if coverable and shown and watched.recent.wants(coverable.captured_s):
            watched.recent.add(keep(coverable.cover(), shown))
        self._charge(work, begun_s, list(work.outputs))
        costs = {model: work.took_s[model] for model in work.seen}
        return Looked(
            found=found, coverable=coverable, costs_s=costs, errors=work.errors
        )

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


def _compose(views: Sequence[View], corners: Sequence[Corner]) -> Picture:
    """The input with the part of each picture in its place."""
    frame = views[0].part.frame
    mosaic = np.full((*frame, 3), FILL, dtype=np.uint8)
    for view, corner in zip(views, corners, strict=True):
        left, top, right, bottom = view.part.box
        scaled = view.shot.to_size(*view.part.picture)
        part = scaled[top:bottom, left:right]
        rows, columns = part.shape[:2]
        mosaic[corner.top : corner.top + rows, corner.left : corner.left + columns] = (
            part
        )
    return mosaic


def _joined(work: _Work, finds: set[str]) -> tuple[Seen, ...] | None:
    """What the models of a kind have seen; None where one of them has not looked."""
    models = [model for model, eye in work.eyes.items() if eye.finds in finds]
    if not models or any(model not in work.seen for model in models):
        return None
    return tuple(one for model in models for one in work.seen[model])
