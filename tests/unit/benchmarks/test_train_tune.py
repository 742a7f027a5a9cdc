from __future__ import annotations

import math

import pytest

from benchmarks._train_grid import (
    PARTS,
    QUICK_SEARCH,
    Cell,
    Grid,
    all_recipes,
    search_text,
)
from benchmarks._train_tune import covered, replay, replays
from skerry.compress.train.export import export_graph
from skerry.compress.tune.space_files import parse_space
from skerry.runtimes.torch import torch
from tests.tuning import outcome, score

MADE_UP = """
schema = "skerry.search/1"

[[slot]]
optional = false

[[slot.step]]
step = "quantize"
search.method = ["minmax", "percentile", "mse", "entropy"]
search.per_channel = [true, false]
search.weight_bits = [8, 4]
search.equalize = ["none", "weights", "activations"]
search.smooth = [0.0, 0.25, 0.5, 0.75, 1.0]

[[slot.step]]
step = "half"
"""


@pytest.fixture(scope="module")
def grid() -> Grid:
    """All recipes of a small space, scored by what is made up."""
    space = parse_space(MADE_UP.encode(), name="made up")
    cells = [Cell(recipe=one, outcome=score(one)) for one in all_recipes(space)]
    return Grid(search=MADE_UP, cells=tuple(cells))


def test_a_grid_has_each_recipe_once(grid: Grid) -> None:
    """The whole one has at least 300."""
    assert len(grid.cells) == 4 * 2 * 2 * 3 * 5 + 2
    net = torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(sum(PARTS))])
    graph = export_graph(net, (torch.ones(1, 4),), inputs=("x",), outputs=("y",))
    recipes = list(all_recipes(parse_space(search_text(graph).encode(), name="it")))
    assert len(recipes) == 2 ** len(PARTS) * 12 + 2 + 4
    assert all(one not in recipes[:k] for k, one in enumerate(recipes[:50]))
    assert len(list(all_recipes(parse_space(QUICK_SEARCH.encode(), name="it")))) == 10


def test_a_replay_of_all_finds_all(grid: Grid) -> None:
    """With as many evaluations as cells chance covers what there is."""
    whole = covered([one.outcome for one in grid.cells])
    assert replay(grid, "random", 0, len(grid.cells)) == pytest.approx(whole)
    assert 0 < replay(grid, "random", 0, 10) <= whole


def test_the_sampler_is_set_beside_chance(grid: Grid) -> None:
    """One row a sampler, and the bar with its interval."""
    rows, bar = replays(grid, quick=True)
    assert len(rows) == 3
    assert bar.figure is not None
    assert bar.interval is not None
    assert math.isfinite(bar.figure)
    assert bar.n == 3


def test_the_room_is_that_of_the_budget() -> None:
    """What loses too much, or gains nothing, covers nothing."""
    assert covered([outcome(0.0, 0.5, 0.5)]) == pytest.approx(0.25)
    assert covered([outcome(0.005, 0.5, 0.5)]) == pytest.approx(0.125)
    assert covered([outcome(0.0, 1.1, 0.5), outcome(0.5, 0.1, 0.1)]) == 0
