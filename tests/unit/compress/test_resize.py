from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skerry.compress.ptq.quantize import StepContext
from skerry.compress.recipe_files import make_step
from skerry.compress.resize import SCALES, ResizeInput
from skerry.core.errors import DataError, UsageError
from skerry.core.seams import Runtime
from skerry.graph import Graph, parse_graph
from skerry.tasks._image import encode_png
from skerry.tasks.heads import BoxesScores, Fastestdet, Nms, Yolox
from skerry.tasks.samples import MemorySource, open_samples
from skerry.tasks.steps import Crop, Layout, Letterbox, Normalize, Resize, TopK
from skerry.tasks.task import Task, TaskKind
from tests import models

HALF = ResizeInput(scale=0.5, multiple=8)

CLASSES = Task(
    kind=TaskKind.CLASSIFICATION,
    metric="top1",
    labels=("a", "b", "c", "d"),
    pre=(
        Resize(height=64, width=40),
        Crop(height=32, width=32),
        Normalize(scale=1 / 255),
        Layout(order="CHW", channels="RGB"),
    ),
    post=(TopK(k=1),),
)


def boxes_task(*post: object) -> Task:
    """A detector's task at 32 × 32."""
    return Task(
        kind=TaskKind.DETECTION,
        metric="map",
        pre=(Letterbox(height=32, width=32), Normalize(), Layout(order="CHW")),
        post=(*post, Nms()),  # type: ignore[arg-type]
    )


@pytest.fixture
def graph() -> Graph:
    """A classifier of pictures of 32 × 32."""
    return parse_graph(models.conv_net(size=32))


@pytest.fixture
def context(runtime: Runtime) -> StepContext:
    """No samples: the step looks at none."""
    return StepContext(calibration=MemorySource(samples=()), runtime=runtime)


def test_a_recipe_names_the_step() -> None:
    """What a recipe says is the step, and the step says the same recipe."""
    step = ResizeInput(height=24, width=40)
    assert make_step(step.spec()) == step
    assert ResizeInput.SPACE["scale"].values == SCALES  # type: ignore[union-attr]


def test_the_graph_takes_the_other_size(graph: Graph, context: StepContext) -> None:
    """The input is as large as was asked for, or scaled to a multiple of the stride."""
    assert HALF.apply(graph, context).inputs[0].shape == (1, 3, 16, 16)
    given = ResizeInput(height=24, width=40).apply(graph, context)
    assert given.inputs[0].shape == (1, 3, 24, 40)
    assert graph.inputs[0].shape == (1, 3, 32, 32)
    same = ResizeInput().apply(graph, context)
    assert same.to_bytes() == graph.to_bytes()


def test_the_steps_before_the_model_make_pictures_of_the_size(graph: Graph) -> None:
    """The last sized step makes the input; those before it keep their proportion."""
    pre = HALF.change_task(CLASSES, graph.inputs).pre
    assert pre[:2] == (Resize(height=32, width=20), Crop(height=16, width=16))
    assert pre[2:] == CLASSES.pre[2:]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Yolox(height=32, width=32), Yolox(height=16, width=16)),
        (Fastestdet(height=32, width=32), Fastestdet(height=16, width=16)),
        (BoxesScores(height=32, width=32), BoxesScores(height=16, width=16)),
        (BoxesScores(), BoxesScores()),
    ],
)
def test_heads_read_the_size(graph: Graph, before: object, after: object) -> None:
    """A head that knows the size of the input is told the other one."""
    changed = HALF.change_task(boxes_task(before), graph.inputs)
    assert changed.post[0] == after
    assert changed.pre[0] == Letterbox(height=16, width=16)


def test_samples_are_read_at_the_size(graph: Graph, tmp_path: Path) -> None:
    """Pictures in a folder become inputs of the resized model."""
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        picture = encode_png(np.zeros((20, 30, 3), np.uint8))
        (tmp_path / label / "1.png").write_bytes(picture)
    source = open_samples(tmp_path, graph.inputs, CLASSES)
    resized = HALF.change_samples(source, graph.inputs)
    assert [one.inputs["x"].shape for one in resized] == [(1, 3, 16, 16)] * 2
    assert [one.label for one in resized] == [one.label for one in source]


def test_inputs_made_already_are_refused(graph: Graph) -> None:
    """What is no picture any more cannot be made a picture of another size."""
    with pytest.raises(DataError, match="one resolution"):
        HALF.change_samples(MemorySource(samples=()), graph.inputs)


def test_a_task_of_another_model_is_refused(graph: Graph) -> None:
    """A task that makes inputs of another size than the model's is not scaled."""
    other = replace(CLASSES, pre=(Resize(height=28, width=28), *CLASSES.pre[2:]))
    with pytest.raises(UsageError, match="28 × 28"):
        HALF.change_task(other, graph.inputs)


def test_an_open_side_has_no_scale() -> None:
    """A model for pictures of any size is given both sides, not a scale."""
    inputs = parse_graph(models.dynamic_net()).inputs
    with pytest.raises(UsageError, match="any size"):
        HALF.sides(inputs)
    assert ResizeInput(height=24, width=16).sides(inputs) == (24, 16)


@pytest.mark.parametrize(
    "params",
    [{"height": 32}, {"height": -1, "width": -1}, {"scale": 0.0}, {"multiple": 0}],
)
def test_sizes_that_make_no_sense_are_refused(params: dict[str, float]) -> None:
    """One side alone, no pixels, and no scale are refused."""
    with pytest.raises(UsageError):
        ResizeInput(**params)  # type: ignore[arg-type]
