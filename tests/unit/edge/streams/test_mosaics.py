from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.errors import RuntimeFailure, UsageError
from skerry.core.seams import Tensors
from skerry.core.video import Picture
from skerry.edge.streams.eyes import EyeSettings
from skerry.edge.streams.looking import Looker
from skerry.edge.streams.mosaics import (
    AUDIT_EACH,
    LEAST_KNOWN,
    RETRY_S,
    MosaicLoss,
    Part,
    Size,
    pack,
)
from skerry.edge.streams.scheduler import Look, Scheduler, Want
from skerry.edge.streams.settings import CameraEntry, ModelSettings
from skerry.edge.streams.together import Offered, Together
from skerry.edge.streams.tracks import WHOLE, Seen, Tracker
from skerry.edge.streams.watched import Found, Watched
from tests.videos import COLUMNS, ROWS, HandCamera, scene, shot_of

FRAME = Size(ROWS, COLUMNS)
SMALL = Part(region=(0.1, 0.2, 0.4, 0.6), picture=FRAME, frame=FRAME)
LARGE = Part(region=(0.0, 0.0, 0.9, 0.9), picture=FRAME, frame=FRAME)


def person(*region: float, score: float = 0.9) -> Seen:
    """Somebody in a region."""
    left, top, right, bottom = region
    return Seen(region=(left, top, right, bottom), score=score, label="person")


def test_parts_that_do_not_fit_are_refused() -> None:
    """Or that are for inputs of other sizes, or too many."""
    assert pack([SMALL, SMALL, SMALL]) is not None
    assert pack([SMALL, LARGE]) is None
    assert pack([SMALL, SMALL._replace(frame=Size(ROWS + 1, COLUMNS))]) is None
    speck = SMALL._replace(region=(0.1, 0.1, 0.11, 0.11))
    assert pack([speck] * 8) is not None
    assert pack([speck] * 9) is None


class TestLoss:
    """What mosaics miss is measured, and they are used as far as it is allowed."""

    @staticmethod
    def known(share: float) -> MosaicLoss:
        """A loss that is known."""
        loss = MosaicLoss(allowed=0.02, sure=0.5)
        whole = person(0.2, 0.2, 0.3, 0.4)
        for number in range(LEAST_KNOWN):
            part = [] if number < share * LEAST_KNOWN else [whole]
            loss.compare([whole], part, (0.1, 0.1, 0.5, 0.5))
        return loss

    def test_all_are_audited_until_it_is_known(self) -> None:
        """And each so manieth from then on."""
        loss = MosaicLoss(allowed=0.02, sure=0.5)
        assert loss.may_try(0.0)
        assert loss.begin(0.0)
        assert loss.figures().lost_share is None
        loss = self.known(0.02)
        assert loss.may_try(0.0)
        assert [loss.begin(0.0) for _ in range(AUDIT_EACH)].count(True) == 1
        assert loss.figures().is_used
        assert loss.figures().lost_share == pytest.approx(0.02)

    def test_what_loses_more_is_tried_now_and_then_only(self) -> None:
        """Scenes change; what it finds then is told of whole pictures."""
        loss = self.known(0.03)
        assert not loss.figures().is_used
        assert loss.may_try(100.0)
        assert loss.begin(100.0)
        assert not loss.may_try(100.0 + RETRY_S / 2)
        assert loss.may_try(100.0 + RETRY_S)

    def test_nobody_is_asked_for_what_is_not_allowed(self) -> None:
        """0 is the default."""
        assert not MosaicLoss(allowed=0.0, sure=0.5).may_try(0.0)
        assert ModelSettings(path="", task="").mosaic_loss == 0
        with pytest.raises(UsageError, match="mosaic_loss is 1"):
            ModelSettings(path="", task="", mosaic_loss=1.0)

    def test_only_what_is_surely_and_wholly_there_is_counted(self) -> None:
        """An unsure box at its place is enough."""
        loss = MosaicLoss(allowed=0.02, sure=0.5)
        there, region = (0.2, 0.2, 0.3, 0.4), (0.1, 0.1, 0.5, 0.5)
        loss.compare([person(*there, score=0.4)], [], region)
        loss.compare([person(0.4, 0.2, 0.6, 0.4)], [], region)
        assert loss.figures().objects == 0
        loss.compare(
            [person(*there)], [person(0.21, 0.2, 0.3, 0.41, score=0.3)], region
        )
        loss.compare([person(*there)], [person(0.4, 0.2, 0.5, 0.4)], region)
        assert loss.figures().objects == 2
        assert loss.figures().lost_share == 0.5


