"""Make what a search has chosen like the version before, on the selection samples."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from skerry.compress.alike.choose import Loss, make_alike
from skerry.compress.search.candidates import Candidate, Choice
from skerry.compress.search.request import Search
from skerry.compress.view import view_of
from skerry.core.model import Model
from skerry.core.report import AlikeRow
from skerry.core.seams import LoadOptions, Session, Tensors
from skerry.graph import Graph, write_graph
from skerry.tasks.evaluate import (
    MOST_COMPARED,
    Scores,
    compare_scores,
    evaluate,
    output_distance,
)
from skerry.tasks.metrics import find_metric

SHARE = 0.5
"""How much of what the budget allows may be lost for a smaller delta."""

_DEFAULT_DROP = 0.01
_STANDARD_ERRORS = 1.96

ResultT = TypeVar("ResultT")


def alike(
    graph: Graph, choice: Choice, search: Search, source: Model
) -> tuple[Graph, Choice]:
    """Make the graph that was chosen like the version before, where that is asked for.

    Args:
        graph: What was chosen, read.
        choice: How.
        search: What was asked, and the samples.
        source: The float model.

    Raises:
        DataError: Samples do not fit.
        RuntimeFailure: The runtime failed.
    """
    chosen, wanted = choice.chosen, search.alike
    if wanted is None or chosen is None:
        return graph, choice
    judge = _judge if search.task is not None else _compare
    drop = search.budget.accuracy_drop
    allowed = SHARE * (_DEFAULT_DROP if drop is None else drop)
    if search.task is None:
        allowed = SHARE * search.distance
    made = make_alike(
        graph, wanted, judge(graph, chosen, search, source), allowed=allowed
    )
    notes = (*choice.notes, _sum_up(made.rows, wanted.title), *made.notes)
    return made.graph, replace(choice, alike=made.rows, notes=notes)


def _sum_up(rows: tuple[AlikeRow, ...], title: str) -> str:
    native, chosen = rows[0], next(row for row in rows if row.chosen)
    if chosen is native:
        return f"The delta from {title} has {native.patch_bytes:,} bytes."
    return (
        f"The delta from {title} has {chosen.patch_bytes:,} bytes, with its own scales "
        f"{native.patch_bytes:,}: weights were written on the scales of {title}, "
        f"{chosen.name}."
    )


def _judge(
    graph: Graph, chosen: Candidate, search: Search, source: Model
) -> Callable[[Graph], Loss]:
    """What a graph loses of the metric, on the selection samples."""
    view = view_of(chosen.recipe, source.inputs)

    def score(one: Graph) -> Scores:
        if search.task is None:
            raise ValueError("there is nothing to score by")
        samples, task = view.samples(search.selection), view.task(search.task)
        return _with_session(
            one, chosen, search, lambda session: evaluate(session, samples, task)
        )

    before = score(graph)
    metric = find_metric(before.metric)

    def lose(one: Graph) -> Loss:
        delta = compare_scores(before, score(one))
        drop = metric.drop(before.value, delta.delta)
        reach = metric.drop(before.value, delta.delta - _reach(delta.low, delta.delta))
        other = metric.drop(before.value, delta.delta + _reach(delta.delta, delta.high))
        return Loss(drop=drop, at_worst=max(drop, reach, other))

    return lose


def _reach(low: float, high: float) -> float:
    """One standard error, of an end of the 95 % interval."""
    return (high - low) / _STANDARD_ERRORS


def _compare(
    graph: Graph, chosen: Candidate, search: Search, source: Model
) -> Callable[[Graph], Loss]:
    """How far a graph's outputs are from those of the graph as it was."""
    view = view_of(chosen.recipe, source.inputs)

    def run(one: Graph) -> list[Tensors]:
        few = islice(view.samples(search.selection), MOST_COMPARED)
        return _with_session(
            one,
            chosen,
            search,
            lambda session: [session.run(sample.inputs) for sample in few],
        )

    before = run(graph)

    def lose(one: Graph) -> Loss:
        pairs = zip(before, run(one), strict=True)
        distance = float(np.mean([output_distance(*pair) for pair in pairs]))
        return Loss(drop=distance, at_worst=distance)

    return lose


def _with_session(
    graph: Graph, chosen: Candidate, search: Search, use: Callable[[Session], ResultT]
) -> ResultT:
    """Load a graph where the chosen one is to run, and use it."""
    others = (one for one in search.others if one.name == chosen.runtime)
    runtime = next(others, search.runtime)
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        model = write_graph(graph, Path(folder) / "model.onnx")
        options = LoadOptions(threads=search.threads)
        with closing(runtime.load(model, options)) as session:
            return use(session)
