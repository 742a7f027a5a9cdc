"""The suppression of boxes as nodes of the graph: the same boxes as in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skerry.adapt.nms import nms_in_graph
from skerry.core.errors import ModelError, UsageError
from skerry.core.seams import LoadOptions, Tensors
from skerry.graph import Graph, parse_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.boxes import Boxes, overlaps
from skerry.tasks.dbnet import Dbnet
from skerry.tasks.heads import (
    BoxesScores,
    Centernet,
    Fastestdet,
    Head,
    Nms,
    Selected,
    Yolox,
)
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind, parse_task, task_to_toml
from tests.models import model_bytes

CLASSES = 3


def _task(head: Head, nms: Nms) -> Task:
    return Task(kind=TaskKind.DETECTION, metric="map", post=(head, nms))


def _graph(opset: int = 13, **shapes: tuple[Any, ...]) -> Graph:
    """A net whose outputs are its inputs."""
    inputs, outputs, nodes = [], [], []
    for name, shape in shapes.items():
        sizes = ", ".join(map(str, shape))
        inputs.append(f"float[{sizes}] {name}_in")
        outputs.append(f"float[{sizes}] {name}")
        nodes.append(f"{name} = Identity({name}_in)")
    signature = f"({', '.join(inputs)}) => ({', '.join(outputs)})"
    text = f"net {signature} {{ {' '.join(nodes)} }}"
    return parse_graph(model_bytes(text, {}, opset=opset), name="net")


def _both(
    folder: Path,
    graph: Graph,
    task: Task,
    arrays: dict[str, np.ndarray],
    runtime: str = "onnxruntime",
) -> tuple[Boxes, Boxes]:
    """The boxes of a head in Python, and of the same in the graph."""
    changed, selecting = nms_in_graph(graph, task)
    model = write_graph(changed, folder / "nms.onnx")
    session = get_runtime(runtime).load(model, LoadOptions())
    inputs: Tensors = {f"{name}_in": array for name, array in arrays.items()}
    try:
        outputs = session.run(inputs)
    finally:
        session.close()
    outside, inside = task.decode(arrays).boxes, selecting.decode(outputs).boxes
    assert outside is not None
    assert inside is not None
    return outside, inside


def _is_close_call(task: Task, arrays: dict[str, np.ndarray]) -> bool:
    """Whether two boxes overlap so nearly by the limit that rounding decides."""
    head, nms = task.post[0], task.post[-1]
    assert isinstance(head, Head)
    assert isinstance(nms, Nms)
    with np.errstate(all="ignore"):
        found = head.read({name: array[0] for name, array in arrays.items()})
    is_finite = np.isfinite(found.corners).all(axis=1)
    table = overlaps(found.corners[is_finite], found.corners[is_finite])
    limits = np.abs(found.scores - nms.min_score).min(initial=1)
    return bool(np.abs(table - nms.iou).min(initial=1) < 1e-5 or limits < 1e-6)


def _check_same(outside: Boxes, inside: Boxes) -> None:
    assert inside.labels.tolist() == outside.labels.tolist()
    np.testing.assert_allclose(inside.scores, outside.scores, rtol=1e-5)
    np.testing.assert_allclose(inside.corners, outside.corners, rtol=1e-4, atol=1e-3)


def _scores(rng: np.random.Generator, count: int) -> np.ndarray:
    """Scores of which no two are alike: ties may be kept in any order."""
    alike = rng.permutation(count * CLASSES).reshape(1, count, CLASSES)
    return (alike / (count * CLASSES)).astype(np.float32)


def _made(kind: str, rng: np.random.Generator) -> tuple[Head, dict[str, np.ndarray]]:
    if kind == "yolox":
        rows = rng.normal(0, 0.7, (1, 21, 5 + CLASSES)).astype(np.float32)
        rows[:, :, 4:] = rng.random((1, 21, 1 + CLASSES))
        return Yolox(height=32, width=32), {"y": rows}
    if kind == "fastestdet":
        planes = rng.normal(0, 1, (1, 5 + CLASSES, 4, 5)).astype(np.float32)
        return Fastestdet(height=64, width=80), {"y": planes}
    if kind == "centernet":
        heat = rng.random((1, CLASSES, 4, 5)).astype(np.float32)
        scale, offset = rng.normal(0, 1, (2, 1, 2, 4, 5)).astype(np.float32)
        return Centernet(), {"heat": heat, "scale": scale, "offset": offset}
    corners = rng.integers(0, 20, (1, 24, 2, 2)).astype(np.float32)
    corners.sort(axis=2)
    head = BoxesScores(background=0, softmax=True, height=2, width=3)
    arrays = {"boxes": corners.reshape(1, 24, 4), "scores": _scores(rng, 24) * 5}
    return head, arrays


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["boxes_scores", "yolox", "fastestdet", "centernet"]),
    seed=st.integers(0, 1 << 32),
    iou=st.floats(0.05, 1),
    min_score=st.floats(0, 0.9),
    most=st.integers(1, 30),
    classes=st.sampled_from(["best", "all"]),
)
def test_each_head_gives_the_same_boxes(  # noqa: PLR0917 (one a parameter)
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    seed: int,
    iou: float,
    min_score: float,
    most: int,
    classes: Any,
) -> None:
    """Random outputs and limits: the same boxes, in the same order."""
    head, arrays = _made(kind, np.random.default_rng(seed))
    nms = Nms(iou=iou, min_score=min_score, most=most, classes=classes)
    task = _task(head, nms)
    assume(not _is_close_call(task, arrays))
    graph = _graph(**{name: array.shape for name, array in arrays.items()})
    folder = tmp_path_factory.mktemp("nms")
    _check_same(*_both(folder, graph, task, arrays))


@pytest.mark.parametrize("opset", [13, 18, 20])
def test_newer_opsets_are_kept(tmp_path: Path, opset: int) -> None:
    """ReduceMax takes its axes another way from opset 18 on."""
    head, arrays = _made("boxes_scores", np.random.default_rng(1))
    shapes = {name: array.shape for name, array in arrays.items()}
    task = _task(head, Nms(iou=0.4321, min_score=0.3))
    _check_same(*_both(tmp_path, _graph(opset=opset, **shapes), task, arrays))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("order", ["xyxy", "yxyx", "cxcywh"])
def test_other_runtimes_and_orders(tmp_path: Path, runtime: str, order: Any) -> None:
    """Openvino runs the standard's nodes too."""
    rng = np.random.default_rng(3)
    corners = rng.integers(0, 20, (1, 24, 2, 2)).astype(np.float32)
    corners.sort(axis=2)
    arrays = {"b": corners.reshape(1, 24, 4), "s": _scores(rng, 24)}
    task = _task(BoxesScores(order=order), Nms(iou=0.4321, min_score=0.3))
    assert not _is_close_call(task, arrays)
    graph = _graph(b=(1, 24, 4), s=(1, 24, CLASSES))
    outside, inside = _both(tmp_path, graph, task, arrays, runtime)
    assert len(outside) > 3
    _check_same(outside, inside)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_nothing_found_is_no_box(tmp_path: Path, runtime: str) -> None:
    """Scores below the limit leave outputs of no rows."""
    arrays = {
        "b": np.ones((1, 4, 4), np.float32),
        "s": np.zeros((1, 4, CLASSES), np.float32),
    }
    graph = _graph(b=(1, 4, 4), s=(1, 4, CLASSES))
    task = _task(BoxesScores(), Nms(min_score=0.5))
    outside, inside = _both(tmp_path, graph, task, arrays, runtime)
    assert len(outside) == len(inside) == 0


