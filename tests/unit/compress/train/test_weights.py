"""Weights are trained once, and never taken for another module's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.compress.train.weights import fit_once
from skerry.core.errors import ModelError
from skerry.runtimes.torch import torch
from tests.training import ToyNet, toy_training


def test_the_second_time_nothing_is_trained(tmp_path: Path) -> None:
    """The weights are those of the first time, even where 0 epochs are asked for."""
    path = tmp_path / "deep" / "toy.pt"
    first = fit_once(toy_training(ToyNet(), n=64), path, epochs=1).module
    second = fit_once(toy_training(ToyNet(), n=64), path, epochs=0).module
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert not second.training


def test_weights_of_another_module_are_refused(tmp_path: Path) -> None:
    """A wider net: the error names the file and the module."""
    path = tmp_path / "toy.pt"
    fit_once(toy_training(ToyNet(8), n=32), path, epochs=0)
    with pytest.raises(ModelError, match=r"toy\.pt does not hold .* ToyNet"):
        fit_once(toy_training(ToyNet(9), n=32), path, epochs=1)


@settings(max_examples=12, deadline=None)
@given(content=st.binary(max_size=80), cut=st.integers(0, 400))
def test_a_file_that_holds_no_weights_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cut: int
) -> None:
    """Garbage, or a file cut short: our error, whatever is in it."""
    path = tmp_path_factory.mktemp("weights") / "toy.pt"
    training = toy_training(ToyNet(2), n=32)
    path.write_bytes(content)
    with pytest.raises(ModelError):
        fit_once(training, path, epochs=1)
    path.unlink()
    fit_once(training, path, epochs=0)
    path.write_bytes(path.read_bytes()[:-1000][: cut + 1] + content)
    with pytest.raises(ModelError):
        fit_once(training, path, epochs=1)
