"""A grid of measured recipes: every recipe of a small space, tried once.

On it samplers are replayed (`_train_tune.py`) at no cost: what a trial would have come
to is looked up. The net is ResNet-8 on CIFAR-10, made wide inside its blocks as in
`nets/depthwise.py`: INT8 makes it faster, and the way of quantizing decides between
nothing lost and everything. Which of its parts stay in float decides between as slow as
before and a third faster; some parts are better left so, and few recipes are good.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from pathlib import Path

import msgspec

from benchmarks._found import tell
from benchmarks.nets.case import Case
from benchmarks.nets.catalogue import make_case
from benchmarks.nets.depthwise import widen
from benchmarks.nets.places import keep
from skerry.compress.search.cache import Cache
from skerry.compress.search.request import Search
from skerry.compress.search.trials import Trials
from skerry.compress.tune.judge import Judge
from skerry.compress.tune.space import SearchSpace
from skerry.compress.tune.space_files import parse_space
from skerry.compress.tune.trial import Outcome
from skerry.core.budget import Budget
from skerry.core.durable import write_file
from skerry.core.recipe import Choices, ParamValue, Recipe, Span
from skerry.graph import Graph, open_model, read_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.samples import take

SEARCH = """
schema = "skerry.search/1"

[[slot]]
optional = false

[[slot.step]]
step = "quantize"
operators = "fused"
search.keep_float = KEPT
search.method = ["minmax", "mse"]
search.per_channel = [true, false]
search.equalize = ["none", "weights", "activations"]

[[slot.step]]
step = "half"

[[slot.step]]
step = "codebook"
"""
"""Each set of the net's parts in float, twelve ways of quantizing the others; two ways
of storing in half, four of coding."""

QUICK_SEARCH = """
schema = "skerry.search/1"

[[slot]]
optional = false

[[slot.step]]
step = "quantize"
search.per_channel = [true, false]
search.equalize = ["none", "activations"]
search.weight_bits = [8, 4]

[[slot.step]]
step = "half"
"""

PARTS = (1, 2, 3, 3, 1)
"""Operators with weights in each part of the net: stem, three blocks, dense layer."""

NET, SEED = "resnet8", 0
SAMPLES, QUICK_SAMPLES = 500, 60
CALIBRATION = 64
ALLOWED_DROP = 2.0
"""No recipe is refused while the grid is measured: a replay sets its own limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One recipe of the grid, and what it came to."""

    recipe: Recipe
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All recipes of a space.

    Attributes:
        search: The search file.
        cells: One a recipe.
    """

    search: str
    cells: tuple[Cell, ...]

    @property
    def space(self) -> SearchSpace:
        """What a sampler proposes from."""
        return parse_space(self.search.encode(), name="the grid")


def search_text(graph: Graph) -> str:
    """The search file: parts of the net stay in float, each set of them once."""
    names = [
        node.name for node in graph.nodes if node.op_type in {"Conv", "Gemm", "MatMul"}
    ]
    ends = [0, *accumulate(PARTS)]
    parts = [names[start:end] for start, end in pairwise(ends)]
    kept = [
        [name for part in some for name in part]
        for count in range(len(parts) + 1)
        for some in combinations(parts, count)
    ]
    # What JSON writes of lists of words is TOML, too.
    return SEARCH.replace("KEPT", json.dumps(kept))


def all_recipes(space: SearchSpace) -> Iterator[Recipe]:
    """Each recipe of a space of choices, once."""
    left: list[tuple[int, ...]] = [()]
    while left:
        path = left.pop()
        sizes: list[int] = []

        def choose(
            _: str,
            one: Choices | Span,
            path: tuple[int, ...] = path,
            sizes: list[int] = sizes,
        ) -> ParamValue:
            if not isinstance(one, Choices):
                raise TypeError("a span has no end of values")
            sizes.append(len(one.values))
            at = len(sizes) - 1
            return one.values[path[at] if at < len(path) else 0]

        recipe = space.recipe(choose)
        if len(path) == len(sizes):
            yield recipe
        else:
            left += [(*path, index) for index in range(sizes[len(path)])]


def measured_grid(work: Path, *, quick: bool) -> Grid:
    """The grid from the folder, or measured now; an interrupted one goes on."""
    kept = work / f"grid{'-quick' * quick}.json"
    if kept.is_file():
        return msgspec.json.decode(kept.read_bytes(), type=Grid)
    work.mkdir(parents=True, exist_ok=True)
    folder = work / f"{NET}-seed{SEED}{'-quick' * quick}"
    make_case(NET, folder, quick=quick)
    case = Case.read(folder)
    plain = read_graph(case.model.path)
    source = open_model(
        keep(
            folder / "wide.onnx",
            lambda part: write_graph(widen(plain, SEED, is_partial=True), part),
        )
    )
    search = QUICK_SEARCH if quick else search_text(read_graph(source.path))
    space = parse_space(search.encode(), name="the grid")
    count = QUICK_SAMPLES if quick else SAMPLES
    asked = Search(
        calibration=take(case.calibration, CALIBRATION),
        selection=take(case.selection, count),
        task=case.task,
        runtime=get_runtime("onnxruntime"),
        budget=Budget(accuracy_drop=ALLOWED_DROP),
        cache=Cache(work / "grid-cache"),
    )
    recipes = list(all_recipes(space))
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(source, read_graph(source.path), asked, Path(folder))
        judge, cells = Judge(trials), []
        for number, recipe in enumerate(recipes, 1):
            tell(f"recipe {number} of {len(recipes)}")
            cells.append(Cell(recipe=recipe, outcome=judge(recipe, ())))
    grid = Grid(search=search, cells=tuple(cells))
    write_file(kept, msgspec.json.encode(grid))
    return grid
