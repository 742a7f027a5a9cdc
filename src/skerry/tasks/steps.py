"""The declared steps before and after a model: arrays in, arrays out.

A task file names steps by the words of `PRE_STEPS` and `POST_STEPS`; each step is one
frozen dataclass whose fields are the parameters. A step's `version` grows when the
meaning of its parameters changes; a file that asks for a newer one is refused.

Pictures go through the `pre` steps as rows × columns × channels (HWC), RGB, until
`layout` gives them the model's own order. Time series go through those of
`skerry.tasks.series` and `skerry.tasks.spectra` as rows × channels, until `reshape`
does. `post` steps see the scores of one sample, without the batch axis; the last of
them reads the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from skerry.core.config import from_table
from skerry.core.errors import DataError, UsageError
from skerry.core.names import did_you_mean
from skerry.core.seams import Array
from skerry.tasks import _image
from skerry.tasks.boxes import Placement
from skerry.tasks.dbnet import Dbnet
from skerry.tasks.decoders import Embedding, ReconstructionError, Value
from skerry.tasks.heads import (
    BoxesScores,
    Centernet,
    Fastestdet,
    Nms,
    Selected,
    Yolox,
    Yunet,
)
from skerry.tasks.matching import EmbedMatch
from skerry.tasks.prediction import Prediction
from skerry.tasks.series import GapFill, Resample, Reshape, Scale, Window
from skerry.tasks.spectra import BandEnergies, Fft, Mfcc

LARGEST_SIDE = 1 << 14
"""Most rows or columns that a step may be asked to make."""

_BT601 = np.array([0.299, 0.587, 0.114], dtype=np.float32)


class PreStep(Protocol):
    """A step from a picture or a time series towards the model's input."""

    version: ClassVar[int]

    def apply(self, array: Array) -> Array:
        """Return the array, changed.

        Raises:
            DataError: The array is not what this step takes.
        """
        ...


@runtime_checkable
class PlacingStep(Protocol):
    """A step that moves or scales the picture."""

    def place(self, rows: int, columns: int) -> Placement:
        """Tell where a picture of this size lies in the step's result."""
        ...


@runtime_checkable
class PostStep(Protocol):
    """A step on one sample's scores."""

    version: ClassVar[int]

    def apply(self, array: Array) -> Array:
        """Return the scores, changed."""
        ...


