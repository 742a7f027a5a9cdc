"""What a layer did, done by the layer in front of it as well as it can."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from skerry.compress.train.prune.blocks import Block, Heir, leave_out
from skerry.compress.train.training import Batch
from skerry.core.errors import UsageError
from skerry.runtimes.torch import Tensor, functional, nn, torch

BATCHES = 24
"""So many show what a layer did."""
PLACES = 64
"""So many places of each sample's map are looked at."""
RIDGE = 1e-3
"""What is added to the variance of what the heir reads, as a part of its mean."""


def bequeath(
    module: nn.Module, block: Block, batches: Iterable[Batch], seed: int = 0
) -> None:
    """Leave a block out, in place, and let its heir take over.

    The heir gets the weights that come closest to what the block gave, by least squares
    over what it reads, as Y. He et al. fit the layers behind pruned channels ("Channel
    Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, section 3.1). The
    batch norm behind the heir gets the statistics of what it reads now, and changes
    nothing in eval mode.

    Args:
        module: It is in eval mode afterwards.
        block: One that has an heir.
        batches: Of these the first 24 are looked at.
        seed: Chooses the places.

    Raises:
        UsageError: There are no batches, or the block has no heir.
    """
    heir = block.heir
    if heir is None:
        raise UsageError(
            f"{block} has no heir", hint="Leave it out with `leave_out`, and train."
        )
    layer = module.get_submodule(heir.layer)
    last = module.get_submodule(block.layers[-1])
    moments = _Moments(torch.Generator().manual_seed(seed))
    seen: dict[str, Tensor] = {}
    hooks = (
        layer.register_forward_pre_hook(lambda _, given: seen.update(read=given[0])),
        last.register_forward_hook(lambda _, __, made: seen.update(made=made)),
    )
    try:
        with torch.no_grad():
            for inputs, _ in islice(batches, BATCHES):
                module.eval()(*inputs)
                moments.add(layer, seen["read"], seen["made"])
    finally:
        for hook in hooks:
            hook.remove()
    leave_out(module, block)
    _set(module, heir, moments)


class _Moments:
    """Sums over rows of what a layer reads, [n, k], and of what it is to make, [n, m].

    Attributes:
        count: Rows so far.
        total: Their sum, float64 [k + m].
        square: The sum of their products, float64 [k + m, k + m].
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self.count = 0
        self.total = self.square = torch.zeros((), dtype=torch.float64)

    def add(self, layer: nn.Module, read: Tensor, made: Tensor) -> None:
        """Add some places of each sample."""
        for sample, wanted in zip(read.double(), made.double(), strict=True):
            rows = torch.cat(_rows(layer, sample, wanted), 1)
            chosen = torch.randperm(len(rows), generator=self._generator)[:PLACES]
            rows = rows[chosen.to(rows.device)]
            self.count += len(rows)
            self.total = self.total.to(rows.device) + rows.sum(0)
            self.square = self.square.to(rows.device) + rows.T @ rows

    def covariance(self) -> tuple[Tensor, Tensor]:
        """The mean, [k + m], and the covariance, [k + m, k + m]."""
        if not self.count:
            raise UsageError("there are no batches", hint="Give at least one an epoch.")
        mean = self.total / self.count
        return mean, self.square / self.count - torch.outer(mean, mean)


def _rows(layer: nn.Module, read: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    """What one sample gives to learn from: a row for each place of the map."""
    if isinstance(layer, nn.Conv2d):
        patches = functional.unfold(
            read[None], layer.kernel_size, layer.dilation, layer.padding, layer.stride
        )
        return patches[0].T, made.flatten(1).T
    return read.reshape(-1, read.shape[-1]), made.reshape(-1, made.shape[-1])


def _set(module: nn.Module, heir: Heir, moments: _Moments) -> None:
    """Give the heir and its batch norm what the moments ask for."""
    layer = module.get_submodule(heir.layer)
    mean, spread = moments.covariance()
    k = layer.weight[0].numel()
    read = spread[:k, :k]
    ridge = RIDGE * read.diagonal().mean() * torch.eye(k).to(read)
    weight = torch.linalg.solve(read + ridge, spread[:k, k:])
    with torch.no_grad():
        layer.weight.copy_(weight.T.reshape(layer.weight.shape))
        bias = mean[k:] - mean[:k] @ weight
        layer.bias = nn.Parameter(bias.to(layer.weight))
        if heir.norm is None:
            return
        norm = module.get_submodule(heir.norm)
        norm.running_mean.copy_(mean[k:])
        norm.running_var.copy_((weight * (read @ weight)).sum(0))
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(mean[k:])
