from __future__ import annotations

import pytest

from skerry.compress.train.qat.norms import reestimate_norms
from skerry.core.errors import DataError
from skerry.runtimes.torch import nn, torch


def test_statistics_are_the_mean_of_the_batches() -> None:
    """Mean and variance become those of the batches; the module given stays."""
    module = nn.Sequential(nn.BatchNorm1d(3, momentum=0.1), nn.Dropout(0.5))
    batches = [((torch.randn(64, 3) * 2 + 5,), None) for _ in range(4)]
    found = reestimate_norms(module, batches, count=2)
    norm = found[0]
    seen = torch.stack([inputs[0] for inputs, _ in batches[:2]])
    assert torch.allclose(norm.running_mean, seen.mean(dim=(0, 1)), atol=1e-5)
    assert torch.allclose(norm.running_var, seen.var(dim=1).mean(dim=0), atol=1e-4)
    assert norm.momentum == 0.1
    assert not found.training
    assert torch.equal(module[0].running_mean, torch.zeros(3))


def test_no_batches_are_refused() -> None:
    """Nothing can be measured on nothing."""
    with pytest.raises(DataError, match="no batches"):
        reestimate_norms(nn.BatchNorm1d(3), [], count=2)
