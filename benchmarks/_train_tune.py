"""The tuner beside random search, and the recipe that it finds with training.

Samplers are replayed on a grid of measured recipes: each proposes one after another,
is told what was measured, and is judged by the room that its front covers within the
budget (hypervolume; the room ends at the loss allowed, the source's time and size).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks._found import tell
from benchmarks._harness import Measured, Row
from benchmarks._train_grid import NET, Grid, measured_grid
from benchmarks._train_net import SEEDS as TRAINED_SEEDS
from benchmarks._train_setup import SETUP
from benchmarks.nets.catalogue import NETS
from benchmarks.nets.places import fashion
from skerry.compress.tune.front import hypervolume, nondominated
from skerry.compress.tune.sampler import Proposer, SamplerName, make_sampler
from skerry.compress.tune.space import describe
from skerry.compress.tune.trial import Outcome, Trial, holding
from skerry.core.errors import MissingExtraError
from skerry.core.recipe import Recipe

EVALUATIONS, QUICK_EVALUATIONS = 40, 5
SEEDS, QUICK_SEEDS = 20, 3
ALLOWED = 0.01
"""The loss allowed, of top-1."""

RIVALS: tuple[SamplerName, ...] = ("bandit", "tpe", "random")
DEFAULT = "bandit"

TUNER_BAR = "train.tuner.vs_random"
COMBINED_BAR = "train.combined.speedup"

TRIALS, QUICK_TRIALS = 12, 3
MOST_LOST = 0.01
TUNE_TIMEOUT_S = 7200.0

COMBINED_NETS = ("plain", "depthwise")
"""The bar is that of the first, on which both pruning and integers gain time; on the
second, which is small already, integers do not."""

COMBINED = """
schema = "skerry.search/1"

[[slot]]

[[slot.step]]
step = "prune"
rounds = 1
epochs = 6
multiple = 16
learning_rate = 3e-3
most = 0.9
search.ratio = [0.5, 0.65]

[[slot]]

[[slot.step]]
step = "quantize"
operators = "fused"
search.method = ["minmax", "mse"]
search.equalize = ["none", "activations"]
search.correct_bias = [false, true]
search.rounding = ["nearest", "adaptive"]
"""
"""Few ways to prune, which are trained once each, and many to quantize the result."""

QUICK_COMBINED = COMBINED.replace("epochs = 6", "epochs = 1")


def measure_tuner(work: Path, *, quick: bool) -> tuple[list[Row], Measured]:
    """Replay the samplers.

    Args:
        work: Where the grid is kept.
        quick: A small grid, few seeds.
    """
    if (why := NETS[NET].missing()) is not None:
        return [], Measured(id=TUNER_BAR, figure=None, n=0, unmet=why)
    return replays(measured_grid(work, quick=quick), quick=quick)


def replays(grid: Grid, *, quick: bool) -> tuple[list[Row], Measured]:
    """Each sampler on the grid, from the same seeds."""
    seeds = range(QUICK_SEEDS if quick else SEEDS)
    count = QUICK_EVALUATIONS if quick else EVALUATIONS
    best = covered([_under(one.outcome) for one in grid.cells])
    found: dict[str, NDArray[np.float64]] = {}
    rows: list[Row] = []
    for name in RIVALS:
        tell(f"replay: {name}")
        try:
            rooms = [replay(grid, name, seed, count) for seed in seeds]
        except MissingExtraError as error:
            rows.append({"what": f"hypervolume, {name}", "note": error.hint})
            continue
        found[name] = np.array(rooms)
        rows.append(
            {
                "what": f"hypervolume after {count} of {len(grid.cells)}, {name}",
                "figure": float(found[name].mean()),
                "unit": "of the budget's room",
                "n": len(rooms),
                "note": f"{found[name].mean() / best:.1%} of what the grid holds",
            }
        )
    return rows, _bar(found)


def replay(grid: Grid, name: SamplerName, seed: int, count: int) -> float:
    """The room that a sampler covers with so many evaluations."""
    cells = {_key(one.recipe): _under(one.outcome) for one in grid.cells}
    space = grid.space
    sampler = make_sampler(name, space, allowed_drop=ALLOWED)
    proposer = Proposer(space=space, sampler=sampler, seed=seed)
    trials: list[Trial] = []
    while len(trials) < count and (recipe := proposer(trials)) is not None:
        outcome = cells[_key(recipe)]
        trials.append(Trial(number=len(trials), recipe=recipe, outcome=outcome))
    return covered([one.outcome for one in trials if one.outcome is not None])


def covered(outcomes: Sequence[Outcome]) -> float:
    """The share of the budget's room that outcomes cover."""
    empty = Recipe(steps=())
    trials = [Trial(number=0, recipe=empty, outcome=one) for one in outcomes]
    rows = [
        (max(drop, 0.0) / ALLOWED, latency, size)
        for drop, latency, size in (one.costs for one in holding(trials))
    ]
    return hypervolume([rows[k] for k in nondominated(rows)], (1.0, 1.0, 1.0))


