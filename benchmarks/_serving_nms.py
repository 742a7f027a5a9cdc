"""Suppression of overlapping boxes in the graph and in Python, the same boxes."""

from __future__ import annotations

import numpy as np

from benchmarks._found import Found, Plan, median_of, percentile, row
from benchmarks._harness import Measured
from benchmarks.nets.coco import read_coco
from benchmarks.nets.detectors import MODELS, yolox_task
from benchmarks.nets.places import data, data_folder
from skerry.adapt.nms import nms_in_graph
from skerry.core.seams import Array, LoadOptions, Session
from skerry.graph import open_model, read_graph, write_graph
from skerry.runtimes.onnxruntime import OnnxRuntime
from skerry.tasks._image import read_picture
from skerry.tasks.boxes import Boxes
from skerry.tasks.measure import measure_latency
from skerry.tasks.task import Task

BAR = "serving.nms_in_graph"


def measure_nms(plan: Plan) -> Found:
    """Time both on pictures with objects, in turns, from tensors to boxes."""
    what = "inference and suppression, YOLOX-nano"
    if missing := data(MODELS)() or data("coco_train128")():
        found = Measured(id=BAR, figure=None, n=0)
        return Found(rows=[row(what, "skerry", note=missing)], measured=[found])
    path = data_folder(MODELS) / "yolox_nano" / "yolox_nano.onnx"
    task = yolox_task()
    outside = OnnxRuntime().load(open_model(path), LoadOptions(threads=1))
    changed, selecting = nms_in_graph(read_graph(path), task)
    written = write_graph(changed, plan.work / "nms.onnx")
    inside = OnnxRuntime().load(open_model(written.path), LoadOptions(threads=1))
    inputs_name = outside.inputs[0].name
    pictures = _pictures(task, inputs_name, plan.count(24, 3))
    differing = [
        index
        for index, inputs in enumerate(pictures)
        if not _are_same(
            _boxes(outside, task, inputs), _boxes(inside, selecting, inputs)
        )
    ]
    ratios: list[float] = []
    took: dict[str, list[float]] = {"outside": [], "inside": []}
    for inputs in pictures:
        timed = measure_latency(
            {
                "outside": lambda inputs=inputs: _boxes(outside, task, inputs),
                "inside": lambda inputs=inputs: _boxes(inside, selecting, inputs),
            },
            repeats=plan.count(20, 3),
        )
        p50 = {name: float(np.median(one.wall_ms)) for name, one in timed.items()}
        ratios.append(p50["inside"] / p50["outside"])
        for name, one in timed.items():
            took[name] += one.wall_ms
    figure, (low, high) = median_of(ratios)
    rows = [
        row(
            what,
            f"skerry, NMS {where} the graph",
            unit="ms",
            figure=percentile(took[name], 50),
            n=len(took[name]),
            p99_ms=percentile(took[name], 99),
        )
        for name, where in (("inside", "in"), ("outside", "outside"))
    ]
    n_boxes = sum(len(_boxes(outside, task, inputs).labels) for inputs in pictures)
    rows.append(
        row(
            f"{what}: in ÷ outside",
            "skerry",
            figure=figure,
            unit="×",
            n=len(pictures),
            low=low,
            high=high,
            note=f"{n_boxes} boxes in {len(pictures)} pictures",
        )
    )
    unmet = f"other boxes in {len(differing)} pictures" if differing else ""
    measured = Measured(
        id=BAR, figure=figure, n=len(pictures), interval=(low, high), unmet=unmet
    )
    return Found(rows=rows, measured=[measured], series={"nms": ratios})


def _pictures(task: Task, name: str, count: int) -> list[dict[str, Array]]:
    return [
        {name: task.prepare(read_picture(picture.path))}
        for picture in read_coco()[:count]
    ]


def _boxes(session: Session, task: Task, inputs: dict[str, Array]) -> Boxes:
    boxes = task.decode(session.run(inputs)).boxes
    if boxes is None:
        raise RuntimeError("the task gives no boxes")
    return boxes


def _are_same(one: Boxes, other: Boxes) -> bool:
    return (
        one.labels.tolist() == other.labels.tolist()
        and np.allclose(one.scores, other.scores, rtol=1e-4)
        and np.allclose(one.corners, other.corners, rtol=1e-4, atol=1e-2)
    )