def test_who_is_outside_of_a_part_may_still_be_there() -> None:
    """Only who should be in it is lost."""
    tracker = Tracker()
    left, right = person(0.1, 0.2, 0.2, 0.6), person(0.8, 0.2, 0.9, 0.6)
    for at_s in (0.0, 0.2):
        tracker.update([left, right], at_s)
    for at_s in (1.0, 1.8, 2.6):
        tracked = tracker.update([], at_s, within=(0.0, 0.0, 0.5, 1.0))
    assert [track.region for track in tracked.tracks] == [right.region]
    assert [track.region for track in tracked.ended] == [left.region]


def _scheduler(parts: dict[str, Part]) -> Scheduler:
    scheduler = Scheduler({"people": 0.01}, capacity=1.6, deadline_s=0.2)
    for camera in "abc":
        scheduler.join(camera)
        scheduler.want(camera, {"people": Want(rate=5.0, least=1.0)})
        part = {"people": parts[camera]} if camera in parts else {}
        scheduler.offer(camera, 7, 10.0, now_s=10.0, parts=part)
    return scheduler


def test_parts_that_are_due_together_are_looked_at_together() -> None:
    """Those that fit; who has none is looked at alone, and pays for itself."""
    scheduler = _scheduler({"a": SMALL, "b": LARGE, "c": SMALL})
    look = scheduler.next(10.0)
    assert look is not None
    assert look.all == (look, Look(camera="c", number=7, models=("people",)))
    scheduler.ended(look, {"people": 0.01})
    assert scheduler.costs_s["people"] < 0.01  # half of it each
    alone = scheduler.next(10.01)
    assert alone == Look(camera="b", number=7, models=("people",))
    scheduler.ended(alone, {"people": 0.01})
    assert scheduler.next(10.02) is None


def test_a_picture_that_other_models_want_is_looked_at_whole() -> None:
    """And one of which no part will do."""
    for parts in ({}, {"b": SMALL, "c": SMALL}):
        look = _scheduler(parts).next(10.0)
        assert look is not None
        assert not look.beside
    both = Scheduler({"people": 0.01, "faces": 0.01}, capacity=1.6)
    for camera in "ab":
        both.join(camera)
        both.want(camera, dict.fromkeys(("people", "faces"), Want(rate=5.0, least=1.0)))
        both.offer(camera, 0, 10.0, now_s=10.0, parts={"people": SMALL})
    look = both.next(10.0)
    assert look is not None
    assert look.models == ("people", "faces")
    assert not look.beside


class SquareEye:
    """Finds the one bright square in each of the pictures that it is given."""

    frame = FRAME
    finds = "people"

    def size_of(self, *_: int) -> tuple[int, int]:
        return ROWS, COLUMNS

    def prepare(self, picture: Picture) -> Tensors:
        return {"x": picture}

    def read(self, outputs: Tensors, rows: int, columns: int) -> tuple[Seen, ...]:
        bright = outputs["y"] > 220
        found = []
        while bright.any():
            top, left = np.argwhere(bright)[0]
            height = int((~bright[top:, left]).argmax())
            width = int((~bright[top, left:]).argmax())
            bright[top : top + height, left : left + width] = False
            box = (left, top, left + width, top + height)
            sides = (columns, rows, columns, rows)
            found.append(person(*(b / s for b, s in zip(box, sides, strict=True))))
        return tuple(found)


