"""The only door to torch-pruning: which channels must go together.

G. Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023: a channel that
one layer makes is one that others normalize, add to and read; all of it goes at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from skerry.core.errors import MissingExtraError, ModelError
from skerry.runtimes.torch import Tensor, nn, output_tensors, torch

try:
    import torch_pruning
except ImportError as error:
    raise MissingExtraError("torch-pruning", extra="train") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A layer's part in a group.

    Attributes:
        layer: The layer's name in the module.
        is_made: Whether the channels are those that it makes, or those that it reads.
        places: Which of the layer's channels.
        channels: Of which channel of the group each is.
    """

    layer: str
    is_made: bool
    places: tuple[int, ...]
    channels: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Channels that can go only together, wherever they are made and read.

    Attributes:
        root: The name of the layer that counts them.
        size: How many there are.
        members: The layers that make or read them.
    """

    root: str
    size: int
    members: tuple[Member, ...]


class ChannelGraph:
    """The channels of a module, and who depends on whom.

    Args:
        module: What is looked at, and changed by `remove`.
        example: One batch of inputs; axis 0 is the batch.

    Raises:
        ModelError: The module cannot be traced.
    """

    def __init__(self, module: nn.Module, example: tuple[Tensor, ...]) -> None:
        self._module = module
        self._example = tuple(one[:1] for one in example)
        self._layers = dict(module.named_modules())
        names = {layer: name for name, layer in self._layers.items()}
        with _foreign_errors(module):
            self._graph = torch_pruning.DependencyGraph().build_dependency(
                module.eval(), example_inputs=self._example, verbose=False
            )
            found = [
                self._group(group, names) for group in self._graph.get_all_groups()
            ]
            answers = output_tensors(module(*self._example))
        if not all(one.requires_grad for one in answers):
            raise _unfollowed(module, "its answers do not depend on its weights")
        self.groups = tuple(one for one in found if one is not None)

    def remove(self, channels: Mapping[str, Sequence[int]]) -> None:
        """Take channels out of the module, in place; this graph is of no use after.

        Args:
            channels: By the root of their group.

        Raises:
            ModelError: What is left does not run.
        """
        with _foreign_errors(self._module), torch.no_grad():
            for root, places in channels.items():
                layer = self._layers[root]
                pruner = self._graph.get_pruner_of_module(layer)
                group = self._graph.get_pruning_group(
                    layer, pruner.prune_out_channels, list(places)
                )
                group.prune(record_history=False)
            self._module.eval()(*self._example)

    def _group(self, group: Any, names: Mapping[Any, str]) -> Group | None:
        """A group, or None where its channels are answers, or parts of none."""
        members = []
        for item in group:
            target, made = item.dep.target, self._graph.is_out_channel_pruning_fn
            is_made = made(item.dep.handler)
            if is_made and not target.outputs:
                # What nothing reads is what the module answers.
                return None
            layer = target.module
            if layer not in names:
                continue
            if _is_grouped(layer):
                return None
            members.append(
                Member(
                    layer=names[layer],
                    is_made=is_made,
                    places=tuple(item.idxs),
                    channels=tuple(item.root_idxs),
                )
            )
        return Group(
            root=members[0].layer, size=len(members[0].places), members=tuple(members)
        )


def _is_grouped(layer: nn.Module) -> bool:
    """Whether a convolution has groups of several channels: these must stay alike."""
    if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return False
    return 1 < layer.groups < max(layer.in_channels, layer.out_channels)


@contextmanager
def _foreign_errors(module: nn.Module) -> Iterator[None]:
    """Turn whatever the library raises into a `ModelError` of one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ModelError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise _unfollowed(module, lines[0]) from error


def _unfollowed(module: nn.Module, why: str) -> ModelError:
    return ModelError(
        f"the channels of {type(module).__name__} cannot be followed: {why}",
        hint="Channels are followed through torch's gradients: every layer must be a "
        "submodule, and nothing in forward may leave torch or count channels.",
    )
