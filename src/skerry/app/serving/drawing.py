"""A picture with the boxes that a detector found in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.core.durable import write_file
from skerry.core.errors import DataError, UsageError
from skerry.tasks import _image


def draw_boxes(picture: Path, answer: Mapping[str, Any] | None, path: Path) -> Path:
    """Draw what was found into a copy of a picture.

    Args:
        picture: The picture that was asked about.
        answer: What was said of it.
        path: Where the PNG is written to.

    Raises:
        UsageError: The answer holds no boxes.
        DataError: The picture cannot be read, or the boxes are none.
    """
    if answer is None or not isinstance(answer.get("boxes"), list):
        raise UsageError(
            "the answer holds no boxes to draw",
            hint="--draw is for a picture, and a task of the kind detection.",
        )
    boxes = [_read(box) for box in answer["boxes"]]
    drawn = _image.draw_boxes(_image.read_picture(picture), boxes)
    write_file(path, _image.encode_png(drawn))
    return path


def _read(box: Any) -> tuple[list[float], str]:
    try:
        left, top, right, bottom = map(float, box["box"])
        share = float(box["confidence"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "the answer holds a box that is none", hint="Is it a server of Skerry's?"
        ) from error
    return [left, top, right, bottom], f"{box.get('label')} {share:.0%}"
