from __future__ import annotations

import copy

import pytest

from skerry.compress.train.prune.dependency import ChannelGraph
from skerry.compress.train.training import Training
from skerry.core.errors import ModelError
from skerry.runtimes.torch import Tensor, nn, torch
from tests.training import ToyNet


def test_channels_that_are_added_go_together(trained: Training) -> None:
    """What a path around a block joins is one group; the answers are in none."""
    graph = ChannelGraph(copy.deepcopy(trained.module), trained.example)
    layers = {
        frozenset(member.layer for member in group.members if member.is_made)
        for group in graph.groups
    }
    assert layers == {
        frozenset({"stem", "stem_norm", "depth", "depth_norm"}),
        frozenset({"point", "point_norm", "block.0", "block.1"}),
    }
    readers = {
        member.layer
        for group in graph.groups
        for member in group.members
        if not member.is_made
    }
    assert readers == {"point", "block.0", "classifier"}


def test_a_module_without_some_channels_computes_without_them(
    trained: Training,
) -> None:
    """Channels whose factors are 0 can go, and the answers stay what they were."""
    net = copy.deepcopy(trained.module).eval()
    assert isinstance(net, ToyNet)
    with torch.no_grad():
        for layer in (net.depth_norm, net.stem_norm):
            layer.weight[[1, 5, 6]] = 0
            layer.bias[[1, 5, 6]] = 0
    expected = net(*trained.example)
    graph = ChannelGraph(net, trained.example)
    root = next(
        one.root
        for one in graph.groups
        if "stem" in {member.layer for member in one.members}
    )
    graph.remove({root: [1, 5, 6]})
    assert net.stem.out_channels == 13
    torch.testing.assert_close(net(*trained.example), expected)


class Leaving(nn.Module):
    """A net that leaves torch on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Give what numpy copies."""
        return torch.from_numpy(self.layer(x).detach().numpy() * 2)


class Counting(nn.Module):
    """A net that counts on its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Give what six channels make."""
        made: Tensor = self.second(self.first(x) + torch.ones(6))
        return made


def test_a_module_that_leaves_torch_is_refused() -> None:
    """What the gradients do not lead through cannot be followed."""
    with pytest.raises(ModelError, match="cannot be followed") as caught:
        ChannelGraph(Leaving(), (torch.zeros(1, 4),))
    assert "submodule" in caught.value.hint


def test_a_module_that_counts_its_channels_is_refused() -> None:
    """What does not run without some channels is refused, not given back broken."""
    graph = ChannelGraph(Counting(), (torch.zeros(1, 4),))
    with pytest.raises(ModelError, match="cannot be followed"):
        graph.remove({"first": [0]})


def test_parts_of_grouped_convolutions_stay() -> None:
    """Groups of several channels must stay alike: none of theirs goes."""
    net = nn.Sequential(
        nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 2, 1)
    )
    assert ChannelGraph(net, (torch.zeros(1, 1, 4, 4),)).groups == ()
