"""The benchmark of rewrites counts what breaks, and what was not tried."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks._rewrite_nets import mobilevit_block, swish_net
from benchmarks._rewrite_search import Searched, search
from skerry.adapt.rewrite import adapt
from skerry.adapt.rewrite.residence import residence
from skerry.adapt.target_files import load_target
from skerry.graph import Graph
from tests.rewriting import NPU
from tests.running import same_outputs

ETHOS = load_target(NPU)


def test_a_rule_within_its_bound_is_not_broken() -> None:
    """The search runs replacements, and finds the same bits."""
    found = search("Relu as a maximum", models=2)
    assert found.tried == 4
    assert found.worst == 0
    assert not found.is_broken


@pytest.mark.parametrize("worst", [1.01, float("inf"), float("nan")])
def test_what_is_further_off_than_stated_is_broken(worst: float) -> None:
    """So is what is no number, and a rule that drew nothing."""
    assert Searched(rule="r", tried=3, worst=worst, bounds=()).is_broken
    assert Searched(rule="r", tried=0, worst=0.0, bounds=()).is_broken


@pytest.mark.parametrize("build", [swish_net, mobilevit_block])
def test_the_nets_that_are_built_fit_the_npu_once_adapted(build: object) -> None:
    """Some operators do not run before; all do after."""
    assert callable(build)
    graph = build(np.random.default_rng(0))
    assert isinstance(graph, Graph)
    before = residence(graph, ETHOS)
    adapted = adapt(graph, ETHOS)
    after = residence(adapted.graph, ETHOS)
    assert before.operators < before.of
    assert after.operators == after.of
    if not graph.custom_domains:
        assert same_outputs(graph, adapted.graph, atol=1e-3)
