"""MLPerf Tiny's float nets: ResNet-8, keyword spotting, visual wake words.

The nets are those of github.com/mlcommons/tiny (Apache-2.0), converted by
`tensorflow_tiny.py`.

Visual Wake Words (A. Chowdhery et al., 2019) calls a picture one of a person where a
person's box covers 0.5 % or more of it. Its own pictures are not at hand: 128 pictures
of COCO 2017's training set stand in, each whole and as its four corners, so that the
samples are not independent and the net may have been trained on some.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.nets.case import PARTS, Shot, write_arrays, write_net, write_pictures
from benchmarks.nets.coco import PERSON, CocoPicture, read_coco
from benchmarks.nets.places import (
    CONVERSION_TIMEOUT_S,
    check_outputs,
    data_folder,
    keep,
    run_script,
)
from benchmarks.nets.splits import deal_out
from skerry.tasks._image import decode_picture, encode_png, read_picture, resize
from skerry.tasks.steps import Layout, Normalize, Resize, TopK
from skerry.tasks.task import Task, TaskKind

MODELS = "models_mlperf_tiny"

CIFAR = "cifar10_jpg"
CIFAR_COUNTS = {"calibration": 300, "selection": 1000}
QUICK_CIFAR_COUNTS = {"calibration": 16, "selection": 60}
QUICK_CIFAR_REPORT = 200

CLIPS = "kws01_500"
KEYWORDS = (
    *("Down", "Go", "Left", "No", "Off", "On"),
    *("Right", "Stop", "Up", "Yes", "Silence", "Unknown"),
)
CLIP_SHAPE = (49, 10, 1)
CLIP_SCALE, CLIP_ZERO = 0.58470, 83
"""A stored code q stands for (q − 83) · 0.58470."""

CLIP_COUNTS = {"calibration": 80, "selection": 120, "report": 300}
QUICK_CLIP_COUNTS = {"calibration": 10, "selection": 20, "report": 30}

VWW_SIDE = 96
VWW_COUNTS = {"calibration": 24, "selection": 32, "report": 72}
QUICK_VWW_COUNTS = {"calibration": 2, "selection": 4, "report": 8}
SMALLEST_PERSON = 0.005
"""Smallest share of a picture that a person's box covers."""

CORNER = 0.7
"""Share of each side of a picture that its corners have."""


def net_file(folder: Path, name: str, source: str) -> Path:
    """Convert a net, once; `source` is its place among the models."""
    return keep(
        folder.parent / "made" / f"{name}.onnx",
        lambda part: _convert(data_folder(MODELS) / source, part),
    )


def _convert(source: Path, path: Path) -> None:
    run_script(
        "tensorflow-onnx",
        "tensorflow_tiny.py",
        [source, path],
        timeout_s=CONVERSION_TIMEOUT_S,
    )
    check = path.with_suffix(".npz")
    check_outputs(path, check)
    check.unlink()


def classes_task(labels: tuple[str, ...]) -> Task:
    """How a net that ends with a softmax is read."""
    return Task(
        kind=TaskKind.CLASSIFICATION, metric="top1", labels=labels, post=(TopK(k=1),)
    )


def write_resnet8(folder: Path, *, seed: int, quick: bool) -> None:
    """Write the case of ResNet-8: CIFAR-10, calibrated on training pictures."""
    path = data_folder(CIFAR) / "cifar10_dev.npz"
    net = net_file(folder, "resnet8", "ic/pretrainedResnet.tflite")
    with np.load(path) as packed:
        arrays = dict(packed)
    classes = tuple(str(name) for name in arrays["classes"])
    write_net(folder, net, classes_task(classes))
    training, test = (np.flatnonzero(arrays["split"] == one) for one in (0, 1))
    counts = QUICK_CIFAR_COUNTS if quick else CIFAR_COUNTS
    dealt = deal_out(training.tolist(), {**counts, "report": 0}, seed)
    # The test pictures are sorted by class.
    report = np.random.default_rng(0).permutation(test).tolist()
    dealt["report"] = report[:QUICK_CIFAR_REPORT] if quick else report
    for part, chosen in dealt.items():
        pictures = np.stack([cifar_picture(arrays, index) for index in chosen])
        labels = arrays["label"][chosen].astype(np.int64)
        write_arrays(folder / f"{part}.npz", "input", pictures, labels)


