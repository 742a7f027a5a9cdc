"""Read the boxes of pictures: COCO's JSON, or rows of a `labels.csv`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from skerry.core.errors import DataError

CORNER_COLUMNS = ("x_min", "y_min", "x_max", "y_max")
"""Columns of a `labels.csv` whose rows are boxes, in pixels of the picture."""

Four = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One object in a picture.

    Attributes:
        corners: x_min, y_min, x_max, y_max in pixels of the picture.
        label: Its class's name or number.
        is_crowd: Whether the box holds many objects.
        area: Area of the object's outline in pixels; 0 where only the box is known.
    """

    corners: Four
    label: str
    is_crowd: bool = False
    area: float = 0.0


class _Picture(msgspec.Struct, frozen=True):
    id: int
    file_name: str


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _Object(msgspec.Struct, frozen=True):
    image_id: int
    category_id: int
    bbox: Four
    area: float = 0.0
    iscrowd: int = 0


class _Coco(msgspec.Struct, frozen=True):
    images: list[_Picture]
    annotations: list[_Object]
    categories: list[_Category]


def parse_coco(content: bytes, *, name: str) -> dict[str, tuple[Annotation, ...]]:
    """Parse annotations in COCO's form for boxes ("Data format", cocodataset.org).

    Args:
        content: JSON with images, annotations (bbox is x, y, width, height) and
            categories; other keys are passed over.
        name: Whose content it is, for messages.

    Returns:
        The objects of each picture's file, in the order of the pictures; those without
        objects too.

    Raises:
        DataError: It is not such a document, or an annotation names a picture or a
            category that is not in it.
    """
    try:
        read = msgspec.json.decode(content, type=_Coco)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{name} is not COCO's JSON: {error}",
            hint="It has images, annotations and categories.",
        ) from error
    files = {picture.id: picture.file_name for picture in read.images}
    classes = {category.id: category.name for category in read.categories}
    found: dict[str, list[Annotation]] = {file: [] for file in files.values()}
    for index, one in enumerate(read.annotations):
        if one.image_id not in files or one.category_id not in classes:
            raise DataError(
                f"{name}: annotation {index} is of image {one.image_id} and category "
                f"{one.category_id}, expected ones that the file lists",
                hint="The file is incomplete: export it again.",
            )
        left, top, width, height = one.bbox
        annotation = Annotation(
            corners=(left, top, left + width, top + height),
            label=classes[one.category_id],
            is_crowd=one.iscrowd != 0,
            area=one.area,
        )
        found[files[one.image_id]].append(annotation)
    return {file: tuple(objects) for file, objects in found.items()}


def parse_row(row: Mapping[str, str | None], *, line: str) -> Annotation | None:
    """Parse one row of a `labels.csv` whose rows are boxes.

    Args:
        row: By column: the corners, `label`, and perhaps `is_crowd` (0 or 1) and
            `area`.
        line: Where it stands, for messages.

    Returns:
        The object; None for a row with an empty label, which lists a picture without
        objects.

    Raises:
        DataError: A number is missing, is none, or is not finite.
    """
    label = row.get("label")
    if not label:
        return None
    columns = (*CORNER_COLUMNS, "is_crowd", "area")
    texts = [row.get(column) or "" for column in columns]
    texts[4:] = [text or "0" for text in texts[4:]]
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise DataError(
            f"{line}: a box is {', '.join(texts)[:80]}; expected finite numbers",
            hint=f"The columns are file, label, {', '.join(columns)}.",
        )
    left, top, right, bottom, crowd, area = numbers
    return Annotation(
        corners=(left, top, right, bottom),
        label=label,
        is_crowd=crowd != 0,
        area=area,
    )