@runtime_checkable
class Decoder(Protocol):
    """The last step: it reads the answer out of one sample's scores."""

    version: ClassVar[int]

    def decode(self, scores: Array, labels: Sequence[str]) -> Prediction:
        """Read the answer.

        Raises:
            DataError: The scores do not fit the labels.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """Resize a uint8 HWC picture.

    Attributes:
        height: Rows of the result.
        width: Columns of the result.
        keep_aspect: Scale to the height and fill what is missing on the right; a
            picture that is still too wide is squeezed to the width (what PaddleOCR's
            text recognition does). Otherwise both sides are stretched.
        fill: The value of filled pixels.
        interpolation: How pixels are computed.
    """

    version: ClassVar[int] = 1

    height: int
    width: int
    keep_aspect: bool = False
    fill: int = 0
    interpolation: _image.Interpolation = "bilinear"

    def __post_init__(self) -> None:
        """Refuse sizes and values that no picture can have."""
        _check_size("resize", self.height, self.width)
        _check_fill("resize", self.fill)

    def apply(self, array: Array) -> Array:
        """Resize, uint8 [H, W, C] to uint8 [height, width, C]."""
        _check_picture("resize", array)
        width = self._scaled_width(*array.shape[:2])
        resized = _resize(array, self.height, width, self.interpolation)
        return _pad(resized, (0, 0), (self.height, self.width), self.fill)

    def place(self, rows: int, columns: int) -> Placement:
        """Tell how both axes are scaled."""
        return Placement(
            rows=self.height,
            columns=self.width,
            scale_x=self._scaled_width(rows, columns) / columns,
            scale_y=self.height / rows,
        )

    def _scaled_width(self, rows: int, columns: int) -> int:
        if not self.keep_aspect:
            return self.width
        return min(self.width, math.ceil(self.height * columns / rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterbox:
    """Fit a whole uint8 HWC picture into a frame, its aspect kept.

    Attributes:
        height: Rows of the frame.
        width: Columns of the frame.
        fill: The value of the frame's pixels that the picture does not cover.
        anchor: Where the picture lies in the frame.
        interpolation: How pixels are computed.
    """

    version: ClassVar[int] = 1

    height: int
    width: int
    fill: int = 114
    anchor: Literal["center", "top_left"] = "center"
    interpolation: _image.Interpolation = "bilinear"

    def __post_init__(self) -> None:
        """Refuse sizes and values that no picture can have."""
        _check_size("letterbox", self.height, self.width)
        _check_fill("letterbox", self.fill)

    def apply(self, array: Array) -> Array:
        """Fit, uint8 [H, W, C] to uint8 [height, width, C]."""
        _check_picture("letterbox", array)
        height, width = self.scaled(*array.shape[:2])
        resized = _resize(array, height, width, self.interpolation)
        corner = self._corner(height, width)
        return _pad(resized, corner, (self.height, self.width), self.fill)

    def place(self, rows: int, columns: int) -> Placement:
        """Tell how the picture is scaled, and where it lies in the frame."""
        height, width = self.scaled(rows, columns)
        top, left = self._corner(height, width)
        return Placement(
            rows=self.height,
            columns=self.width,
            scale_x=width / columns,
            scale_y=height / rows,
            left=left,
            top=top,
        )

    def scaled(self, rows: int, columns: int) -> tuple[int, int]:
        """Tell the rows and columns of the picture in the frame."""
        scale = min(self.height / rows, self.width / columns)
        height = min(self.height, max(1, round(rows * scale)))
        return height, min(self.width, max(1, round(columns * scale)))

    def _corner(self, height: int, width: int) -> tuple[int, int]:
        if self.anchor == "top_left":
            return 0, 0
        return (self.height - height) // 2, (self.width - width) // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """Cut the middle out of an HWC picture.

    Attributes:
        height: Rows kept.
        width: Columns kept.
    """

    version: ClassVar[int] = 1

    height: int
    width: int

    def __post_init__(self) -> None:
        """Refuse sizes that no picture can have."""
        _check_size("crop", self.height, self.width)

    def apply(self, array: Array) -> Array:
        """Cut, [H, W, C] to [height, width, C]."""
        rows, columns = array.shape[:2]
        if rows < self.height or columns < self.width:
            raise DataError(
                f"cannot crop {self.height} × {self.width} out of a picture of "
                f"{rows} × {columns}",
                hint="Put a resize before the crop.",
            )
        top, left = (rows - self.height) // 2, (columns - self.width) // 2
        return array[top : top + self.height, left : left + self.width]


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalize:
    """Compute (x · scale - mean) / std in float32.

    Attributes:
        mean: One number, or one a channel in the order R, G, B.
        std: One number, or one a channel.
        scale: The factor applied first; 1/255 brings pixels to 0–1.
    """

    version: ClassVar[int] = 1

    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers that would make infinities."""
        numbers = np.hstack([self.mean, self.std, self.scale])
        if not np.isfinite(numbers).all() or not np.all(self.std):
            raise UsageError(
                f"normalize: got mean {self.mean}, std {self.std}, scale "
                f"{self.scale}; expected finite numbers and no std of 0",
                hint="Pixels are 0–255 before scale.",
            )

    def apply(self, array: Array) -> Array:
        """Normalize, [H, W, C] of any dtype to float32 [H, W, C]."""
        return self.apply_along(array, axis=array.ndim - 1)

    def apply_along(
        self, array: Array, *, axis: int, is_reversed: bool = False
    ) -> Array:
        """Normalize an array of another layout.

        Args:
            array: Of any dtype.
            axis: The axis of its channels.
            is_reversed: Whether they are in the order B, G, R.
        """
        mean, std = (
            np.atleast_1d(np.asarray(x, dtype=np.float32))
            for x in (self.mean, self.std)
        )
        channels = array.shape[axis]
        for name, value in (("mean", mean), ("std", std)):
            if value.size not in (1, channels):
                raise DataError(
                    f"normalize has {value.size} values of {name} for {channels} "
                    "channels",
                    hint="Give one, or one a channel; put normalize before layout.",
                )
        shape = (-1,) + (1,) * (array.ndim - 1 - axis)
        order = -1 if is_reversed else 1
        mean, std = (value[::order].reshape(shape) for value in (mean, std))
        scaled = np.multiply(array, np.float32(self.scale), dtype=np.float32)
        # What changes nothing is left out: a large picture takes a while.
        if mean.any():
            scaled -= mean
        if (std != 1).any():
            scaled /= std
        return scaled


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Give an RGB HWC array the model's order of axes and channels.

    Attributes:
        order: The order of the axes.
        channels: The order of the channels; GRAY is the luma of ITU-R BT.601.
        batch: Whether a batch axis of 1 is put in front.
    """

    version: ClassVar[int] = 1

    order: Literal["CHW", "HWC"] = "CHW"
    channels: Literal["RGB", "BGR", "GRAY"] = "RGB"
    batch: bool = True

    def apply(self, array: Array) -> Array:
        """Lay out, [H, W, 3] to [1, C, H, W] or [1, H, W, C] of the same dtype."""
        if array.ndim != len("HWC") or array.shape[2] != len("RGB"):
            raise DataError(
                f"layout takes rows × columns × 3, got {_sizes(array)}",
                hint="Put layout last, once.",
            )
        if self.channels == "BGR":
            array = array[:, :, ::-1]
        elif self.channels == "GRAY":
            luma = (array.astype(np.float32) @ _BT601)[:, :, None]
            is_whole = np.issubdtype(array.dtype, np.integer)
            array = (np.rint(luma) if is_whole else luma).astype(array.dtype)
        if self.order == "CHW":
            array = array.transpose(2, 0, 1)
        return np.ascontiguousarray(array[None] if self.batch else array)


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax:
    """Turn scores into probabilities.

    Attributes:
        axis: The axis of the classes; -1 is the last.
    """

    version: ClassVar[int] = 1

    axis: int = -1

    def apply(self, array: Array) -> Array:
        """Compute exp(x) / Σ exp(x) along the axis, in float64."""
        if not -array.ndim <= self.axis < array.ndim:
            raise DataError(
                f"softmax over axis {self.axis} of scores with {array.ndim} axes",
                hint="The batch axis is gone before the post steps.",
            )
        scores = array.astype(np.float64)
        powers = np.exp(scores - scores.max(axis=self.axis, keepdims=True))
        return np.asarray(powers / powers.sum(axis=self.axis, keepdims=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """Read the best classes.

    Attributes:
        k: How many are kept.
    """

    version: ClassVar[int] = 1

    k: int = 5

    def __post_init__(self) -> None:
        """Refuse to keep no class."""
        if self.k < 1:
            raise UsageError(
                f"topk: k is {self.k}, expected at least 1", hint="Use k = 5."
            )

    def decode(self, scores: Array, labels: Sequence[str]) -> Prediction:
        """Rank the classes, scores [C] (or [C, 1, 1]); ties go to the lower index."""
        flat = scores.reshape(-1).astype(np.float64)
        if flat.size == 0 or (labels and flat.size != len(labels)):
            raise DataError(
                f"the model gives {flat.size} scores, the task names "
                f"{len(labels)} labels",
                hint="Give one label a class, in the model's order.",
            )
        if not np.isfinite(flat).all():
            return Prediction(label=-1, name="", confidence=0.0)
        best = np.argsort(-flat, kind="stable")[: self.k]
        ranked = tuple((int(index), float(flat[index])) for index in best)
        label, confidence = ranked[0]
        name = labels[label] if labels else str(label)
        return Prediction(label=label, name=name, confidence=confidence, ranked=ranked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ctc:
    """Read a line of text, greedily.

    The best symbol of each step is taken, repeats are merged and blanks removed (best
    path decoding: A. Graves et al., "Connectionist Temporal Classification", ICML
    2006, section 3.2).

    Attributes:
        blank: The index of the blank symbol among the labels.
    """

    version: ClassVar[int] = 1

    blank: int = 0

    def decode(self, scores: Array, labels: Sequence[str]) -> Prediction:
        """Read scores [T, C]; the confidence is the mean over the characters kept."""
        if scores.ndim != len("TC") or scores.shape[1] != len(labels):
            raise DataError(
                f"ctc takes steps × {len(labels)} symbols, got {_sizes(scores)}",
                hint="The labels are the alphabet, the blank included.",
            )
        if not np.isfinite(scores).all():
            return Prediction(label="", name="", confidence=0.0)
        best = scores.argmax(axis=1)
        is_new = np.concatenate(([True], best[1:] != best[:-1]))[: len(best)]
        kept = np.flatnonzero(is_new & (best != self.blank))
        text = "".join(labels[best[step]] for step in kept)
        top = scores[kept, best[kept]]
        confidence = float(top.mean()) if len(kept) else 0.0
        return Prediction(label=text, name=text, confidence=confidence)


PRE_STEPS: Mapping[str, type[Any]] = {
    "resize": Resize,
    "letterbox": Letterbox,
    "crop": Crop,
    "normalize": Normalize,
    "layout": Layout,
    "resample": Resample,
    "gap_fill": GapFill,
    "scale": Scale,
    "window": Window,
    "fft": Fft,
    "band_energies": BandEnergies,
    "mfcc": Mfcc,
    "reshape": Reshape,
}
PICTURE_STEPS = (Resize, Letterbox, Crop, Layout)
"""Steps that take pictures alone."""
SERIES_STEPS = (Resample, GapFill, Window, Fft, BandEnergies, Mfcc, Reshape)
"""Steps that take time series alone; `normalize` and `scale` take both."""
POST_STEPS: Mapping[str, type[Any]] = {
    "softmax": Softmax,
    "topk": TopK,
    "ctc": Ctc,
    "boxes_scores": BoxesScores,
    "yolox": Yolox,
    "fastestdet": Fastestdet,
    "centernet": Centernet,
    "dbnet": Dbnet,
    "yunet": Yunet,
    "nms": Nms,
    "selected": Selected,
    "embedding": Embedding,
    "embed_match": EmbedMatch,
    "value": Value,
    "reconstruction_error": ReconstructionError,
}


def step_from_table(
    table: Mapping[str, Any], known: Mapping[str, type[Any]], *, name: str
) -> Any:
    """Make a step from its table in a task file.

    Args:
        table: `step`, `version` (1 where it is missing), and the parameters.
        known: `PRE_STEPS` or `POST_STEPS`.
        name: Whose table it is, for messages.

    Raises:
        UsageError: The step or a parameter is unknown (the nearest known one is
            named), a value is wrong, or the version is newer than ours.
    """
    params = dict(table)
    word, version = params.pop("step", None), params.pop("version", 1)
    if not isinstance(word, str) or word not in known:
        raise UsageError(
            f"{name}: unknown step {word!r}", hint=did_you_mean(str(word), known)
        )
    newest = known[word].version
    if type(version) is not int or not 1 <= version <= newest:
        raise UsageError(
            f"{name}: {word} has version {version!r}, expected 1 to {newest}",
            hint="The file was written by a newer Skerry: upgrade this one.",
        )
    return from_table(known[word], params, name=f"{name}: {word}")


def _resize(
    array: Array, height: int, width: int, interpolation: _image.Interpolation
) -> Array:
    if array.shape[:2] == (height, width):
        return array
    return _image.resize(array, height, width, interpolation)


def _pad(
    array: Array, corner: tuple[int, int], size: tuple[int, int], fill: int
) -> Array:
    if array.shape[:2] == size:
        return array
    frame = np.full((*size, array.shape[2]), fill, dtype=array.dtype)
    (top, left), (rows, columns) = corner, array.shape[:2]
    frame[top : top + rows, left : left + columns] = array
    return frame


def _check_size(step: str, height: int, width: int) -> None:
    for side in (height, width):
        if not 1 <= side <= LARGEST_SIDE:
            raise UsageError(
                f"{step}: a side is {side}, expected 1 to {LARGEST_SIDE}",
                hint="Sides are in pixels.",
            )


def _check_fill(step: str, fill: int) -> None:
    if not 0 <= fill <= np.iinfo(np.uint8).max:
        raise UsageError(
            f"{step}: fill is {fill}, expected 0 to 255", hint="Pixels are uint8."
        )


def _check_picture(step: str, array: Array) -> None:
    if array.dtype != np.uint8 or array.ndim != len("HWC") or array.size == 0:
        raise DataError(
            f"{step} takes a uint8 picture, rows × columns × channels; got "
            f"{array.dtype} {_sizes(array)}",
            hint="Put it before normalize and layout.",
        )


def _sizes(array: Array) -> str:
    return " × ".join(str(size) for size in array.shape) or "a number"