def cifar_picture(
    arrays: dict[str, NDArray[np.generic]], index: int
) -> NDArray[np.float32]:
    """One picture as the net takes it: float32 [32, 32, 3], 0–255."""
    first, last = arrays["off"][index : index + 2]
    content = arrays["jpg"][first:last].tobytes()
    return decode_picture(content, name=f"picture {index}").astype(np.float32)


def write_keywords(folder: Path, *, seed: int, quick: bool) -> None:
    """Write the case of keyword spotting: 500 clips as 49 × 10 coefficients."""
    source = data_folder(CLIPS)
    net = net_file(folder, "kws", "kws/saved_model")
    write_net(folder, net, classes_task(KEYWORDS))
    files = sorted(source.glob("*.bin"))
    dealt = deal_out(files, QUICK_CLIP_COUNTS if quick else CLIP_COUNTS, seed)
    for part, chosen in dealt.items():
        clips = np.stack([_clip(file) for file in chosen])
        labels = np.array([int(file.stem.rpartition("_")[2]) for file in chosen])
        write_arrays(folder / f"{part}.npz", "input", clips, labels)


def _clip(file: Path) -> NDArray[np.float32]:
    codes = np.frombuffer(file.read_bytes(), dtype=np.int8).reshape(CLIP_SHAPE)
    return (codes.astype(np.float32) - CLIP_ZERO) * np.float32(CLIP_SCALE)


def write_wake_words(folder: Path, *, seed: int, quick: bool) -> None:
    """Write the case of visual wake words: is there a person?"""
    net = net_file(folder, "vww", "vww/vww_96_float.tflite")
    task = Task(
        kind=TaskKind.CLASSIFICATION,
        metric="top1",
        labels=("no person", "person"),
        pre=(
            Resize(height=VWW_SIDE, width=VWW_SIDE),
            Normalize(scale=1 / 255),
            Layout(order="HWC", channels="RGB"),
        ),
        post=(TopK(k=1),),
    )
    write_net(folder, net, task)
    counts = QUICK_VWW_COUNTS if quick else VWW_COUNTS
    dealt = deal_out(read_coco(), counts, seed)
    for part in PARTS:
        write_pictures(folder / part, _wake_shots(dealt[part]))


def _wake_shots(pictures: list[CocoPicture]) -> Iterator[Shot]:
    for one in pictures:
        picture = read_picture(one.path)
        rows, columns = picture.shape[:2]
        people = [corners for corners, label in one.boxes if label == PERSON]
        for index, (top, left, height, width) in enumerate(_cuts(rows, columns)):
            window = (left, top, left + width, top + height)
            has_person = any(
                _area_inside(corners, window) >= SMALLEST_PERSON * height * width
                for corners in people
            )
            cut = picture[top : top + height, left : left + width]
            yield Shot(
                file=f"{one.path.stem}-{index}.png",
                content=encode_png(resize(cut, VWW_SIDE, VWW_SIDE, "bilinear")),
                label="person" if has_person else "no person",
            )


def _cuts(rows: int, columns: int) -> list[tuple[int, int, int, int]]:
    """The top, left, height and width of a whole picture, then of its corners."""
    height, width = round(rows * CORNER), round(columns * CORNER)
    corners = [(y, x) for y in (0, rows - height) for x in (0, columns - width)]
    return [(0, 0, rows, columns), *((y, x, height, width) for y, x in corners)]


def _area_inside(
    corners: tuple[float, float, float, float], window: tuple[int, int, int, int]
) -> float:
    width = min(corners[2], window[2]) - max(corners[0], window[0])
    height = min(corners[3], window[3]) - max(corners[1], window[1])
    return max(width, 0.0) * max(height, 0.0)
