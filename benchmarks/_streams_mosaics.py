"""What mosaics lose: each picture of one is looked at whole, too, and compared."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks._found import Found, Plan, row, tell
from benchmarks._harness import Measured, Row
from benchmarks._stages import WORK
from benchmarks._streams_footage import FRAMES_PER_S, footage
from benchmarks._streams_load import QUICK_SECONDS, SECONDS
from benchmarks._streams_stage import EXAMPLES, opened_engine, settings_of
from benchmarks.nets.places import data_folder, keep
from skerry.core.clock import FakeClock, SystemClock
from skerry.core.video import Shot
from skerry.device._video import Video
from skerry.device.cameras import CameraSettings, VideoCamera
from skerry.edge.streams.looking import Looker
from skerry.edge.streams.mosaics import MosaicFigures, MosaicLoss, pack
from skerry.edge.streams.settings import CameraEntry, CamerasSettings, ModelSettings
from skerry.edge.streams.together import Offered, Together
from skerry.edge.streams.tracks import WHOLE
from skerry.edge.streams.watched import Watched

BAR = "streams.mosaic.loss"
ALLOWED = 0.02
SURE = 0.5
CAMERAS, QUICK_CAMERAS = 12, 6
TOGETHER = 6
"""So many cameras' pictures are there at once."""

_YOLOX = """
[[pre]]
step = "letterbox"
height = 416
width = 416
anchor = "top_left"

[[pre]]
step = "normalize"

[[pre]]
step = "layout"
channels = "BGR"

[[post]]
step = "yolox"
height = 416
width = 416

[[post]]
step = "nms"
iou = 0.45
min_score = 0.25
"""


def measure_mosaics(plan: Plan) -> Found:
    """The loss of each detector's mosaics, and of those that are used."""
    count = plan.count(CAMERAS, QUICK_CAMERAS)
    paths = footage(plan, "busy", count, plan.of(SECONDS, QUICK_SECONDS))
    rows: list[Row] = []
    lost = objects = 0.0
    for name, model in detectors().items():
        settings = replace(settings_of(paths), models={"people": model})
        tally = asyncio.run(_measure(settings, paths))
        tell(f"mosaics of {name}: {tally}")
        rows += _rows(name, tally)
        used = tally.used.figures()
        objects += used.objects
        lost += (used.lost_share or 0.0) * used.objects
    return Found(
        rows=rows,
        measured=[
            Measured(
                id=BAR,
                figure=100 * lost / objects if objects else None,
                n=round(objects),
                peer="the same model on whole pictures",
            )
        ],
    )


def _rows(name: str, tally: Tally) -> list[Row]:
    told, used = tally.figures, tally.used.figures()
    return [
        row(
            f"mosaics of {name}: objects missed, as it is measured meanwhile",
            "skerry",
            figure=None if told.lost_share is None else 100 * told.lost_share,
            unit="%",
            n=told.objects,
            note="within the allowance of 2 %" if told.is_used else "not used",
        ),
        row(
            f"mosaics of {name}: objects missed by those that were used",
            "skerry",
            figure=None if used.lost_share is None else 100 * used.lost_share,
            unit="%",
            n=used.objects,
            note=f"{tally.mosaics} mosaics of {tally.pictures} pictures, of "
            f"{tally.looks} that were looked at",
        ),
    ]


def detectors() -> dict[str, ModelSettings]:
    """Both detectors of people, with an allowance for mosaics."""
    fastestdet = EXAMPLES / "fastestdet.toml"
    head, _, _ = fastestdet.read_text().partition("[[pre]]")
    yolox = keep(
        WORK / "streams" / "models" / "yolox_nano.toml",
        lambda part: part.write_text(head + _YOLOX),
    )
    folder = data_folder("models_detection")
    return {
        "FastestDet": _model(folder / "fastestdet" / "FastestDet.onnx", fastestdet),
        "YOLOX-nano": _model(folder / "yolox_nano" / "yolox_nano.onnx", yolox),
    }


