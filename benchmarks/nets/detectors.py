"""YOLOX-nano and FastestDet on 128 pictures of COCO, by mean average precision."""

from __future__ import annotations

from pathlib import Path

from benchmarks.nets.case import PARTS, Shot, write_net, write_pictures
from benchmarks.nets.coco import read_classes, read_coco
from benchmarks.nets.places import data_folder
from benchmarks.nets.splits import deal_out
from skerry.tasks.heads import Fastestdet, Nms, Yolox
from skerry.tasks.steps import Layout, Letterbox, Normalize, Resize
from skerry.tasks.task import Task, TaskKind

MODELS = "models_detection"
COUNTS = {"calibration": 24, "selection": 32, "report": 72}
QUICK_COUNTS = {"calibration": 2, "selection": 4, "report": 6}
YOLOX_SIDE = 416
FASTESTDET_SIDE = 352


def yolox_task() -> Task:
    """How YOLOX-nano is fed and read: BGR, 0–255, letterboxed into the top left."""
    side = YOLOX_SIDE
    return Task(
        kind=TaskKind.DETECTION,
        metric="map",
        labels=read_classes(),
        pre=(
            Letterbox(height=side, width=side, anchor="top_left"),
            Normalize(),
            Layout(order="CHW", channels="BGR"),
        ),
        post=(Yolox(height=side, width=side), Nms()),
    )


def fastestdet_task() -> Task:
    """How FastestDet is fed and read: BGR, 0–1, stretched."""
    side = FASTESTDET_SIDE
    return Task(
        kind=TaskKind.DETECTION,
        metric="map",
        labels=read_classes(),
        pre=(
            Resize(height=side, width=side),
            Normalize(scale=1 / 255),
            Layout(order="CHW", channels="BGR"),
        ),
        post=(Fastestdet(height=side, width=side), Nms(iou=0.45)),
    )


def write_yolox(folder: Path, *, seed: int, quick: bool) -> None:
    """Write the case of YOLOX-nano."""
    model = data_folder(MODELS) / "yolox_nano" / "yolox_nano.onnx"
    _write(folder, model, yolox_task(), seed=seed, quick=quick)


def write_fastestdet(folder: Path, *, seed: int, quick: bool) -> None:
    """Write the case of FastestDet."""
    model = data_folder(MODELS) / "fastestdet" / "FastestDet.onnx"
    _write(folder, model, fastestdet_task(), seed=seed, quick=quick)


def _write(folder: Path, model: Path, task: Task, *, seed: int, quick: bool) -> None:
    write_net(folder, model, task)
    dealt = deal_out(read_coco(), QUICK_COUNTS if quick else COUNTS, seed)
    for part in PARTS:
        shots = (
            Shot(file=one.path.name, content=one.path.read_bytes(), boxes=one.boxes)
            for one in dealt[part]
        )
        write_pictures(folder / part, shots)