def test_what_is_not_finite_is_no_candidate(tmp_path: Path) -> None:
    """Neither a box nor a score without a number, as in Python."""
    boxes = np.array(
        [[[0, 0, np.nan, 9], [0, 0, 9, np.inf], [0, 0, 9, 9], [30, 0, 40, 9]]],
        np.float32,
    )
    scores = np.array([[[0.9] * 3, [0.9] * 3, [np.nan] * 3, [0.1, 0.3, np.inf]]])
    arrays = {"b": boxes, "s": scores.astype(np.float32)}
    graph = _graph(b=(1, 4, 4), s=(1, 4, CLASSES))
    outside, inside = _both(tmp_path, graph, _task(BoxesScores(), Nms()), arrays)
    assert outside.labels.tolist() == [1]
    _check_same(outside, inside)


@pytest.mark.parametrize(("rows", "classes"), [("n", "best"), (5000, "all")])
def test_only_the_surest_candidates_are_compared(
    tmp_path: Path, rows: Any, classes: Any
) -> None:
    """More than 4096, told by the graph or not: the same of them count."""
    rng = np.random.default_rng(0)
    low = rng.random((1, 5000, 2), dtype=np.float32) * 1000
    arrays = {"b": np.concatenate([low, low + 2], axis=2), "s": _scores(rng, 5000)}
    graph = _graph(b=(1, rows, 4), s=(1, rows, CLASSES))
    task = _task(BoxesScores(), Nms(iou=0.5, most=6000, classes=classes))
    assert not _is_close_call(
        _task(BoxesScores(), Nms(iou=0.5)),
        {name: array[:, :500] for name, array in arrays.items()},
    )
    outside, inside = _both(tmp_path, graph, task, arrays)
    assert 1000 < len(outside) < 4096
    _check_same(outside, inside)


