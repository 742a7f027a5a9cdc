from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks import _train_prune_channels as channels
from benchmarks import _train_prune_layers as layers
from benchmarks import _train_prune_pixels as pixels
from benchmarks._train_prune_channels import (
    LONGER,
    ORIGINAL,
    RIVAL,
    Found,
    bar,
    table_row,
)
from skerry.tasks.measure import Ratio


def found(right: Sequence[int], latency: float | None = 0.45) -> Found:
    """What one seed came to."""
    ratio = (
        None if latency is None else Ratio(median=latency, low=latency, high=latency)
    )
    return Found(right=np.array(right, float), latency=ratio)


def all_found(latency: float) -> dict[str, list[Found]]:
    """Two seeds, ours a tenth of a picture worse than the original on average."""
    return {
        ORIGINAL: [found([1, 1, 1, 1, 0], None), found([1, 1, 1, 1, 1], None)],
        LONGER: [found([1, 1, 1, 1, 0], None), found([1, 0, 1, 1, 1], None)],
        "ours": [found([1, 1, 1, 0, 1], latency), found([1, 1, 1, 1, 0], 0.4)],
        RIVAL: [found([0, 0, 1, 0, 1]), found([1, 1, 1, 1, 0])],
    }


def test_points_are_lost_against_the_original() -> None:
    """The bar is the mean over seeds and pictures, the rival's beside it."""
    got = bar(all_found(0.45))
    assert got.figure == pytest.approx(10.0)
    assert got.n == 10
    assert got.peer.startswith(f"{RIVAL} loses 30.00; ")
    assert got.unmet == ""


def test_a_seed_that_is_too_slow_breaks_the_bar() -> None:
    """What is not twice as fast does not hold, whatever it loses."""
    assert bar(all_found(0.6)).unmet == "only 1.67 × as fast"


def test_a_row_tells_accuracy_and_speed() -> None:
    """Each way has a line of the table."""
    got = table_row("ours", all_found(0.5))
    assert got["figure"] == pytest.approx(10.0)
    assert got["note"] == "80.00 % top-1"
    assert got["× as fast"] == pytest.approx(1 / 0.45)


def test_what_the_original_gains_by_more_training_is_told() -> None:
    """Beside the bar, and as a loss below none."""
    all_ways = all_found(0.45)
    all_ways[ORIGINAL], all_ways[LONGER] = all_ways[LONGER], all_ways[ORIGINAL]
    got = bar(all_ways)
    assert got.figure == pytest.approx(0.0)
    assert got.peer.endswith("the original, trained as long, gains 10.00")
    assert table_row(LONGER, all_ways)["figure"] == pytest.approx(-10.0)


def layers_found(ours: Sequence[int]) -> dict[str, list[Found]]:
    """One seed of ResNet-8."""
    return {
        "original": [found([1] * 10, None)],
        "ours": [found(ours, 0.7)],
        layers.RIVAL: [found([0] * 10, 0.7)],
    }


def test_layers_may_cost_a_point() -> None:
    """The bar is the speed; it holds where no more than a point is lost."""
    got = layers.bar(layers_found([1] * 10))
    assert got.figure == pytest.approx(1 / 0.7)
    assert got.unmet == ""
    assert got.peer == "the same at once loses 100.00 points"
    lost = layers.bar(layers_found([1] * 9 + [0]))
    assert lost.unmet == "it loses 10.00 ± 18.59 points"


def test_layers_that_are_gone_are_told() -> None:
    """What is kept on disk says what is missing, and not what never was there."""
    net = layers.ResNet8()
    assert layers.left_out(net) == ()
    layers.leave_out(net, layers.Block(layers=("blocks.1.second",), cost=0))
    assert layers.left_out(net) == ("blocks.1.second",)


def test_what_is_missing_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without data each part says so, and has no figure."""
    folder = tmp_path_factory.mktemp("work")
    monkeypatch.delenv("SKERRY_DATA", raising=False)
    for part in (channels, layers):
        monkeypatch.setattr(part, "fashion", lambda: "not there")
    for part in (channels, layers, pixels):
        rows, measured = part.measure(folder, quick=True)
        assert rows == []
        assert measured.figure is None
        assert measured.unmet
