"""What a module's layers cost, with any number of channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skerry.compress.train.prune.dependency import Group
from skerry.runtimes.torch import Tensor, nn, torch

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """A convolution or dense layer.

    Attributes:
        each: Multiply-accumulates for one channel read and one made.
        read: Channels that it reads; 1 for a depthwise convolution.
        made: Channels that it makes.
        is_depthwise: Whether each channel is made of one.
    """

    each: int
    read: int
    made: int
    is_depthwise: bool


Costs = Mapping[str, LayerCost]
"""By name of the layer."""


def layer_costs(module: nn.Module, example: tuple[Tensor, ...]) -> Costs:
    """Count the multiply-accumulates of one sample, layer by layer.

    Args:
        module: It is run once, in eval mode.
        example: One batch of inputs; axis 0 is the batch.
    """
    found: dict[str, LayerCost] = {}

    def note(name: str, layer: nn.Module, output: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            each = output[0].numel() // layer.out_features
            read, made, is_depthwise = layer.in_features, layer.out_features, False
        elif isinstance(layer, _CONVOLUTIONS):
            kernel = layer.weight[0, 0].numel()
            each = kernel * (output[0].numel() // layer.out_channels)
            is_depthwise = layer.groups > 1
            read = layer.in_channels // layer.groups
            made = layer.out_channels
        else:
            return
        found[name] = LayerCost(
            each=each, read=read, made=made, is_depthwise=is_depthwise
        )

    hooks = [
        layer.register_forward_hook(
            lambda layer, _, output, name=name: note(name, layer, output)
        )
        for name, layer in module.named_modules()
    ]
    try:
        with torch.inference_mode():
            module.eval()(*(one[:1] for one in example))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def total(costs: Costs, multiple: int = 1) -> int:
    """All multiply-accumulates, of channels rounded up to a multiple.

    Kernels compute whole blocks of channels: what is left of one costs all of it. A
    layer that reads less than a block, such as a picture, has a kernel of its own.
    """
    return sum(
        one.each
        * (one.read if one.read < multiple else _rounded(one.read, multiple))
        * _rounded(one.made, multiple)
        for one in costs.values()
    )


def without(costs: Costs, group: Group, channels: int) -> Costs:
    """The costs with fewer channels of a group."""
    left = dict(costs)
    for member in group.members:
        one = left.get(member.layer)
        if one is None:
            continue
        gone = channels * len(member.places) // group.size
        is_read = not member.is_made and not one.is_depthwise
        left[member.layer] = LayerCost(
            each=one.each,
            read=one.read - gone * is_read,
            made=one.made - gone * member.is_made,
            is_depthwise=one.is_depthwise,
        )
    return left


def _rounded(channels: int, multiple: int) -> int:
    return -(-channels // multiple) * multiple
