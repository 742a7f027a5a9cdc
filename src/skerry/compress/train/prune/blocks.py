"""Blocks of a module that can be left out: what they give has the shape they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skerry.compress.train.prune.cost import Costs
from skerry.compress.train.prune.importance import NORMS
from skerry.runtimes.torch import Tensor, nn, torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Submodules that are left out together, and what they cost.

    Attributes:
        layers: Their names: a block, or a layer and the batch norm behind it.
        cost: Their multiply-accumulates.
    """

    layers: tuple[str, ...]
    cost: int

    def __str__(self) -> str:
        return " and ".join(self.layers)


def removable(
    module: nn.Module, example: tuple[Tensor, ...], costs: Costs
) -> tuple[Block, ...]:
    """Find the blocks that could be left out.

    Those are called once, take one tensor and give one of the same shape, and hold
    layers that compute something. A batch norm that alone reads a layer goes with it.

    Args:
        module: It is run once, in eval mode.
        example: One batch of inputs; axis 0 is the batch.
        costs: Of its layers.
    """
    calls = _calls(module, tuple(one[:1] for one in example))
    found = []
    for name, given, made in calls:
        inside = [one for one in costs if one == name or one.startswith(f"{name}.")]
        is_once = sum(one[0] == name for one in calls) == 1
        if not inside or not is_once or given.shape != made.shape:
            continue
        cost = sum(
            costs[one].each * costs[one].read * costs[one].made for one in inside
        )
        norms = [
            other
            for other, read, _ in calls
            if read is made and isinstance(module.get_submodule(other), NORMS)
        ]
        found.append(Block(layers=(name, *norms), cost=cost))
    return tuple(found)


def leave_out(module: nn.Module, block: Block) -> None:
    """Replace a block by what gives what it takes, in place."""
    for name in block.layers:
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, nn.Identity())


class Fading(nn.Module):
    """A block on its way out: a part of what it makes, the rest of what it takes.

    Attributes:
        left: The part, 1 to 0.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.left = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Mix what the block makes with what it takes."""
        made: Tensor = self.left * self.block(x) + (1 - self.left) * x
        return made


def fade(module: nn.Module, block: Block) -> Fading:
    """Put a fading block into a block's place; `leave_out` still removes it."""
    layers = [module.get_submodule(name) for name in block.layers]
    leave_out(module, block)
    fading = Fading(nn.Sequential(*layers))
    parent, _, last = block.layers[0].rpartition(".")
    setattr(module.get_submodule(parent), last, fading)
    return fading


def _calls(
    module: nn.Module, inputs: Sequence[Tensor]
) -> list[tuple[str, Tensor, Tensor]]:
    """The submodules that take one tensor and give one, each time they are called."""
    calls: list[tuple[str, Tensor, Tensor]] = []

    def note(name: str, given: Any, made: Any) -> None:
        if (
            len(given) == 1
            and isinstance(given[0], Tensor)
            and isinstance(made, Tensor)
        ):
            calls.append((name, given[0], made))

    hooks = [
        layer.register_forward_hook(
            lambda _, given, made, name=name: note(name, given, made)
        )
        for name, layer in module.named_modules()
        if name
    ]
    try:
        with torch.inference_mode():
            module.eval()(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
