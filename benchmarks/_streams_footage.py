"""Fifty cameras out of three videos: by offset, crop, flip, gain and a sensor's noise.

A camera is H.264, 640 × 360, five pictures a second, a picture that stands alone each
two seconds. Where nothing happens it shows the median of its scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._found import Plan, tell
from benchmarks.nets.places import data_folder, keep
from skerry.device._video import Video
from skerry.edge.streams.gate import Gate
from skerry.edge.streams.watched import CALM_S
from skerry.tasks._image import resize

ROWS, COLUMNS, FRAMES_PER_S = 360, 640, 5
GOP = 10
CAMERAS = 50
VIDEOS = (
    "vtest.avi",
    "one-by-one-person-detection.mp4",
    "vtest.avi",
    "car-detection.mp4",
)
"""Pedestrians, people one by one, and traffic: in turn."""

PERIOD_S = 20.0
"""A quiet camera shows its scene's life once in so long, each at another time."""

SHARE = 0.2
_NOISE = 2.0
_SAMPLED = 24

Pictures = NDArray[np.uint8]


def footage(plan: Plan, kind: str, cameras: int, seconds: float) -> list[Path]:
    """The files of so many cameras, made once.

    Args:
        plan: Where they are kept: beside the stages.
        kind: `busy`: something happens all the time; `quiet`: a fifth of it; `idle`:
            never.
        cameras: How many.
        seconds: How long each is.
    """
    folder = plan.work.parent / "footage" / f"{kind}-{seconds:g}s"
    paths = [folder / f"{number:02d}.mkv" for number in range(cameras)]
    for place, video in enumerate(VIDEOS):
        wanted = {
            number: path
            for number, path in enumerate(paths)
            if number % len(VIDEOS) == place and not path.exists()
        }
        if not wanted:
            continue
        tell(f"making {len(wanted)} {kind} cameras of {video}")
        frames = read_frames(data_folder("videos") / video)
        for number, path in wanted.items():
            shown = scene(frames, number, kind, seconds)
            keep(path, lambda part, shown=shown: write(part, shown))
    return paths


def read_frames(path: Path) -> Pictures:
    """All pictures of a video at five a second, [n, rows, columns, 3]."""
    found: list[Pictures] = []
    with closing(Video(str(path))) as video:
        step = max(1, round((video.frames_per_s or FRAMES_PER_S) / FRAMES_PER_S))
        number = 0
        while (packet := video.read()) is not None:
            decoded = video.decode(packet)
            if decoded is None:
                continue
            if number % step == 0:
                found.append(decoded.to_rgb())
            number += 1
    return np.stack(found)


def scene(
    frames: Pictures, number: int, kind: str, seconds: float
) -> Iterator[Pictures]:
    """The pictures of one camera, made of a video."""
    rng = np.random.default_rng(number)
    rows, columns = frames.shape[1:3]
    height = min(rows, round(columns * ROWS / COLUMNS))
    height = round(height * rng.uniform(0.8, 1.0))
    width = min(columns, round(height * COLUMNS / ROWS))
    top = int(rng.integers(0, rows - height + 1))
    left = int(rng.integers(0, columns - width + 1))
    offset = int(rng.integers(0, len(frames)))
    is_flipped, gain = bool(rng.integers(0, 2)), rng.uniform(0.8, 1.15)
    noise = rng.normal(0, _NOISE, (4, ROWS, COLUMNS, 1)).astype(np.int16)

    def cut(frame: Pictures) -> NDArray[np.float32]:
        part = resize(
            frame[top : top + height, left : left + width], ROWS, COLUMNS, "bilinear"
        )
        return (part[:, ::-1] if is_flipped else part).astype(np.float32) * gain

    sampled = frames[:: max(1, len(frames) // _SAMPLED), top : top + height]
    empty = cut(_median(sampled[:, :, left : left + width], frames, top, left))
    lively = _lively(frames, cut) if kind == "busy" else np.arange(len(frames))
    for index in range(round(seconds * FRAMES_PER_S)):
        is_on = is_active(number, index / FRAMES_PER_S, kind)
        frame = frames[lively[(offset + index) % len(lively)]]
        shown = cut(frame) if is_on else empty
        yield np.clip(shown + noise[index % 4], 0, 255).astype(np.uint8)


def _lively(
    frames: Pictures, cut: Callable[[Pictures], NDArray[np.float32]]
) -> NDArray[np.int64]:
    """The frames with something that moves: some roads are empty for seconds."""
    gate = Gate()
    lumas = (cut(frame)[:, :, 1].clip(0, 255).astype(np.uint8) for frame in frames)
    moving = [gate.look(luma).is_moving for luma in lumas]
    # As a camera is watched for a moment after the last movement.
    just = np.convolve(moving, np.ones(round(CALM_S * FRAMES_PER_S)))[: len(moving)]
    return np.flatnonzero(just)


def is_active(number: int, at_s: float, kind: str) -> bool:
    """Whether something happens on a camera."""
    if kind == "quiet":
        return (at_s / PERIOD_S + number / CAMERAS) % 1 < SHARE
    return kind == "busy"


def _median(cut: Pictures, frames: Pictures, top: int, left: int) -> Pictures:
    """A whole frame with the median of a cut in its place."""
    whole = frames[0].copy()
    middle = np.median(cut, axis=0).astype(np.uint8)
    whole[top : top + cut.shape[1], left : left + cut.shape[2]] = middle
    return whole


def write(path: Path, pictures: Iterator[Pictures] | Sequence[Pictures]) -> None:
    """Write pictures as H.264 in Matroska, as a camera's sub-stream has them."""
    import av

    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=FRAMES_PER_S)
        stream.height, stream.width, stream.pix_fmt = ROWS, COLUMNS, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {
            "g": str(GOP),
            "bf": "0",
            "crf": "27",
            "preset": "veryfast",
            "tune": "zerolatency",
        }
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
