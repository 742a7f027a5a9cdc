"""Looks at parts of several pictures at once, as far as that loses little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from skerry.core.clock import Clock
from skerry.core.errors import SkerryError
from skerry.core.video import Shot
from skerry.edge.engine import Engine
from skerry.edge.streams.eyes import Eyes
from skerry.edge.streams.gate import Region
from skerry.edge.streams.looking import Looked, Looker, View
from skerry.edge.streams.mosaics import MosaicFigures, MosaicLoss, Part, Size
from skerry.edge.streams.watched import Watched


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Offered:
    """A picture, and the parts of it that will do, by model."""

    watched: Watched
    shot: Shot
    parts: Mapping[str, Part]


class Together:
    """Mosaics of the models that have an allowance for them.

    Args:
        looker: Looks.
        engine: Serves the models.
        eyes: How each is fed and read.
        clock: What measures time.
    """

    def __init__(
        self, looker: Looker, engine: Engine, eyes: Eyes, *, clock: Clock
    ) -> None:
        self._looker = looker
        self._engine = engine
        self._eyes = eyes
        self._clock = clock
        settings = [eyes.settings(name) for name in eyes.names]
        # Faces are looked for on whole pictures alone: they are to be covered.
        self._losses = {
            one.name: MosaicLoss(allowed=one.mosaic_loss, sure=one.sure)
            for one in settings
            if one.mosaic_loss and one.finds != "faces"
        }

    def offer(self, watched: Watched, shot: Shot) -> Offered:
        """Choose the parts of a camera's newest picture that may be looked at alone."""
        now_s = self._clock.wall_s()
        tried = [model for model, loss in self._losses.items() if loss.may_try(now_s)]
        region = watched.part(shot.captured_s) if tried else None
        parts = {}
        if region is not None:
            for model in tried:
                part = self._part(model, region, shot)
                if part is not None:
                    parts[model] = part
        return Offered(watched=watched, shot=shot, parts=parts)

    async def look(self, offered: Sequence[Offered], model: str) -> list[Looked]:
        """Look at the parts of pictures; now and then at all of them, too.

        Returns:
            What became of each. What was seen of a whole picture comes before what
            was seen of its part, and the costs are those of all that was done.
        """
        loss = self._losses[model]
        views = [
            View(watched=one.watched, shot=one.shot, part=one.parts[model])
            for one in offered
        ]
        looked = await self._looker.look_together(views, model)
        if not loss.begin(self._clock.wall_s()):
            return looked
        found = []
        for view, part in zip(views, looked, strict=True):
            whole = await self._looker.look(view.watched, view.shot, [model])
            if whole.found.tracked is None or part.found.tracked is None:
                found.append(part)
                continue
            loss.compare(whole.found.tracked, part.found.tracked, view.part.region)
            costs_s = {model: whole.costs_s[model] + part.costs_s[model]}
            found.append(replace(whole, costs_s=costs_s))
        return found

    def figures(self) -> dict[str, MosaicFigures]:
        """What mosaics of each model lose."""
        return {model: loss.figures() for model, loss in self._losses.items()}

    def _part(self, model: str, region: Region, shot: Shot) -> Part | None:
        try:
            eye = self._eyes.of(self._engine.find(model))
        except SkerryError:
            return None  # the look itself will say why
        frame, size = eye.frame, Size(*eye.size_of(*shot.luma.shape))
        if frame is None or size.rows > frame.rows or size.columns > frame.columns:
            return None
        return Part(region=region, picture=size, frame=frame)
