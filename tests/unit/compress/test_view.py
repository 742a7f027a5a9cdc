from __future__ import annotations

from pathlib import Path

import pytest

from skerry.compress.apply import apply_steps
from skerry.compress.ptq.quantize import StepContext
from skerry.compress.view import SAME, view_of
from skerry.core.errors import DataError
from skerry.core.recipe import Recipe, StepSpec
from skerry.core.seams import Runtime
from skerry.graph import Graph, parse_graph
from skerry.tasks.samples import MemorySource, SampleSource, open_samples
from skerry.tasks.steps import Resize
from tests import models, pictures


def resize(scale: float) -> StepSpec:
    """The step, for a net whose largest stride is 2."""
    return StepSpec(name="resize", params={"scale": scale, "multiple": 2})


@pytest.fixture
def graph() -> Graph:
    """A classifier of pictures of 32 × 32."""
    return parse_graph(models.conv_net(size=32))


@pytest.fixture
def source(graph: Graph, tmp_path: Path) -> SampleSource:
    """Eight pictures in a folder."""
    pictures.make_folder(tmp_path / "pictures", count=8)
    return open_samples(tmp_path / "pictures", graph.inputs, pictures.TASK)


def test_what_is_not_resized_is_seen_as_it_is(
    graph: Graph, source: SampleSource
) -> None:
    """No resize, and one to the size that is there, change nothing."""
    recipe = Recipe(steps=(resize(1.0), StepSpec(name="quantize")))
    view = view_of(recipe, graph.inputs)
    assert view == SAME
    assert not view.is_changed
    assert view.samples(source) is source
    assert view.task(pictures.TASK) is pictures.TASK


def test_steps_follow_one_another(graph: Graph, source: SampleSource) -> None:
    """The second resize begins with what the first has made."""
    recipe = Recipe(steps=(resize(0.5), StepSpec(name="half"), resize(0.75)))
    view = view_of(recipe, graph.inputs)
    assert [one.inputs["x"].shape for one in view.samples(source)] == [
        (1, 3, 12, 12)
    ] * 8
    assert view.task(pictures.TASK).pre[0] == Resize(height=12, width=12)


def test_steps_after_a_resize_calibrate_on_what_the_model_sees(
    graph: Graph, source: SampleSource, runtime: Runtime
) -> None:
    """A recipe applied as it is needs no more than the samples of the source."""
    context = StepContext(calibration=source, runtime=runtime)
    recipe = Recipe(steps=(resize(0.5), StepSpec(name="quantize")))
    made = apply_steps(graph, recipe, context)
    assert made.inputs[0].shape == (1, 3, 16, 16)
    assert any(node.op_type == "QuantizeLinear" for node in made.nodes)


def test_inputs_made_already_cannot_follow(graph: Graph) -> None:
    """Arrays of one size are said to be that."""
    view = view_of(Recipe(steps=(resize(0.5),)), graph.inputs)
    with pytest.raises(DataError, match="one resolution"):
        view.samples(MemorySource(samples=()))
