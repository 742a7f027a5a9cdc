"""The first 128 pictures of COCO 2017's training set, and the objects in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.nets.case import Corners
from benchmarks.nets.places import data_folder
from skerry.tasks._image import read_picture

PICTURES = "coco_train128"
CLASSES = "models_detection/yolox_nano/coco_classes.txt"
PERSON = "person"


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoPicture:
    """A picture and its objects.

    Attributes:
        path: Its file.
        boxes: Corners in pixels, and the class's name, of each object.
    """

    path: Path
    boxes: tuple[tuple[Corners, str], ...]


def read_classes() -> tuple[str, ...]:
    """Read the names of the 80 classes, in the order of the models' outputs."""
    return tuple(data_folder(CLASSES).read_text(encoding="utf-8").split("\n")[:80])


def read_coco() -> list[CocoPicture]:
    """Read all pictures' objects, in the order of names."""
    folder, classes = data_folder(PICTURES), read_classes()
    return [
        _read(path, folder / "labels" / f"{path.stem}.txt", classes)
        for path in sorted((folder / "images").iterdir())
    ]


def _read(path: Path, labels: Path, classes: tuple[str, ...]) -> CocoPicture:
    """Read boxes in YOLO's form: class, middle and sides as fractions."""
    rows, columns = read_picture(path).shape[:2]
    boxes = []
    text = labels.read_text(encoding="ascii") if labels.exists() else ""
    for line in text.splitlines():
        label, x, y, width, height = line.split()
        middle = float(x) * columns, float(y) * rows
        half = float(width) * columns / 2, float(height) * rows / 2
        corners = (
            *(middle[0] - half[0], middle[1] - half[1]),
            *(middle[0] + half[0], middle[1] + half[1]),
        )
        boxes.append((corners, classes[int(label)]))
    return CocoPicture(path=path, boxes=tuple(boxes))
