from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skerry.compress.train.export import export_graph
from skerry.compress.train.from_graph import from_graph
from skerry.compress.train.prune.channels import PruneChannels
from skerry.compress.train.prune.layers import PruneLayers
from skerry.compress.train.training import TrainContext, Training
from skerry.core.budget import Budget
from skerry.graph import Graph, count, infer_shapes, with_static_inputs
from tests.running import run


def macs(graph: Graph) -> int:
    """Multiply-accumulates for one sample."""
    return count(
        infer_shapes(with_static_inputs(graph, {"picture": (1, 1, 8, 8)}))
    ).macs


@pytest.fixture
def graph(trained: Training) -> Graph:
    """The trained net as a graph."""
    return export_graph(
        trained.module, trained.example, inputs=("picture",), outputs=("logits",)
    )


@pytest.mark.parametrize(
    "step",
    [
        PruneChannels(ratio=0.5, rounds=1, epochs=0, multiple=4),
        PruneLayers(most=2, epochs=0, probe=0),
    ],
    ids=["channels", "layers"],
)
def test_a_pruned_module_is_a_smaller_graph(
    trained: Training, graph: Graph, step: PruneChannels | PruneLayers
) -> None:
    """From the user's module, or from a file read as one: the graph computes less."""
    inputs = {"picture": trained.example[0].numpy()}
    for module in (trained.module, from_graph(graph)):
        training = replace(trained, module=module)
        pruned = step.apply(module, TrainContext(training=training, budget=Budget()))
        smaller = export_graph(
            pruned, trained.example, inputs=("picture",), outputs=("logits",)
        )
        assert macs(smaller) < 0.6 * macs(graph)
        expected = pruned(*trained.example).detach().numpy()
        got = run(smaller, inputs)["logits"]
        assert np.allclose(expected, got, atol=1e-4)
