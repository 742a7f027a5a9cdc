"""Which weights are 0, in any pattern."""

from __future__ import annotations

import re
from collections.abc import Mapping

from skerry.core.errors import UsageError
from skerry.runtimes.torch import Tensor, nn, torch

Masks = Mapping[str, Tensor]
"""Bool tensors, true where a weight stays, by the name of the layer."""

_PATTERN = re.compile(r"([1-9]\d*):([1-9]\d*)")


def read_pattern(pattern: str) -> tuple[int, int] | None:
    """Read `N:M`: of each M weights in a row, N stay; None where it is empty.

    Raises:
        UsageError: It is something else, or N is not below M.
    """
    if not pattern:
        return None
    found = _PATTERN.fullmatch(pattern)
    if found is None or int(found[1]) >= int(found[2]):
        raise UsageError(
            f"sparsify: pattern is {pattern!r}, expected N:M with N below M",
            hint='Use "2:4", or "" for no pattern.',
        )
    return int(found[1]), int(found[2])


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """The weights that may become 0: of convolutions and dense layers.

    Depthwise convolutions stay: they have few weights, and each counts.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return {
        name: layer.weight
        for name, layer in module.named_modules()
        if isinstance(layer, kinds) and getattr(layer, "groups", 1) == 1
    }


def smallest(module: nn.Module, sparsity: float) -> dict[str, Tensor]:
    """Mask the smallest weights of the whole module.

    Layers differ in scale: weights are compared after division by the root of their
    layer's mean square.

    Args:
        module: Whose weights are looked at.
        sparsity: The part of the weights that becomes 0.
    """
    sizes = {
        name: (
            weight.detach() / weight.detach().square().mean().sqrt().clamp_min(1e-12)
        ).abs()
        for name, weight in weights_of(module).items()
    }
    everything = torch.cat([one.flatten() for one in sizes.values()])
    count = round(sparsity * everything.numel())
    if not count:
        return {
            name: torch.ones_like(one, dtype=torch.bool) for name, one in sizes.items()
        }
    limit = everything.kthvalue(count).values
    return {name: one > limit for name, one in sizes.items()}


def patterned(module: nn.Module, kept: int, among: int) -> dict[str, Tensor]:
    """Mask all but the largest N of each M weights that one output reads in a row.

    A. Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks From
    Scratch", ICLR 2021. What is left over at the end of a row stays.
    """
    masks = {}
    for name, weight in weights_of(module).items():
        rows = weight.detach().abs().flatten(1)
        whole = rows.shape[1] // among * among
        mask = torch.ones_like(rows, dtype=torch.bool)
        blocks = rows[:, :whole].reshape(len(rows), -1, among)
        largest = blocks.topk(kept, dim=2).indices
        is_kept = torch.zeros_like(blocks, dtype=torch.bool).scatter_(2, largest, True)  # noqa: FBT003 (torch's own signature)
        mask[:, :whole] = is_kept.flatten(1)
        masks[name] = mask.reshape(weight.shape)
    return masks


def apply_masks(module: nn.Module, masks: Masks) -> None:
    """Set the masked weights to 0, in place."""
    with torch.no_grad():
        for name, mask in masks.items():
            weight = module.get_submodule(name).weight
            if isinstance(weight, Tensor):
                weight.mul_(mask)


def part_of_zeros(module: nn.Module) -> float:
    """The part of the weights that are 0, of those that may become so."""
    weights = weights_of(module).values()
    zeros = sum(int((one == 0).sum()) for one in weights)
    return zeros / max(sum(one.numel() for one in weights), 1)
