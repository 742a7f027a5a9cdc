"""What a model is, from the outside: a file, its signature, its hash."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class ModelFormat(StrEnum):
    """The file formats that Skerry knows by name."""

    ONNX = "onnx"
    TFLITE = "tflite"
    NCNN = "ncnn"

    @property
    def label(self) -> str:
        """How people write it."""
        return {"onnx": "ONNX", "tflite": "TFLite"}.get(self.value, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: The tensor's name in the model.
        dtype: A numpy dtype name (`float32`, `int8`, `uint8`, `int64` …).
        shape: One entry a dimension: a size, a symbol such as `"batch"`, or None
            where the model says nothing.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    @property
    def is_static(self) -> bool:
        """Whether each dimension is a number."""
        return all(isinstance(size, int) for size in self.shape)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits: symbols take any size."""
        return shape == self.shape or (
            len(shape) == len(self.shape)
            and all(
                not isinstance(own, int) or own == got
                for own, got in zip(self.shape, shape, strict=True)
            )
        )

    def __str__(self) -> str:
        sizes = "×".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype}[{sizes}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model file and what is known of it; never its bytes.

    Attributes:
        path: Where the file lies; of ncnn's two the `.param`, and the `.bin` of the
            same stem lies beside it.
        format: How it is written.
        inputs: The signature's inputs, in order.
        outputs: The signature's outputs, in order.
        sha256: The hash of the file (of the graph file alone where weights lie apart).
        size_bytes: The size on disk, weights that lie apart included.
    """

    path: Path
    format: ModelFormat
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sha256: str
    size_bytes: int
