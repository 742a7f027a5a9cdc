"""Measure the statistics of batch norms again, before they are folded away."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import islice

from skerry.compress.train.training import Batch
from skerry.core.errors import DataError
from skerry.runtimes.torch import nn, torch

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def reestimate_norms(
    module: nn.Module, batches: Iterable[Batch], *, count: int
) -> nn.Module:
    """Return a copy whose batch norms have the mean statistics of some batches.

    What training leaves there is a moving average that lags behind the weights, and
    after layers have been changed it belongs to others. (Precise batch normalization:
    Y. Wu & J. Johnson, "Rethinking 'Batch' in BatchNorm", arXiv:2105.07576, section 3.)

    Args:
        module: The network; it is left as it was.
        batches: Of training; labels are not looked at.
        count: How many of them to run at most.

    Raises:
        DataError: There are no batches.
    """
    changed = copy.deepcopy(module).eval()
    norms = [one for one in changed.modules() if isinstance(one, _NORMS)]
    momenta = [one.momentum for one in norms]
    for norm in norms:
        norm.reset_running_stats()
        # None makes the average that of all batches, each with the same weight.
        norm.momentum = None
        norm.train()
    done = 0
    with torch.no_grad():
        for inputs, _ in islice(batches, count):
            changed(*inputs)
            done += 1
    if not done:
        raise DataError(
            "there are no batches to measure batch norms on",
            hint="Give at least one batch a training epoch.",
        )
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return changed.eval()
