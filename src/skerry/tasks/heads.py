"""The declared steps that read boxes: one for a head of a detector, then `nms`.

A head turns a model's outputs into candidates, boxes in pixels of the model's input
with a score a class; `nms` keeps the best of those that overlap. Numbers that are not
finite make no candidate. A model that has both in its graph needs `selected` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from skerry.core.errors import DataError, UsageError
from skerry.core.names import did_you_mean
from skerry.core.seams import Array
from skerry.tasks.boxes import Boxes, overlaps
from skerry.tasks.prediction import Prediction

MOST_CANDIDATES = 4096
"""Most candidates, the surest, that `nms` compares."""

LARGEST_CLASS = 1 << 31
"""Beyond the classes of any detector."""

_FEW = 100

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Boxes that may hold an object.

    Attributes:
        corners: x_min, y_min, x_max, y_max in pixels of the input, float64 [n, 4].
        scores: One a class, 0–1, float64 [n, C].
    """

    corners: _Floats
    scores: _Floats


@runtime_checkable
class Head(Protocol):
    """Reads candidates out of a detector's outputs."""

    version: ClassVar[int]

    def read(self, outputs: Mapping[str, Array], least: float = 0.0) -> Candidates:
        """Read one sample's outputs, without the batch axis.

        Args:
            outputs: They.
            least: What scores less in each class, which is most of a grid, is left
                out.

        Raises:
            DataError: The outputs are not those of such a head.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxesScores:
    """Boxes and scores in two outputs, as SSD exports them with its anchors applied.

    Attributes:
        boxes: Name of the output with boxes, [n, 4]; where empty the first one with a
            last axis of 4.
        scores: Name of the output with scores, [n, C]; where empty the first other one.
        order: What the four numbers are.
        height: Rows of the input where boxes are fractions of it; 1 where in pixels.
        width: Columns of the input where boxes are fractions of it; 1 where in pixels.
        background: Index of the score that means no object; -1 where there is none.
        softmax: Whether scores are to be turned into probabilities first.
    """

    version: ClassVar[int] = 1

    boxes: str = ""
    scores: str = ""
    order: Literal["xyxy", "yxyx", "cxcywh"] = "xyxy"
    height: int = 1
    width: int = 1
    background: int = -1
    softmax: bool = False

    def __post_init__(self) -> None:
        """Refuse an input without pixels."""
        _check_input("boxes_scores", self.height, self.width)

    def read(self, outputs: Mapping[str, Array], least: float = 0.0) -> Candidates:
        """Read boxes [n, 4] and scores [n, C]."""
        fours = [name for name, one in outputs.items() if one.shape[-1:] == (4,)]
        boxes_name = self.boxes or next(iter(fours), "")
        others = [name for name in outputs if name != boxes_name]
        scores_name = self.scores or next(iter(others), "")
        boxes, scores = _pick(outputs, boxes_name), _pick(outputs, scores_name)
        if boxes.shape[1:] != (4,) or scores.ndim != 2 or len(boxes) != len(scores):
            raise DataError(
                f"got boxes of {boxes.shape} and scores of {scores.shape}; expected "
                "n × 4 and n × classes",
                hint="Name the two outputs in the boxes_scores step.",
            )
        if self.softmax:
            powers = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
            scores = powers / powers.sum(axis=1, keepdims=True)
        if self.background >= 0:
            scores = np.delete(scores, self.background % scores.shape[1], axis=1)
        if self.order == "yxyx":
            boxes = boxes[:, [1, 0, 3, 2]]
        elif self.order == "cxcywh":
            boxes = _around(boxes[:, :2], boxes[:, 2:])
        sides = np.array([self.width, self.height] * 2, dtype=np.float64)
        is_sure = np.fmax.reduce(scores, axis=1, initial=0.0) >= least
        return Candidates(corners=(boxes * sides)[is_sure], scores=scores[is_sure])


@dataclass(frozen=True, slots=True, kw_only=True)
class Yolox:
    """Offsets from the cells of a few grids, in one output.

    Z. Ge et al., "YOLOX: Exceeding YOLO Series in 2021": each cell gives one box, its
    middle in cells from the cell's corner, the logarithms of its sides in cells,
    whether there is an object, and a score a class.

    Attributes:
        height: Rows of the model's input.
        width: Columns of the model's input.
        strides: Pixels from cell to cell, one a grid, in the output's order.
        output: Name of the output, [cells, 5 + C]; the first one where empty.
    """

    version: ClassVar[int] = 1

    height: int
    width: int
    strides: tuple[int, ...] = (8, 16, 32)
    output: str = ""

    def __post_init__(self) -> None:
        """Refuse strides and sizes that make no grid."""
        _check_input("yolox", self.height, self.width)
        if not self.strides or min(self.strides) < 1:
            raise UsageError(
                f"yolox: strides are {self.strides}, expected numbers above 0",
                hint="Use strides = [8, 16, 32].",
            )

    def read(self, outputs: Mapping[str, Array], least: float = 0.0) -> Candidates:
        """Read [cells, 5 + C]."""
        rows = _pick(outputs, self.output or next(iter(outputs), ""))
        grids = [
            _grid(self.height // stride, self.width // stride)
            for stride in self.strides
        ]
        cells = np.concatenate(grids)
        if rows.ndim != 2 or rows.shape[1] < 6 or len(rows) != len(cells):
            raise DataError(
                f"yolox takes {len(cells)} cells × (5 + classes), got {rows.shape}",
                hint="Give the input's height and width, and the strides.",
            )
        strides = np.repeat(self.strides, [len(grid) for grid in grids])[:, None]
        is_sure = rows[:, 4] >= least  # times a class, which is 1 at most
        rows, cells, strides = rows[is_sure], cells[is_sure], strides[is_sure]
        middle = (rows[:, :2] + cells) * strides
        return Candidates(
            corners=_around(middle, _exp(rows[:, 2:4]) * strides),
            scores=rows[:, 4:5] * rows[:, 5:],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fastestdet:
    """One grid in planes: an object, a box, and a score a class.

    As `test.py` of FastestDet (github.com/dog-qiuqiu/FastestDet) reads it: the middle
    is tanh from the cell's corner, the sides are the sigmoid of the input's, and the
    score is object^0.6 · class^0.4.

    Attributes:
        height: Rows of the model's input.
        width: Columns of the model's input.
        output: Name of the output, [5 + C, H, W]; the first one where empty.
    """

    version: ClassVar[int] = 1

    height: int
    width: int
    output: str = ""

    def __post_init__(self) -> None:
        """Refuse an input without pixels."""
        _check_input("fastestdet", self.height, self.width)

    def read(self, outputs: Mapping[str, Array], least: float = 0.0) -> Candidates:
        """Read [5 + C, H, W]."""
        planes = _pick(outputs, self.output or next(iter(outputs), ""))
        if planes.ndim != 3 or planes.shape[0] < 6 or planes.size == 0:
            raise DataError(
                f"fastestdet takes (5 + classes) × rows × columns, got {planes.shape}",
                hint="Name the output in the step.",
            )
        _, rows, columns = planes.shape
        flat = planes.reshape(len(planes), -1)
        there = np.clip(flat[0], 0, None) ** 0.6
        is_sure = there * np.clip(np.fmax.reduce(flat[5:]), 0, None) ** 0.4 >= least
        flat = flat[:, is_sure].T
        cells = np.array([columns, rows])
        sides = np.array([self.width, self.height])
        corner = _grid(rows, columns)[is_sure]
        middle = (corner + np.tanh(flat[:, 1:3])) / cells * sides
        size = sides / (1 + _exp(-flat[:, 3:5]))
        return Candidates(
            corners=_around(middle, size),
            scores=there[is_sure, None] * np.clip(flat[:, 5:], 0, None) ** 0.4,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Centernet:
    """Middles as peaks of a heatmap, sides and offsets in planes beside it.

    X. Zhou et al., "Objects as Points", 2019; sides are logarithms in cells, rows
    first, as CenterFace (Y. Xu et al., 2019) has them.

    Attributes:
        heatmap: Name of the output, [C, H, W]; the first one where empty.
        scale: Name of the output, [2, H, W]; the second one where empty.
        offset: Name of the output, [2, H, W]; the third one where empty.
        stride: Pixels from cell to cell.
    """

    version: ClassVar[int] = 1

    heatmap: str = ""
    scale: str = ""
    offset: str = ""
    stride: int = 4

    def __post_init__(self) -> None:
        """Refuse a stride that makes no grid."""
        if self.stride < 1:
            raise UsageError(
                f"centernet: stride is {self.stride}, expected above 0",
                hint="Use stride = 4.",
            )

    def read(self, outputs: Mapping[str, Array], least: float = 0.0) -> Candidates:
        """Read a heatmap [C, H, W], scales [2, H, W] and offsets [2, H, W]."""
        names = [*outputs, "", "", ""]
        heat = _pick(outputs, self.heatmap or names[0])
        scale = _pick(outputs, self.scale or names[1])
        offset = _pick(outputs, self.offset or names[2])
        if heat.ndim != 3 or not scale.shape == offset.shape == (2, *heat.shape[1:]):
            raise DataError(
                f"centernet takes a heatmap, 2 planes of scales and 2 of offsets; got "
                f"{heat.shape}, {scale.shape} and {offset.shape}",
                hint="Name the three outputs in the step.",
            )
        _, rows, columns = heat.shape
        scores = heat.reshape(len(heat), -1).T
        is_sure = np.fmax.reduce(scores, axis=1, initial=0.0) >= least
        # Planes have rows first, boxes x first.
        shift, size = (one[::-1].reshape(2, -1).T[is_sure] for one in (offset, scale))
        middle = (_grid(rows, columns)[is_sure] + 0.5 + shift) * self.stride
        return Candidates(
            corners=_around(middle, _exp(size) * self.stride), scores=scores[is_sure]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Yunet:
    """Faces from a few grids, three outputs a grid: class, object and box.

    W. Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023, as OpenCV's
    `FaceDetectorYN` reads it: the score is the geometric mean of class and object, the
    middle counts in cells from the cell's corner, sides are logarithms in cells.

    Attributes:
        height: Rows of the model's input.
        width: Columns of the model's input.
        strides: Pixels from cell to cell, one a grid; outputs are called `cls_8`,
            `obj_8`, `bbox_8` and so on.
    """

    version: ClassVar[int] = 1

    height: int
    width: int
    strides: tuple[int, ...] = (8, 16, 32)

    def __post_init__(self) -> None:
        """Refuse strides and sizes that make no grid."""
        _check_input("yunet", self.height, self.width)
        if not self.strides or min(self.strides) < 1:
            raise UsageError(
                f"yunet: strides are {self.strides}, expected numbers above 0",
                hint="Use strides = [8, 16, 32].",
            )

    def read(self, outputs: Mapping[str, Array], least: float = 0.0) -> Candidates:
        """Read `cls_N` [cells, 1], `obj_N` [cells, 1] and `bbox_N` [cells, 4]."""
        corners, scores = [], []
        for stride in self.strides:
            names = (f"cls_{stride}", f"obj_{stride}", f"bbox_{stride}")
            classes, there, boxes = (_pick(outputs, name) for name in names)
            cells = _grid(self.height // stride, self.width // stride)
            if not (
                classes.shape == there.shape == (len(cells), 1)
                and boxes.shape == (len(cells), 4)
            ):
                raise DataError(
                    f"yunet takes {len(cells)} cells at stride {stride}, got "
                    f"{classes.shape}, {there.shape} and {boxes.shape}",
                    hint="Give the input's height and width, and the strides.",
                )
            score = np.sqrt(np.clip(classes, 0, 1) * np.clip(there, 0, 1))
            is_sure = score[:, 0] >= least
            boxes = boxes[is_sure]
            middle = (cells[is_sure] + boxes[:, :2]) * stride
            corners.append(_around(middle, _exp(boxes[:, 2:]) * stride))
            scores.append(score[is_sure])
        return Candidates(
            corners=np.concatenate(corners), scores=np.concatenate(scores)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Nms:
    """Keep the surest of the boxes that overlap, class by class.

    Attributes:
        iou: Overlap above which the less sure box goes.
        min_score: Candidates below it are passed over. For an average precision it is
            low: what is sure enough to act upon is another matter.
        most: Most boxes of one picture.
        classes: Whether a box is of its best class only, or of each above `min_score`.
    """

    version: ClassVar[int] = 1

    iou: float = 0.65
    min_score: float = 0.01
    most: int = 100
    classes: Literal["best", "all"] = "best"

    def __post_init__(self) -> None:
        """Refuse limits that keep nothing or all."""
        if not (0 < self.iou <= 1 and 0 <= self.min_score <= 1 and self.most >= 1):
            raise UsageError(
                f"nms: got iou {self.iou}, min_score {self.min_score}, most "
                f"{self.most}; expected fractions, and 1 or more",
                hint="Use iou = 0.65, min_score = 0.01, most = 100.",
            )

    def select(self, candidates: Candidates, labels: Sequence[str]) -> Prediction:
        """Keep boxes of candidates, the surest first.

        Raises:
            DataError: The scores do not fit the labels.
        """
        scores = candidates.scores
        if labels and scores.shape[1] != len(labels):
            raise DataError(
                f"the model gives {scores.shape[1]} scores a box, the task names "
                f"{len(labels)} labels",
                hint="Give one label a class, in the model's order.",
            )
        return _predict(self._suppress(*self._sure(candidates)), labels)

    def _sure(
        self, candidates: Candidates
    ) -> tuple[_Floats, NDArray[np.int64], _Floats]:
        """Corners, labels and scores worth a look, the surest first."""
        corners, scores = candidates.corners, candidates.scores
        is_finite = np.isfinite(corners).all(axis=1, keepdims=True)
        scores = np.where(is_finite & np.isfinite(scores), scores, -1.0)
        if self.classes == "best" and scores.size:
            best = scores.argmax(axis=1)
            (places,) = np.nonzero(scores[np.arange(len(best)), best] >= self.min_score)
            labels = best[places]
        else:
            places, labels = np.nonzero(scores >= self.min_score)
        sure = scores[places, labels]
        order = np.argsort(-sure, kind="stable")[:MOST_CANDIDATES]
        return corners[places[order]], labels[order], sure[order]

    def _suppress(
        self, corners: _Floats, labels: NDArray[np.int64], scores: _Floats
    ) -> Boxes:
        kept: list[int] = []
        is_left = np.ones(len(scores), dtype=bool)
        # Of a few boxes all pairs cost less than one call a box that is kept.
        pairs = overlaps(corners, corners) if len(scores) <= _FEW else None
        while is_left.any() and len(kept) < self.most:
            best = int(is_left.argmax())
            kept.append(best)
            overlap = (
                overlaps(corners[best : best + 1], corners)[0]
                if pairs is None
                else pairs[best]
            )
            is_left &= (overlap <= self.iou) | (labels != labels[best])
            is_left[best] = False
        return Boxes(corners=corners[kept], labels=labels[kept], scores=scores[kept])


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """Boxes that the model itself has chosen: its graph holds the suppression.

    `skerry.adapt.nms` makes such models out of others.

    Attributes:
        boxes: Name of the output, [k, 4]: x_min, y_min, x_max, y_max in pixels of the
            input, the surest first; the first one where empty.
        scores: Name of the output, [k]; the second one where empty.
        classes: Name of the output with the indices of classes, [k]; the third one
            where empty.
    """

    version: ClassVar[int] = 1

    boxes: str = ""
    scores: str = ""
    classes: str = ""

    def select(self, outputs: Mapping[str, Array], labels: Sequence[str]) -> Prediction:
        """Read one sample's outputs, without the batch axis.

        Raises:
            DataError: The outputs are not those of such a model, or name classes that
                the task has not.
        """
        names = [*outputs, "", "", ""]
        corners = _pick(outputs, self.boxes or names[0])
        scores = _pick(outputs, self.scores or names[1])
        classes = _pick(outputs, self.classes or names[2])
        if corners.shape != (len(corners), 4) or not (
            scores.shape == classes.shape == corners.shape[:1]
        ):
            raise DataError(
                f"got boxes of {corners.shape}, scores of {scores.shape} and classes "
                f"of {classes.shape}; expected k × 4, k and k",
                hint="Name the three outputs in the selected step.",
            )
        is_finite = np.isfinite(np.column_stack([corners, scores, classes])).all(axis=1)
        corners, scores, classes = (x[is_finite] for x in (corners, scores, classes))
        most = len(labels) or LARGEST_CLASS
        if len(classes) and not 0 <= classes.min() <= classes.max() < most:
            raise DataError(
                f"the model names classes {classes.min():g} to {classes.max():g}, the "
                f"task has {most}",
                hint="Give one label a class, in the model's order.",
            )
        order = np.argsort(-scores, kind="stable")
        boxes = Boxes(
            corners=corners[order],
            labels=classes[order].astype(np.int64),
            scores=scores[order],
        )
        return _predict(boxes, labels)


def _predict(boxes: Boxes, labels: Sequence[str]) -> Prediction:
    counts = Counter(boxes.labels.tolist())
    name = ", ".join(
        f"{count} {labels[label] if labels else f'of class {label}'}"
        for label, count in sorted(counts.items())
    )
    confidence = float(boxes.scores.mean()) if len(boxes) else 0.0
    return Prediction(
        label=name, name=name or "nothing", confidence=confidence, boxes=boxes
    )


def _pick(outputs: Mapping[str, Array], name: str) -> _Floats:
    if name not in outputs:
        raise DataError(
            f"the model has no output called {name!r}",
            hint=did_you_mean(name, outputs),
        )
    return outputs[name].astype(np.float64)


@lru_cache(maxsize=16)
def _grid(rows: int, columns: int) -> _Floats:
    """The x and y of each cell, row by row, [rows · columns, 2]; not to be written."""
    y, x = np.mgrid[:rows, :columns]
    grid = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)
    grid.setflags(write=False)
    return grid


def _around(middle: _Floats, sides: _Floats) -> _Floats:
    return np.concatenate([middle - sides / 2, middle + sides / 2], axis=1)


def _exp(logarithms: _Floats) -> _Floats:
    """The exponential; beyond what a picture can hold it does not matter how far."""
    return np.exp(np.clip(logarithms, -50, 50))


def _check_input(step: str, height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise UsageError(
            f"{step}: the input is {height} × {width}, expected pixels",
            hint="Give the height and width of the model's input.",
        )
