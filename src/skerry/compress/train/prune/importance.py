"""How much a module would lose with each channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Literal

from skerry.compress.train.prune.dependency import Group
from skerry.compress.train.training import Training
from skerry.core.errors import ModelError
from skerry.runtimes.torch import Tensor, nn, torch

Criterion = Literal["bn", "l1", "l2", "taylor"]
"""By what channels are judged: the factors of batch norms (Z. Liu et al., "Learning
Efficient Convolutional Networks through Network Slimming", 2017), the norm of the
weights that make and read them (H. Li et al., "Pruning Filters for Efficient ConvNets",
2017), or how much the loss would change (P. Molchanov et al., "Importance Estimation
for Neural Network Pruning", 2019)."""

BATCHES = 24
"""So many batches show how much the loss would change."""

Scores = Mapping[str, Tensor]
"""One number a channel, float32 [size], by the root of their group."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""The layers whose factors scale channels."""


def importance(
    module: nn.Module, groups: Sequence[Group], training: Training, criterion: Criterion
) -> Scores:
    """Score the channels of all groups, so that groups can be compared.

    Args:
        module: What the groups are of; its weights stay as they are.
        groups: Of channels that go together.
        training: `taylor` looks at the first batches of epoch 0.
        criterion: By what channels are judged.

    Raises:
        ModelError: `bn` is to judge a module without batch norms.
    """
    if criterion == "taylor":
        return _changes(module, groups, training)
    layers = dict(module.named_modules())
    found = {}
    for group in groups:
        score = torch.zeros(group.size)
        for member in group.members:
            one = _size(layers[member.layer], member.is_made, criterion)
            if one is not None:
                _add(score, one[list(member.places)], member.channels)
        # Groups differ in scale: what counts is which channels stand out in theirs.
        found[group.root] = score / score.mean().clamp_min(1e-12)
    if criterion == "bn" and not any(isinstance(one, NORMS) for one in layers.values()):
        raise ModelError(
            "the module has no batch norms whose factors could judge its channels",
            hint="Use the criterion taylor, or l2.",
        )
    return found


def _changes(
    module: nn.Module, groups: Sequence[Group], training: Training
) -> dict[str, Tensor]:
    """The squared change of the loss without a channel, to first order."""
    layers = dict(module.named_modules())
    found = {group.root: torch.zeros(group.size) for group in groups}
    module.eval()
    for inputs, labels in islice(training.batches(0), BATCHES):
        module.zero_grad()
        training.loss(module(*inputs), labels).backward()  # type: ignore[no-untyped-call]
        for group in groups:
            change = torch.zeros(group.size)
            for name, places, channels in _gates(group, layers):
                _add(change, _gradient(layers[name])[list(places)], channels)
            found[group.root] += change.square()
    module.zero_grad()
    return found


def _gates(
    group: Group, layers: Mapping[str, nn.Module]
) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """The layers that scale a group's channels: batch norms, where there are any."""
    made = [one for one in group.members if one.is_made]
    norms = [one for one in made if isinstance(layers[one.layer], NORMS)]
    weighted = [one for one in made if _weight(layers[one.layer]) is not None]
    return [(one.layer, one.places, one.channels) for one in norms or weighted]


def _gradient(layer: nn.Module) -> Tensor:
    """How much the loss changes where a channel becomes 0, to first order."""
    change = torch.zeros(0)
    for parameter in (_weight(layer), getattr(layer, "bias", None)):
        if parameter is None or parameter.grad is None:
            continue
        one = (
            (parameter * parameter.grad)
            .detach()
            .flatten(1 if parameter.ndim > 1 else 0)
        )
        one = one.sum(1) if one.ndim > 1 else one
        change = one if not change.numel() else change + one
    return change.cpu()


def _size(layer: nn.Module, is_made: bool, criterion: Criterion) -> Tensor | None:  # noqa: FBT001 (which side of the layer)
    """How large the numbers of each channel of a layer are."""
    weight = _weight(layer)
    if weight is None or isinstance(layer, NORMS) != (criterion == "bn"):
        return None
    wide = weight.detach().cpu()
    if criterion == "bn":
        return wide.abs()
    is_depthwise = wide.ndim > 2 and getattr(layer, "groups", 1) > 1
    rows = wide if is_made or is_depthwise else wide.transpose(0, 1)
    rows = rows.flatten(1)
    return rows.abs().sum(1) if criterion == "l1" else rows.square().sum(1).sqrt()


def _weight(layer: nn.Module) -> Tensor | None:
    weight = getattr(layer, "weight", None)
    return weight if isinstance(weight, Tensor) else None


def _add(score: Tensor, one: Tensor, channels: Sequence[int]) -> None:
    score.index_add_(0, torch.tensor(channels), one)
