"""Detectors that find the same thing in each picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TASK = """
schema = "skerry.task/1"
kind = "detection"
metric = "map50"
labels = ["{label}"]

[[pre]]
step = "resize"
height = {rows}
width = {columns}

[[pre]]
step = "normalize"

[[pre]]
step = "layout"

[[post]]
step = "boxes_scores"

[[post]]
step = "nms"
"""


def write_model(
    folder: Path,
    name: str,
    box: tuple[float, ...],
    *,
    rows: int = 90,
    columns: int = 160,
) -> None:
    """A detector that always finds one thing at one place of a picture of this size."""
    shape = (1, 3, rows, columns)
    zero = numpy_helper.from_array(np.zeros(1, "f4"), "zero")
    boxes = numpy_helper.from_array(np.array([[box]], "f4"), "fixed")
    score = numpy_helper.from_array(np.array([[[0.9]]], "f4"), "score")
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["fixed", "nothing"], ["boxes"]),
        helper.make_node("Add", ["score", "nothing"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, (1, 1, 4)),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, (1, 1, 1)),
        ],
        [zero, boxes, score],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, folder / f"{name}.onnx")
    (folder / f"{name}.toml").write_text(
        TASK.format(label=name, rows=rows, columns=columns)
    )
