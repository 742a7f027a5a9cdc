"""Feature matching: what a layer of the student makes, beside one of the teacher.

After A. Romero et al., "FitNets: Hints for Thin Deep Nets" (2015): an adapter, trained
along and left out afterwards, brings the student's features to the teacher's shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from skerry.core.errors import ModelError, UsageError
from skerry.core.names import did_you_mean
from skerry.runtimes.torch import Tensor, functional, nn

_POOLS: dict[int, Callable[..., Tensor]] = {
    3: functional.adaptive_avg_pool1d,
    4: functional.adaptive_avg_pool2d,
    5: functional.adaptive_avg_pool3d,
}
_PROJECTIONS: dict[int, Callable[..., nn.Module]] = {
    2: nn.Linear,
    3: nn.Conv1d,
    4: nn.Conv2d,
    5: nn.Conv3d,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A submodule of the student, and the teacher's value it is to resemble."""

    layer: str
    value: str


def read_pairs(words: Sequence[str]) -> tuple[Pair, ...]:
    """Read pairs such as `features.3=relu_5`.

    Raises:
        UsageError: One is no pair.
    """
    pairs = []
    for word in words:
        layer, sign, value = word.partition("=")
        if not (layer and sign and value):
            raise UsageError(
                f"cannot match {word!r}, expected LAYER=VALUE",
                hint="Write the student's submodule, =, and the teacher's tensor.",
            )
        pairs.append(Pair(layer=layer, value=value))
    return tuple(pairs)


class Student(nn.Module):
    """A module whose layers are watched while it runs, and the adapters beside it.

    Args:
        module: The student.
        pairs: What is matched with what.

    Raises:
        UsageError: The module has no such submodule; the nearest one is named.
    """

    def __init__(self, module: nn.Module, pairs: Sequence[Pair]) -> None:
        super().__init__()
        self.module = module
        self.pairs = tuple(pairs)
        self.adapters = nn.ModuleList()
        self._caught: dict[str, Tensor] = {}
        known = dict(module.named_modules())
        self._hooks = [
            _submodule(known, pair.layer).register_forward_hook(
                partial(self._catch, pair.layer)
            )
            for pair in self.pairs
        ]

    def forward(self, *inputs: Tensor) -> Any:
        """Run the student."""
        return self.module(*inputs)

    def add_adapters(self, teacher: Mapping[str, Tensor]) -> None:
        """Make an adapter for each pair, after the student has run once.

        Raises:
            ModelError: The ranks of the two do not fit.
        """
        for pair in self.pairs:
            own = self._caught_of(pair)
            self.adapters.append(Adapter(pair, own, teacher[pair.value]))

    def features(self, teacher: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """What the last run made of each pair: the student's adapted, the teacher's."""
        return [
            adapter(self._caught_of(pair), teacher[pair.value])
            for pair, adapter in zip(self.pairs, self.adapters, strict=True)
        ]

    def release(self) -> nn.Module:
        """Stop watching, and give the student back."""
        for hook in self._hooks:
            hook.remove()
        return self.module

    def _catch(self, name: str, _module: nn.Module, _given: Any, made: Any) -> None:
        self._caught[name] = made

    def _caught_of(self, pair: Pair) -> Tensor:
        made = self._caught.get(pair.layer)
        if not isinstance(made, Tensor):
            got = "nothing" if made is None else type(made).__name__
            raise ModelError(
                f"the student's layer {pair.layer} gave {got}, expected a tensor",
                hint="Match a layer that runs once and gives one tensor.",
            )
        return made


class Adapter(nn.Module):
    """Brings the student's features to the teacher's channels, and both to one size.

    A 1 × 1 convolution, or a linear layer where there are no places, and the mean over
    places where one of the two has more of them. Channels are axis 1.

    Args:
        pair: What is matched, for messages.
        student: Features, [n, C, …].
        teacher: The teacher's, [n, D, …]; as many axes.

    Raises:
        ModelError: They have not as many axes, or none or more than three of places.
    """

    def __init__(self, pair: Pair, student: Tensor, teacher: Tensor) -> None:
        super().__init__()
        if student.ndim != teacher.ndim or student.ndim not in _PROJECTIONS:
            raise ModelError(
                f"cannot match {pair.layer}, {list(student.shape)}, with the teacher's "
                f"{pair.value}, {list(teacher.shape)}",
                hint="Match features of as many axes: n × channels × places.",
            )
        self._sizes = tuple(map(min, student.shape[2:], teacher.shape[2:]))
        kind, ends = _PROJECTIONS[student.ndim], (student.shape[1], teacher.shape[1])
        self.projection = kind(*ends) if student.ndim == 2 else kind(*ends, 1)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return both in the same shape."""
        return self.projection(self._pool(student)), self._pool(teacher)

    def _pool(self, features: Tensor) -> Tensor:
        if features.shape[2:] == self._sizes:
            return features
        return _POOLS[features.ndim](features, self._sizes)


def _submodule(known: Mapping[str, nn.Module], name: str) -> nn.Module:
    if name not in known:
        raise UsageError(
            f"the student has no layer {name!r}", hint=did_you_mean(name, known)
        )
    return known[name]
