"""Read ncnn's two files, `.param` and `.bin`; ncnn itself is not needed.

`NAME.param` is text: a magic number, how many layers and blobs there are, then a layer
a line: its type, its name, how many blobs it reads and makes, their names, its
parameters (ncnn's wiki, "param and model file structure"). `NAME.bin` is the weights,
one layer's after the other's, with nothing in front: the text alone says how many.

For a release both are packed into one file: the weights first, for ncnn reads a file
from its beginning and looks no further than its last weight; then the text, its length
in eight bytes (little-endian), and eight bytes that say what it is.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skerry.core.errors import ModelError, UsageError

MAGIC = b"7767517"
PACKED_MAGIC = b"SkNcnn\x00\x01"
MOST_TEXT_BYTES = 1 << 24

Shape = tuple[int | None, ...]
"""Sizes; None where the data decide."""

_FOOTER = struct.Struct("<Q8s")
_MOST_LAYERS = 100_000
_MOST_SIZE = 1 << 24
_SHAPE_HINTS = "-23330"
_HINTS_A_BLOB = 4
_EXPORT_AGAIN = "Export the model again, or fetch both files again."

_FOUND_ROWS: Shape = (None, 6)

_OPEN_LAYERS = frozenset(
    {"DetectionOutput", "YoloDetectionOutput", "Yolov3DetectionOutput"}
)
"""Layers that give a row of six numbers for each object that they find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NcnnFile:
    """What a `.param` says.

    Attributes:
        text: All of it.
        weights: The file that begins with the weights.
        inputs: Shape by name of the blobs that are put in; without a batch axis, which
            ncnn has not; None where the file does not say it.
        outputs: The same of the blobs that nobody reads.
    """

    text: str
    weights: Path
    inputs: Mapping[str, Shape | None]
    outputs: Mapping[str, Shape | None]


def is_ncnn(path: Path) -> bool:
    """Whether a file is a `.param`, or both files packed into one.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC) + 1).split() == [MAGIC]:
            return True
        if file.seek(0, 2) < _FOOTER.size:
            return False
        file.seek(-_FOOTER.size, 2)
        return file.read().endswith(PACKED_MAGIC)


def read_ncnn(path: Path) -> NcnnFile:
    """Read a `.param` with its `.bin` beside it, or both packed.

    Raises:
        UsageError: A file cannot be read.
        ModelError: It is neither, damaged, or the `.bin` is missing.
    """
    try:
        content, weights = _read(path)
    except OSError as error:
        raise UsageError(
            f"the model {path} cannot be read: {error.strerror or error}",
            hint="Check who may read it.",
        ) from error
    if not weights.is_file():
        raise ModelError(
            f"{path.name} keeps its weights in {weights.name}, which is not beside it",
            hint="Copy that file into the folder of the model.",
        )
    return parse_param(content, weights=weights, name=path.name)


def pack_ncnn(path: Path) -> bytes:
    """Pack a `.param` and its `.bin` into one; what is packed stays as it is.

    Raises:
        UsageError: A file cannot be read.
        ModelError: As `read_ncnn`.
    """
    found = read_ncnn(path)
    try:
        weights = found.weights.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the model {found.weights} cannot be read: {error.strerror or error}",
            hint="Check who may read it.",
        ) from error
    if found.weights == path:
        return weights
    text = found.text.encode()
    return weights + text + _FOOTER.pack(len(text), PACKED_MAGIC)


def parse_param(content: bytes, *, weights: Path, name: str) -> NcnnFile:
    """Read the text of a `.param`.

    What ncnn would believe (how many layers there are, who makes a blob) is checked
    here first, for it takes memory by it.

    Raises:
        ModelError: It is not a `.param`, or damaged.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise _damaged(name) from error
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if "\0" in text or len(lines) < 2 or lines[0] != [MAGIC.decode()]:
        raise ModelError(
            f"{name} is not an ncnn .param, or only a part of one", hint=_EXPORT_AGAIN
        )
    try:
        n_layers, n_blobs = map(int, lines[1])
        if not 0 < n_layers <= _MOST_LAYERS or len(lines) - 2 != n_layers:
            raise _damaged(name)
        inputs, made = _walk(lines[2:])
    except (ValueError, IndexError) as error:
        raise _damaged(name) from error
    if len(made) != n_blobs or not inputs:
        raise _damaged(name)
    outputs = {blob: shape for blob, (shape, is_read) in made.items() if not is_read}
    return NcnnFile(text=text, weights=weights, inputs=inputs, outputs=outputs)


