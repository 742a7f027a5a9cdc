from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skerry.adapt.target_files import load_target
from skerry.app.pipelines.elsewhere import Elsewhere
from skerry.core.budget import Budget
from skerry.core.errors import UsageError
from skerry.core.model import Model
from skerry.core.seams import Tensors
from skerry.graph import open_model
from tests import models

SAMPLE: Tensors = {"x": np.zeros((1, 3, 32, 32), np.float32)}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A float net of convolutions, of any batch."""
    path = tmp_path / "net.onnx"
    path.write_bytes(models.conv_net(batch="n", size=32))
    return open_model(path)


@pytest.fixture
def elsewhere() -> Callable[[str], Elsewhere]:
    """Ask the data sheets of a target."""
    return lambda name: Elsewhere(target=load_target(name))


def test_what_the_target_does_not_run_is_refused(
    model: Model, elsewhere: Callable[[str], Elsewhere]
) -> None:
    """The first obstacle is named; where there is none, nothing is said."""
    said = elsewhere("rv1106").refusal(model, SAMPLE)
    assert said.startswith("rv1106: No processor runs Conv")
    assert elsewhere("raspberry-pi-5").refusal(model, SAMPLE) == ""


def test_a_target_of_which_nothing_is_known_cannot_be_judged(
    model: Model, elsewhere: Callable[[str], Elsewhere]
) -> None:
    """No answer is better than one that means nothing."""
    with pytest.raises(UsageError, match="no public document"):
        elsewhere("hailo-8l").check(model, Budget(), "size")


def test_latency_is_not_judged_from_here(
    model: Model, elsewhere: Callable[[str], Elsewhere]
) -> None:
    """Neither as a limit nor as what decides."""
    board = elsewhere("raspberry-pi-5")
    board.check(model, Budget(size_bytes=10), "size")
    with pytest.raises(UsageError, match="latency_ms cannot be judged"):
        board.check(model, Budget(latency_ms=1.0), "size")
    with pytest.raises(UsageError, match="--prefer latency cannot be judged"):
        board.check(model, Budget(), "latency")


def test_the_answer_says_what_was_not_measured(
    model: Model, elsewhere: Callable[[str], Elsewhere]
) -> None:
    """And which operators leave the processor that was meant, and what is unknown."""
    notes = elsewhere("rk3588").notes(model, SAMPLE)
    assert "on rk3588 nothing was measured" in notes[0]
    assert "data sheets of rk3588 say of the model: not known" in notes[1]
    board = elsewhere("ethos-u55-128")
    first = board.target.processors[0].name
    assert f"leave the {first}: " in board.notes(model, SAMPLE)[-1]