class Stage:
    """Two cameras, each with a square that is known, and a model that may fail."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.is_broken = False
        self.runs = 0
        eyes: Any = SimpleNamespace(
            names=("people",),
            settings=lambda name: EyeSettings(name=name, mosaic_loss=0.02),
            of=lambda _: SquareEye(),
        )
        installed = SimpleNamespace(id=SimpleNamespace(version=1))
        engine: Any = SimpleNamespace(
            find=lambda _: installed, choose=lambda _: installed, infer=self.infer
        )
        looker = Looker(engine, eyes, clock=self.clock, deadline_s=1.0)
        self.together = Together(looker, engine, eyes, clock=self.clock)

    async def infer(self, name: str, inputs: Tensors, **_: object) -> Any:
        assert name == "people"
        self.runs += 1
        if self.is_broken:
            raise RuntimeFailure("it broke", hint="")
        return SimpleNamespace(outputs={"y": inputs["x"][:, :, 0].copy()}, latency_ms=5)

    def offered(self, name: str, left: int) -> Offered:
        """A camera with its square, seen twice on the whole."""
        watched = Watched(
            CameraEntry(name=name, url="x"),
            HandCamera(name, self.clock),
            sure=0.5,
            clip_s=0,
            bytes_per_day=0,
        )
        picture = scene()
        picture[60:100, left : left + 40] = 250
        seen = [person(left / COLUMNS, 60 / ROWS, (left + 40) / COLUMNS, 100 / ROWS)]
        for at_s in (0.0, 0.2):
            shot = shot_of(picture, at_s=at_s)
            watched.take(shot)
            watched.apply(Found(shot=shot, tracked=seen, people=seen, faces=None))
        shot = shot_of(picture, at_s=0.4)
        watched.take(shot)
        return self.together.offer(watched, shot)


def test_squares_of_two_cameras_are_found_in_one_look() -> None:
    """Each in its own picture, within a pixel; audited while the loss is not known."""
    stage = Stage()
    offered = [stage.offered("a", 40), stage.offered("b", 200)]
    looked = asyncio.run(stage.together.look(offered, "people"))
    assert stage.runs == 3  # the mosaic, and both whole
    assert [one.found.region for one in looked] == [WHOLE, WHOLE]
    figures = stage.together.figures()["people"]
    assert (figures.objects, figures.lost_share) == (2, 0.0)
    known = TestLoss.known(0.0)
    stage.together._losses["people"] = known
    looked = asyncio.run(stage.together.look(offered, "people"))
    assert stage.runs == 4
    for one, left in zip(looked, (40, 200), strict=True):
        (square,) = one.found.tracked or ()
        assert square.region[0] * COLUMNS == pytest.approx(left, abs=1)
        assert square.region[3] * ROWS == pytest.approx(100, abs=1)
        assert one.found.region != WHOLE
        assert one.coverable is None


def test_a_model_that_fails_is_told_for_each_picture() -> None:
    """Nothing is learnt of it."""
    stage = Stage()
    offered = [stage.offered("a", 40), stage.offered("b", 200)]
    stage.is_broken = True
    looked = asyncio.run(stage.together.look(offered, "people"))
    assert [list(one.errors) for one in looked] == [["people"]] * 2
    assert [one.found.tracked for one in looked] == [None, None]
    assert stage.together.figures()["people"].objects == 0


def test_all_of_a_picture_is_looked_at_each_second() -> None:
    """And where nobody is known."""
    stage = Stage()
    one = stage.offered("a", 40)
    assert list(one.parts) == ["people"]
    assert one.watched.part(1.1) is not None
    assert one.watched.part(1.2) is None
    fresh = Watched(
        CameraEntry(name="c", url="x"),
        HandCamera("c", stage.clock),
        sure=0.5,
        clip_s=0,
        bytes_per_day=0,
    )
    assert fresh.part(0.0) is None