def _model(path: Path, task: Path) -> ModelSettings:
    return ModelSettings(
        path=str(path),
        task=str(task.absolute()),
        labels=("person",),
        mosaic_loss=ALLOWED,
    )


@dataclass(slots=True, kw_only=True)
class Tally:
    """What mosaics of one model came to.

    Attributes:
        figures: As the user is told.
        used: What those lost that were not looked at whole.
        mosaics: How many there were.
        pictures: How many pictures were in them.
        looks: How many pictures were looked at in all.
    """

    figures: MosaicFigures
    used: MosaicLoss
    mosaics: int = 0
    pictures: int = 0
    looks: int = 0


async def _measure(settings: CamerasSettings, paths: Sequence[Path]) -> Tally:
    """Have some cameras at a time looked at, picture by picture, together."""
    clock = FakeClock()
    async with opened_engine(settings, SystemClock()) as (engine, eyes):
        looker = Looker(engine, eyes, clock=clock, deadline_s=60.0)
        together = Together(looker, engine, eyes, clock=clock)
        tally = Tally(
            figures=together.figures()["people"],
            used=MosaicLoss(allowed=1.0, sure=SURE),
        )
        for first in range(0, len(paths), TOGETHER):
            cameras = [
                _Played(number, path, clock)
                for number, path in enumerate(paths[first : first + TOGETHER])
            ]
            while shots := [shot for one in cameras if (shot := one.next())]:
                offers = [
                    together.offer(cameras[int(shot.camera)].watched, shot)
                    for shot in shots
                ]
                for some in _packed(offers):
                    await _look(looker, together, some, tally)
                clock.advance(wall_s=1 / FRAMES_PER_S)
        tally.figures = together.figures()["people"]
    return tally


async def _look(
    looker: Looker, together: Together, some: Sequence[Offered], tally: Tally
) -> None:
    tally.looks += len(some)
    if len(some) == 1:
        looked = [await looker.look(some[0].watched, some[0].shot, ["people"])]
    else:
        tally.mosaics += 1
        tally.pictures += len(some)
        looked = await together.look(some, "people")
    for one, its in zip(some, looked, strict=True):
        found = its.found
        if found.region != WHOLE:
            whole = await looker.look(one.watched, one.shot, ["people"])
            tally.used.compare(
                whole.found.tracked or (), found.tracked or (), found.region
            )
        one.watched.apply(found)


def _packed(offers: Sequence[Offered]) -> list[list[Offered]]:
    """Those whose parts fit into one input, as the scheduler puts them together."""
    found: list[list[Offered]] = []
    left = list(offers)
    while left:
        some = [left.pop(0)]
        for one in list(left):
            parts = [each.parts.get("people") for each in (*some, one)]
            known = [part for part in parts if part is not None]
            if len(known) == len(parts) and pack(known) is not None:
                some.append(one)
                left.remove(one)
        found.append(some)
    return found


class _Played:
    """A file, as a camera whose pictures a test takes one by one."""

    def __init__(self, number: int, path: Path, clock: FakeClock) -> None:
        entry = CameraEntry(name=str(number), url=str(path))
        camera = VideoCamera(CameraSettings(name="c", url=str(path)), clock=clock)
        self.watched = Watched(entry, camera, sure=SURE, clip_s=0, bytes_per_day=0)
        self._clock = clock
        self._video = Video(str(path))
        self._number = 0

    def next(self) -> Shot | None:
        """Take the next picture through the gate; None at the end."""
        packet = self._video.read()
        decoded = self._video.decode(packet) if packet else None
        if decoded is None:
            self._video.close()
            return None
        self._number += 1
        shot = Shot(
            camera=self.watched.name,
            number=self._number,
            captured_s=self._clock.wall_s(),
            captured_at_ms=0,
            size_bytes=0,
            luma=decoded.luma,
            to_rgb=decoded.to_rgb,
            to_size=decoded.to_size,
        )
        self.watched.take(shot)
        return shot
