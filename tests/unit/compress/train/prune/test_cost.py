from __future__ import annotations

import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compress.train.prune.choose import Limits, choose
from skerry.compress.train.prune.cost import layer_costs, total, without
from skerry.compress.train.prune.dependency import ChannelGraph
from skerry.runtimes.torch import torch
from tests.training import ToyNet, toy_training

TRAINING = toy_training(ToyNet(16), n=32)
GRAPH = ChannelGraph(copy.deepcopy(TRAINING.module), TRAINING.example)
COSTS = layer_costs(TRAINING.module, TRAINING.example)


def test_costs_are_those_of_the_module() -> None:
    """Multiply-accumulates are counted layer by layer, for one sample."""
    expected = 16 * 9 * 64 + 16 * 9 * 16 + 16 * 16 * 16 + 16 * 16 * 9 * 16 + 16 * 2
    assert total(COSTS) == expected


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 14), st.integers(1, 14))
def test_costs_without_channels_are_those_of_the_smaller_module(a: int, b: int) -> None:
    """What is expected to be saved is what is saved."""
    net = copy.deepcopy(TRAINING.module)
    graph = ChannelGraph(net, TRAINING.example)
    costs = COSTS
    for group, channels in zip(graph.groups, (a, b), strict=True):
        costs = without(costs, group, channels)
    graph.remove(
        {one.root: range(n) for one, n in zip(graph.groups, (a, b), strict=True)}
    )
    assert costs == layer_costs(net, TRAINING.example)


@settings(max_examples=20, deadline=None)
@given(
    st.floats(0.05, 0.95),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 16),
    st.integers(0, 9),
)
def test_what_is_chosen_keeps_the_limits(
    part: float, multiple: int, least: int, seed: int
) -> None:
    """Groups keep whole blocks, as many as they must; the least important go first."""
    generator = torch.Generator().manual_seed(seed)
    scores = {one.root: torch.rand(16, generator=generator) for one in GRAPH.groups}
    limits = Limits(
        multiple=multiple,
        least=dict.fromkeys((one.root for one in GRAPH.groups), least),
    )
    target = total(COSTS, multiple) * part
    chosen = choose(GRAPH.groups, scores, COSTS, limits, target)
    costs = COSTS
    for group in GRAPH.groups:
        gone = chosen.get(group.root, [])
        assert len(gone) % multiple == 0
        assert 16 - len(gone) >= least
        stays = set(range(16)) - set(gone)
        assert all(
            scores[group.root][g] <= scores[group.root][s] for g in gone for s in stays
        )
        costs = without(costs, group, len(gone))
    at_limits = all(
        16 - len(chosen.get(one.root, [])) - multiple < max(least, 1)
        for one in GRAPH.groups
    )
    assert total(costs, multiple) <= target or at_limits


def test_a_block_that_is_not_full_costs_a_whole_one() -> None:
    """Kernels compute blocks of channels: nine channels cost as many as sixteen."""
    nine = COSTS
    for group in GRAPH.groups:
        nine = without(nine, group, 7)
    assert total(nine, 8) == total(COSTS, 8)
    assert total(nine, 1) < total(COSTS, 1)
