"""Blocks of a module that can be left out: what they give has the shape they take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from skerry.compress.train.prune.cost import Costs
from skerry.compress.train.prune.importance import NORMS
from skerry.runtimes.torch import Tensor, TorchFunctionMode, nn, torch

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish)
HEIRS = (nn.Conv2d, nn.Linear)
"""The layers that can take over the work of one that goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heir:
    """The layer in front of one that goes, which can take over some of its work.

    Attributes:
        layer: Its name.
        norm: The batch norm behind it, if there is one.
    """

    layer: str
    norm: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Submodules that are left out together, and what they cost.

    Attributes:
        layers: Their names, in the order of their calls: a block, or a layer with the
            activation between it and its heir, and the batch norm behind it.
        cost: Their multiply-accumulates.
        heir: The layer whose output they alone read.
    """

    layers: tuple[str, ...]
    cost: int
    heir: Heir | None = None

    def __str__(self) -> str:
        return " and ".join(self.layers)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Call:
    name: str
    layer: nn.Module
    given: Tensor
    made: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """The calls of submodules that take one tensor and give one, inner ones first."""

    calls: Sequence[_Call]
    reads: Counter[int]

    def is_once(self, name: str) -> bool:
        return sum(one.name == name for one in self.calls) == 1

    def maker(self, tensor: Tensor, kinds: tuple[type[nn.Module], ...]) -> _Call | None:
        """The call that made what one call alone reads, if it is of such a layer."""
        call = next((one for one in self.calls if one.made is tensor), None)
        if call is None or not isinstance(call.layer, kinds):
            return None
        is_alone = self.reads[id(tensor)] == 1 and self.is_once(call.name)
        return call if is_alone else None

    def heir(self, tensor: Tensor) -> tuple[tuple[str, ...], Heir | None]:
        """Which layer made a tensor, and the activation that it went through."""
        activation = self.maker(tensor, ACTIVATIONS)
        norm = self.maker(activation.given if activation else tensor, NORMS)
        before = norm or activation
        layer = self.maker(before.given if before else tensor, HEIRS)
        if layer is None or not _can_inherit(layer.layer, norm):
            return (), None
        between = (activation.name,) if activation else ()
        return between, Heir(layer=layer.name, norm=norm.name if norm else None)


def removable(
    module: nn.Module, example: tuple[Tensor, ...], costs: Costs
) -> tuple[Block, ...]:
    """Find the blocks that could be left out.

    Those are called once, take one tensor and give one of the same shape, and hold
    layers that compute something. A batch norm that alone reads a layer goes with it,
    and so does the activation in front of it if there is an heir in front of that: what
    a layer gave can be negative, and what an activation gives often cannot.

    Args:
        module: It is run once, in eval mode.
        example: One batch of inputs; axis 0 is the batch.
        costs: Of its layers.
    """
    seen = _watch(module, tuple(one[:1] for one in example))
    found = []
    for call in seen.calls:
        name = call.name
        inside = [one for one in costs if one == name or one.startswith(f"{name}.")]
        if not inside or not seen.is_once(name) or call.given.shape != call.made.shape:
            continue
        cost = sum(
            costs[one].each * costs[one].read * costs[one].made for one in inside
        )
        norms = [
            other.name
            for other in seen.calls
            if other.given is call.made and isinstance(other.layer, NORMS)
        ]
        between, heir = seen.heir(call.given) if name in costs else ((), None)
        layers = (*between, name, *norms)
        found.append(Block(layers=layers, cost=cost, heir=heir))
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


def _can_inherit(layer: nn.Module, norm: _Call | None) -> bool:
    """Whether its weights can be set to whatever is best, with the norm behind it."""
    if isinstance(layer, nn.Conv2d):
        is_plain = layer.groups == 1 and layer.padding_mode == "zeros"
        is_plain = is_plain and not isinstance(layer.padding, str)
    else:
        # A batch norm of more axes has its channels elsewhere than a dense layer.
        is_plain = norm is None or norm.given.ndim == 2
    return is_plain and (
        norm is None or (norm.layer.affine and norm.layer.running_var is not None)
    )


class _Reads(TorchFunctionMode):
    """Counts by which functions that make tensors each tensor is read."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()
        self._alive: list[Tensor] = []  # an id means nothing once its tensor is gone

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor | tuple | list):
            read = list(_tensors((args, kwargs)))
            self._alive += read
            self.counts.update({id(one) for one in read})
        return made


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)


def _watch(module: nn.Module, inputs: Sequence[Tensor]) -> _Seen:
    calls: list[_Call] = []
    reads = _Reads()

    def note(name: str, layer: nn.Module, given: Any, made: Any) -> None:
        if (
            len(given) == 1
            and isinstance(given[0], Tensor)
            and isinstance(made, Tensor)
        ):
            calls.append(_Call(name=name, layer=layer, given=given[0], made=made))

    hooks = [
        layer.register_forward_hook(
            lambda layer, given, made, name=name: note(name, layer, given, made)
        )
        for name, layer in module.named_modules()
        if name
    ]
    try:
        with torch.inference_mode(), _out_of_place(module.modules()), reads:
            made = module.eval()(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    # What the module returns is read by whoever called it.
    reads.counts.update({id(one) for one in _tensors(made)})
    return _Seen(calls=calls, reads=reads.counts)


@contextmanager
def _out_of_place(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Let activations make tensors of their own, so that these can be told apart."""
    changed = [one for one in layers if getattr(one, "inplace", False)]
    try:
        for one in changed:
            one.inplace = False
        yield
    finally:
        for one in changed:
            one.inplace = True
