"""Samples without labels between the batches that have them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import length_hint

from skerry.compress.train.training import Batch
from skerry.core.errors import DataError
from skerry.runtimes.torch import Tensor, torch
from skerry.tasks.sample import SampleSource

Batches = Callable[[int], Iterable[Batch]]


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


def mixed(batches: Batches, extra: tuple[Tensor, ...], *, seed: int) -> Batches:
    """Spread unlabelled samples evenly between labelled batches, all in each epoch.

    Args:
        batches: Labelled ones; the first of an epoch says how large the others are.
        extra: All unlabelled samples, one tensor an input.
        seed: Shuffles them, differently in each epoch.
    """
    return lambda epoch: _Epoch(batches(epoch), batches, extra, epoch, seed)


class _Epoch:
    def __init__(
        self,
        labelled: Iterable[Batch],
        batches: Batches,
        extra: tuple[Tensor, ...],
        epoch: int,
        seed: int,
    ) -> None:
        self._labelled = labelled
        self._count = length_hint(labelled) or sum(1 for _ in batches(epoch))
        first = next(iter(batches(epoch)), None)
        self._size = len(extra[0]) if first is None else max(1, len(first[0][0]))
        self._extra = extra
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(extra[0]), generator=generator)
        self._pieces = torch.split(order, self._size)

    def __len__(self) -> int:
        return self._count + len(self._pieces)

    def __iter__(self) -> Iterator[Batch]:
        given = 0
        for number, batch in enumerate(self._labelled, start=1):
            yield batch
            due = len(self._pieces) * number // self._count
            for piece in self._pieces[given:due]:
                device = batch[0][0].device
                yield tuple(one[piece].to(device) for one in self._extra), None
            given = due
