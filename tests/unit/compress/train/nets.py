"""Graphs that several tests of training begin with."""

from __future__ import annotations

from functools import cache

from skerry.compress.train.export import export_graph
from skerry.graph import Graph
from tests.training import toy_training


@cache
def _toy() -> Graph:
    training = toy_training()
    return export_graph(
        training.module,
        training.example,
        inputs=training.inputs,
        outputs=training.outputs,
    )


def exported_toy() -> Graph:
    """The toy net, yet to be trained."""
    return _toy().copy()