def _read(path: Path) -> tuple[bytes, Path]:
    """The text, and the file that begins with the weights."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - _FOOTER.size))
        tail = file.read()
        if not tail.endswith(PACKED_MAGIC) or len(tail) < _FOOTER.size:
            file.seek(0)
            return _bounded(file.read(MOST_TEXT_BYTES + 1), path), path.with_suffix(
                ".bin"
            )
        (length, _) = _FOOTER.unpack(tail)
        if length > min(end - _FOOTER.size, MOST_TEXT_BYTES):
            raise _damaged(path.name)
        file.seek(end - _FOOTER.size - length)
        return file.read(length), path


def _bounded(content: bytes, path: Path) -> bytes:
    if len(content) > MOST_TEXT_BYTES:
        raise _damaged(path.name)
    return content


def _damaged(name: str) -> ModelError:
    return ModelError(
        f"{name} is a damaged ncnn .param, or only a part of one", hint=_EXPORT_AGAIN
    )


def _walk(
    lines: Sequence[Sequence[str]],
) -> tuple[dict[str, Shape | None], dict[str, tuple[Shape | None, bool]]]:
    """Inputs by name, and for each blob its shape and whether somebody reads it."""
    inputs: dict[str, Shape | None] = {}
    made: dict[str, tuple[Shape | None, bool]] = {}
    for kind, _, n_read, n_made, *rest in lines:
        first, last = int(n_read), int(n_read) + int(n_made)
        if not 0 <= first <= last <= len(rest):
            raise ValueError(kind)
        reads, makes = rest[:first], rest[first:last]
        for blob in reads:
            if blob not in made:
                raise ValueError(blob)
            made[blob] = made[blob][0], True
        settings = dict(one.split("=", 1) for one in rest[last:])
        for at, blob in enumerate(makes):
            if blob in made:
                raise ValueError(blob)
            shape = _FOUND_ROWS if kind in _OPEN_LAYERS else _hint(settings, at)
            if kind == "Input":
                shape = _input_shape(settings) or shape
                inputs[blob] = shape
            made[blob] = shape, False
    return inputs, made


def _input_shape(settings: Mapping[str, str]) -> Shape | None:
    """What an Input layer says: 0 is its width, 1 height, 11 depth, 2 channels."""
    sizes = [_size(settings.get(key, "0")) for key in ("2", "11", "1", "0")]
    shape = tuple(size for size in sizes if size)
    return shape or None


def _hint(settings: Mapping[str, str], at: int) -> Shape | None:
    """What ncnn's tools note of a blob: how many dimensions, width, height, channels.

    There is no room for a depth, so of four dimensions nothing is known.
    """
    _, *numbers = settings.get(_SHAPE_HINTS, "0").split(",")
    noted = [_size(each) for each in numbers[at * _HINTS_A_BLOB :][:_HINTS_A_BLOB]]
    if len(noted) < _HINTS_A_BLOB or noted[0] not in {1, 2, 3}:
        return None
    shape = tuple(reversed(noted[1 : 1 + noted[0]]))
    return shape if all(shape) else None


def _size(text: str) -> int:
    size = int(text)
    if not 0 <= size <= _MOST_SIZE:
        raise ValueError(text)
    return size
