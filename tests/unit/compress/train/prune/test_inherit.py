from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from skerry.compress.train.fit import fit
from skerry.compress.train.prune.blocks import Block, Heir, leave_out, removable
from skerry.compress.train.prune.cost import layer_costs
from skerry.compress.train.prune.inherit import bequeath
from skerry.compress.train.prune.layers import PruneLayers
from skerry.compress.train.training import Batch, TrainContext, Training
from skerry.core.budget import Budget
from skerry.core.errors import UsageError
from skerry.runtimes.torch import Tensor, functional, nn, torch
from tests.training import CLASSES, toy_training

WIDTH = 6


class Branch(nn.Module):
    """Two convolutions, and where it is told to a path around the second one."""

    def __init__(self, *, has_path: bool = False) -> None:
        super().__init__()
        self.has_path = has_path
        self.first = nn.Conv2d(1, WIDTH, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.second_norm = nn.BatchNorm2d(WIDTH)
        self.classifier = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        read = self.relu(self.first_norm(self.first(x)))
        made: Tensor = self.second_norm(self.second(read))
        if self.has_path:
            made = made + read
        logits: Tensor = self.classifier(functional.relu(made).mean((2, 3)))
        return logits


def blocks_of(net: nn.Module, *example: Tensor) -> tuple[Block, ...]:
    """What could be left out."""
    return removable(net, example, layer_costs(net, example))


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batches_of(*shape: int) -> list[Batch]:
    """A few batches without labels."""
    return [((noise(*shape, seed=seed),), None) for seed in range(4)]


@pytest.fixture(scope="module")
def branch() -> Training:
    """A trained net of two convolutions."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        training = toy_training(Branch(), n=256)
    fit(training.module, training, epochs=4)
    return training


def test_a_layer_that_alone_reads_another_has_an_heir() -> None:
    """The activation between them goes too, and is left as it was found."""
    net = Branch()
    (block,) = blocks_of(net, noise(1, 1, 8, 8))
    assert block.layers == ("relu", "second", "second_norm")
    assert block.heir == Heir(layer="first", norm="first_norm")
    assert net.relu.inplace


def test_what_others_read_is_not_changed() -> None:
    """Where a path leads around a layer, no other takes over its work."""
    (block,) = blocks_of(Branch(has_path=True), noise(1, 1, 8, 8))
    assert block.layers == ("second", "second_norm")
    assert block.heir is None


class Features(Branch):
    """One that also returns what its second convolution reads."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Return features and logits."""
        read = self.relu(self.first_norm(self.first(x)))
        made = self.second_norm(self.second(read))
        return {"read": read, "logits": self.classifier(made.mean((2, 3)))}


def test_what_the_module_returns_is_not_changed() -> None:
    """Features that somebody may look at stay what they were."""
    (block,) = blocks_of(Features(), noise(1, 1, 8, 8))
    assert block.heir is None


@pytest.mark.parametrize(
    "front",
    [
        lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4),
        lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        lambda: nn.Conv2d(4, 4, 3, padding="same"),
        lambda: nn.Sequential(
            nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False), nn.ReLU()
        ),
    ],
)
def test_layers_that_cannot_take_over_do_not(front: Callable[[], nn.Module]) -> None:
    """Weights that are shared or bound leave no room for another's work."""
    net = nn.Sequential(front(), nn.Conv2d(4, 4, 3, padding=1))
    block = next(one for one in blocks_of(net, noise(1, 4, 8, 8)) if "1" in one.layers)
    assert block.heir is None


@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 5, 3, 2, padding=1), nn.Conv2d(5, 5, 1)),
            (8, 3, 9, 9),
        ),
        (nn.Sequential(nn.Linear(3, 5, bias=False), nn.Linear(5, 5)), (200, 3)),
        (nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 5)), (20, 7, 3)),
    ],
)
def test_linear_work_is_taken_over_whole(
    net: nn.Module, shape: tuple[int, ...]
) -> None:
    """Two layers without an activation between them are one."""
    batches = batches_of(*shape)
    before = copy.deepcopy(net)
    block = next(one for one in blocks_of(net, noise(*shape)) if one.layers == ("1",))
    bequeath(net, block, batches)
    wanted, got = (one(batches[0][0][0]) for one in (before, net))
    assert isinstance(net.get_submodule("1"), nn.Identity)
    assert (got - wanted).square().mean() < 1e-4 * wanted.var()


def test_an_heir_comes_closer_than_none(branch: Training) -> None:
    """What is left answers more like the original; its batch norm changes nothing."""
    inputs = torch.cat([one[0][0] for one in branch.batches(0)])
    (block,) = blocks_of(branch.module, inputs)
    taken, without = (copy.deepcopy(branch.module).eval() for _ in range(2))
    bequeath(taken, block, branch.batches(0))
    leave_out(without, block)
    wanted, own, other = (one(inputs) for one in (branch.module, taken, without))
    assert (own - wanted).square().sum() < 0.8 * (other - wanted).square().sum()
    read = taken.get_submodule("first")(inputs)
    normed = taken.get_submodule("first_norm")(read)
    torch.testing.assert_close(normed, read, rtol=1e-3, atol=1e-3)


def test_the_step_lets_heirs_take_over(branch: Training) -> None:
    """A layer goes, and the original stays what it was."""
    before = copy.deepcopy(branch.module.state_dict())
    context = TrainContext(training=branch, budget=Budget())
    pruned = PruneLayers(epochs=1, probe=2).prune(branch.module, context)
    assert pruned.rounds[0].what == "relu and second and second_norm"
    assert isinstance(pruned.module.get_submodule("relu"), nn.Identity)
    after = branch.module.state_dict()
    assert all(torch.equal(one, after[name]) for name, one in before.items())


def test_what_cannot_be_bequeathed_is_refused() -> None:
    """A block without an heir, and no batches to learn from."""
    net = Branch(has_path=True)
    (block,) = blocks_of(net, noise(1, 1, 8, 8))
    with pytest.raises(UsageError, match="no heir"):
        bequeath(net, block, batches_of(2, 1, 8, 8))
    net = Branch()
    (block,) = blocks_of(net, noise(1, 1, 8, 8))
    with pytest.raises(UsageError, match="no batches"):
        bequeath(net, block, [])
