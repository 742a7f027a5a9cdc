"""Samples without labels between the batches that have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from skerry.compress.train.training import Batch
from skerry.core.errors import DataError
from skerry.runtimes.torch import Tensor, torch
from skerry.tasks.sample import SampleSource

Batches = Callable[[int], Iterable[Batch]]

_SEEDS_APART = 1_000_003
"""Epochs that a seed has to itself."""


def gather(source: SampleSource, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """Read samples into memory, one tensor an input; labels are not looked at.

    Raises:
        DataError: There are none, or one cannot be read.
    """
    rows = [[sample.inputs[name] for name in names] for sample in source]
    if not rows:
        raise DataError(
            "there are no unlabelled samples",
            hint="Give some, or leave `unlabelled` out.",
        )
    columns = zip(*rows, strict=True)
    return tuple(torch.cat([torch.tensor(one) for one in column]) for column in columns)


def spread(batches: Batches, extra: tuple[Tensor, ...], *, seed: int) -> Batches:
    """Spread unlabelled samples evenly between labelled batches, all in each epoch.

    Args:
        batches: Labelled ones. Epoch 0 is gone through once, to see how many there are
            and how large; where there are none, there will be none.
        extra: All unlabelled samples, one tensor an input.
        seed: Shuffles them, differently in each epoch.
    """
    sizes = [len(inputs[0]) for inputs, _ in batches(0)]
    if not sizes:
        return batches

    def epoch(number: int) -> _Epoch:
        generator = torch.Generator().manual_seed(seed * _SEEDS_APART + number)
        order = torch.randperm(len(extra[0]), generator=generator)
        return _Epoch(
            labelled=batches(number),
            count=len(sizes),
            extra=extra,
            pieces=torch.split(order, sizes[0]),
        )

    return epoch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Epoch:
    """An epoch of both, which can tell how long it is before it is gone through."""

    labelled: Iterable[Batch]
    count: int
    extra: tuple[Tensor, ...]
    pieces: Sequence[Tensor]

    def __len__(self) -> int:
        return self.count + len(self.pieces)

    def __iter__(self) -> Iterator[Batch]:
        given = 0
        for number, batch in enumerate(self.labelled, start=1):
            yield batch
            due = len(self.pieces) * number // self.count
            for piece in self.pieces[given:due]:
                device = batch[0][0].device
                yield tuple(one[piece].to(device) for one in self.extra), None
            given = due