def _under(outcome: Outcome) -> Outcome:
    """An outcome under the limit of the replay."""
    drop = outcome.drop
    if drop is None or drop <= ALLOWED:
        return outcome
    over = (drop - ALLOWED) / ALLOWED
    return replace(outcome, refusal="refused: loses too much", violation=over)


def _key(recipe: Recipe) -> str:
    steps = [[one.name, dict(one.params)] for one in recipe.steps]
    return json.dumps(steps, sort_keys=True)


def _bar(found: Mapping[str, NDArray[np.float64]]) -> Measured:
    """The ratio of the means, its interval by bootstrap over the seeds."""
    ours, theirs = found[DEFAULT], found["random"]
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(ours), size=(2000, len(ours)))
    floor = 1e-9
    ratios = ours[drawn].mean(axis=1) / np.maximum(theirs[drawn].mean(axis=1), floor)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return Measured(
        id=TUNER_BAR,
        figure=float(ours.mean() / max(theirs.mean(), floor)),
        n=len(ours),
        interval=(float(low), float(high)),
        peer="random search, without repeats",
    )


def measure_combined(
    work: Path, *, quick: bool, seeds: int = TRAINED_SEEDS
) -> tuple[list[Row], Measured]:
    """Tune nets with training, as a user does, for each seed.

    Args:
        work: Where the experiments are kept: one that is whole is proved anew.
        quick: Few trials, few pictures, the first net and the first seed alone.
        seeds: How many.
    """
    if (why := fashion()) is not None:
        return [], Measured(id=COMBINED_BAR, figure=None, n=0, unmet=why)
    found = [
        _combined(
            net,
            [
                _tuned(work, net, seed, quick=quick)
                for seed in range(1 if quick else seeds)
            ],
        )
        for net in (COMBINED_NETS[:1] if quick else COMBINED_NETS)
    ]
    return [row for rows, _ in found for row in rows], found[0][1]


def _tuned(work: Path, net: str, seed: int, *, quick: bool) -> Mapping[str, Any]:
    """What `skerry tune` answers, as JSON."""
    folder = work / f"combined-{net}-seed{seed}{'-quick' * quick}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "search.toml").write_text(QUICK_COMBINED if quick else COMBINED)
    (folder / "budget.toml").write_text(f"accuracy_drop = {MOST_LOST}\n")
    setup = SETUP.format(work=str(work), net=net, seed=seed, quick=quick)
    (folder / "train.py").write_text(setup)
    trials = str(QUICK_TRIALS if quick else TRIALS)
    begun = (folder / "store" / "experiment.json").is_file()
    words = (
        ["experiment", "resume", f"{folder}/store"]
        if begun
        else [
            *("tune", "--train", f"{folder}/train.py", "--seed", str(seed)),
            *("--store", f"{folder}/store", "--search", f"{folder}/search.toml"),
            *("--budget", f"{folder}/budget.toml"),
        ]
    )
    tell(f"tune: {trials} trials with training, {net}, seed {seed}")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "skerry.app.main", *words, "--json"),
            *("--trials", trials, "--out", f"{folder}/out"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=TUNE_TIMEOUT_S,
    )
    answer: Mapping[str, Any] = json.loads(done.stdout)
    return answer


def _combined(
    net: str, answers: Sequence[Mapping[str, Any]]
) -> tuple[list[Row], Measured]:
    """A row a seed, and the bar as this net has it: it holds if it does in the mean.

    A seed of which nothing came fails it.
    """
    rows: list[Row] = []
    lost: list[float] = []
    speeds: list[float] = []
    pictures = 0
    unmet = ""
    for seed, answer in enumerate(answers):
        what = f"recipe found by the tuner, seed {seed}"
        if not answer["ok"]:
            unmet = f"seed {seed}: {answer['error']['what']}"
            rows.append({"what": what, "net": net, "note": unmet})
            continue
        report = answer["result"]["report"]
        accuracy, latency, size = (
            report[name] for name in ("accuracy", "latency_ms", "size_bytes")
        )
        lost.append(-accuracy["paired_delta"])
        speeds.append(1 / latency["ratio"])
        pictures += accuracy["n"]
        recipe = msgspec.convert(report["recipe"], Recipe)
        rows.append(
            {
                "what": f"{what}: {describe(recipe)}",
                "net": net,
                "figure": 100 * lost[-1],
                "unit": "points lost",
                "n": accuracy["n"],
                "× as fast": speeds[-1],
                "note": f"{size['before'] / size['after']:.2f} × smaller; "
                f"{latency['before']:.3f} ms before",
            }
        )
    if not unmet and np.mean(lost) > MOST_LOST:
        unmet = f"{100 * np.mean(lost):.2f} points lost"
    return rows, Measured(
        id=COMBINED_BAR,
        figure=float(np.median(speeds)) if speeds else None,
        n=pictures,
        interval=(min(speeds), max(speeds)) if len(speeds) > 1 else None,
        unmet=unmet,
    )