def test_an_old_opset_is_raised_and_names_are_kept(tmp_path: Path) -> None:
    """The graph given stays as it was; outputs named alike do no harm."""
    shapes = {"selected_boxes": (1, 4, 4), "s": (1, 4, CLASSES)}
    graph = _graph(opset=11, **shapes)
    arrays = {
        "selected_boxes": np.ones((1, 4, 4), np.float32),
        "s": np.full((1, 4, CLASSES), 0.5, np.float32),
    }
    task = _task(BoxesScores(), Nms(most=2, iou=1))
    changed, selecting = nms_in_graph(graph, task)
    assert [spec.name for spec in graph.outputs] == ["selected_boxes", "s"]
    assert changed.opset == 13
    names = [spec.name for spec in changed.outputs]
    assert names[0].startswith("selected_boxes_")
    assert names[1:] == ["selected_scores", "selected_classes"]
    assert isinstance(selecting.post[0], Selected)
    assert parse_task(task_to_toml(selecting).encode(), name="t") == selecting
    outside, inside = _both(tmp_path, graph, task, arrays)
    _check_same(outside, inside)


@pytest.mark.parametrize(
    ("head", "shapes", "match"),
    [
        (BoxesScores(boxes="c"), {"b": (1, 3, 4), "s": (1, 3, 2)}, "no output 'c'"),
        (BoxesScores(), {"b": (2, 3, 4), "s": (2, 3, 2)}, "expected a batch of 1"),
        (BoxesScores(), {"b": (1, 3, 4), "s": (1, 3, "c")}, "does not say the sizes"),
        (Yolox(height=32, width=32), {"y": (1, 20, 8)}, "a yolox head of 32 × 32"),
        (Yolox(height=32, width=32), {"y": (1, 21, 5)}, "a yolox head of 32 × 32"),
        (Fastestdet(height=8, width=8), {"y": (1, 6, "h", 2)}, "not say the sizes"),
        (Centernet(), {"a": (1, 1, 2, 2), "b": (1, 2, 2)}, "and 3 more axes"),
        (Centernet(), {"a": (1, 1, 2, 2)}, "no output ''"),
    ],
)
def test_graphs_that_are_no_such_head_are_refused(
    head: Head, shapes: dict[str, tuple[Any, ...]], match: str
) -> None:
    """Each with what was expected."""
    with pytest.raises(ModelError, match=match) as caught:
        nms_in_graph(_graph(**shapes), _task(head, Nms()))
    assert caught.value.hint


def test_a_head_that_follows_regions_stays_outside() -> None:
    """Which pixels touch is nothing that the standard's nodes tell."""
    task = _task(Dbnet(height=8, width=8), Nms())
    with pytest.raises(UsageError, match="Dbnet has no form as a graph"):
        nms_in_graph(_graph(y=(1, 1, 8, 8)), task)


def test_half_precision_is_taken_too(tmp_path: Path) -> None:
    """Outputs in float16 are computed with in float32."""
    text = (
        "net (float16[1, 2, 4] b_in, float16[1, 2, 1] s_in) => "
        "(float16[1, 2, 4] b, float16[1, 2, 1] s) "
        "{ b = Identity(b_in) s = Identity(s_in) }"
    )
    graph = parse_graph(model_bytes(text, {}, opset=13), name="net")
    boxes = np.array([[[0, 0, 4, 4], [0, 0, 4, 5]]], np.float16)
    arrays = {"b": boxes, "s": np.array([[[0.5], [0.75]]], np.float16)}
    outside, inside = _both(tmp_path, graph, _task(BoxesScores(), Nms()), arrays)
    assert len(outside) == 1
    _check_same(outside, inside)


def test_only_a_detection_task_has_boxes() -> None:
    """A classifier has nothing to suppress."""
    task = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(),))
    with pytest.raises(UsageError, match="ends with TopK"):
        nms_in_graph(_graph(y=(1, 3)), task)
