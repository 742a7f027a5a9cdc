"""Choose how like the version before a quantized model is made: what its delta costs.

First all layers get the same grid, coarser and coarser, as long as the loss is surely
allowed. Then a part of the layers gets the next grid too, as large a part as holds:
first those where it saves most bytes for what it changes. What is chosen is the
smallest delta that holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from skerry.compress.alike.freeze import (
    Layer,
    find_layers,
    freeze,
    grids_of,
    norms_moved,
    put_on_grid,
)
from skerry.core.report import AlikeRow
from skerry.graph import Graph

GRIDS = (1, 2, 3, 4, 6, 8, 12)
HALVINGS = 3
"""How often it is halved what share of the weights gets the next grid."""

MOVED_SHARE = 0.1
"""Fraction of channels, moved by a factor alone, from which on it is told."""

NATIVE = "its own scales"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alike:
    """What a model is to be made like.

    Attributes:
        previous: The version before, quantized.
        patch_size_bytes: What a delta from that version to a graph costs.
        title: What that version is called.
    """

    previous: Graph
    patch_size_bytes: Callable[[Graph], int]
    title: str = "the version before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a candidate loses against the quantized model as it was.

    Attributes:
        drop: In the unit of what is allowed.
        at_worst: The same, one standard error worse.
    """

    drop: float
    at_worst: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """What came out.

    Attributes:
        graph: With the smallest delta of those that hold; as it was where none does.
        rows: What was tried.
        notes: What the reader must know, in plain sentences.
    """

    graph: Graph
    rows: tuple[AlikeRow, ...]
    notes: tuple[str, ...]


def make_alike(
    graph: Graph, wanted: Alike, lose: Callable[[Graph], Loss], *, allowed: float
) -> Made:
    """Make a quantized graph like the version before, as far as its loss allows.

    Args:
        graph: The new version, quantized on its own; left as it was.
        wanted: The version before, and what a delta costs.
        lose: What a candidate loses against the graph as it was.
        allowed: The largest loss; a candidate holds if it is surely within.
    """
    layers = find_layers(graph, wanted.previous)
    trials = _Trials(graph, wanted, lose, allowed)
    if not layers:
        why = f"{wanted.title} has no INT8 weights of the same names and shapes."
        return trials.made([why])
    finest = trials.try_grids(f"grid {GRIDS[0]}", layers, grids_of(layers, GRIDS[0]))
    if finest.holds:
        _search(trials, layers)
    return trials.made(_tell(finest, layers))


def _search(trials: _Trials, layers: Sequence[Layer]) -> None:
    grid, after = GRIDS[0], GRIDS[1]
    for coarse in GRIDS[1:]:
        after = coarse
        row = trials.try_grids(f"grid {coarse}", layers, grids_of(layers, coarse))
        if not row.holds:
            break
        grid = coarse
    else:
        return
    order = _by_worth(layers, grid, after)
    share, step = 0.5, 0.25
    for _ in range(HALVINGS):
        some = {one.name: after for one in _some(order, share)}
        title = f"grid {after} for {share:.3g} of the weights, {grid} for the rest"
        row = trials.try_grids(title, layers, {**grids_of(layers, grid), **some})
        share += step if row.holds else -step
        step /= 2


class _Trials:
    """What was tried; the graph as it was is the first."""

    def __init__(
        self,
        graph: Graph,
        wanted: Alike,
        lose: Callable[[Graph], Loss],
        allowed: float,
    ) -> None:
        self._graph = graph
        self._wanted = wanted
        self._lose = lose
        self._allowed = allowed
        size = wanted.patch_size_bytes(graph)
        row = AlikeRow(name=NATIVE, patch_bytes=size, drop=0.0, holds=True)
        self._tried = [(row, graph)]

    @property
    def native_bytes(self) -> int:
        """What the delta to the graph as it was costs."""
        return self._tried[0][0].patch_bytes

    def try_grids(
        self, name: str, layers: Sequence[Layer], grids: Mapping[str, int]
    ) -> AlikeRow:
        """Try a grid for each layer."""
        frozen = freeze(self._graph, layers, grids)
        loss = self._lose(frozen)
        row = AlikeRow(
            name=name,
            patch_bytes=self._wanted.patch_size_bytes(frozen),
            drop=loss.drop,
            holds=loss.at_worst <= self._allowed,
        )
        self._tried.append((row, frozen))
        return row

    def made(self, notes: Sequence[str]) -> Made:
        """What is smallest of what holds."""
        holding = [one for one in self._tried if one[0].holds]
        chosen, graph = min(holding, key=lambda one: one[0].patch_bytes)
        rows = [replace(row, chosen=row is chosen) for row, _ in self._tried]
        return Made(graph=graph, rows=tuple(rows), notes=tuple(notes))


def _by_worth(layers: Sequence[Layer], grid: int, after: int) -> list[Layer]:
    """Those first where a coarser grid saves most for how much it changes weights."""

    def worth(layer: Layer) -> float:
        steps = [
            put_on_grid(layer, one)[0].astype(np.int64)
            - layer.old_codes.astype(np.int64)
            for one in (grid, after)
        ]
        saved = _entropy_bits(steps[0]) - _entropy_bits(steps[1])
        change = layer.error(after) - layer.error(grid)
        return saved * float(np.square(layer.weights).sum()) / max(change, 1e-30)

    return sorted(layers, key=worth, reverse=True)


def _entropy_bits(steps: np.ndarray) -> float:
    _, counts = np.unique(steps, return_counts=True)
    return float(-(counts * np.log2(counts / steps.size)).sum())


def _some(layers: Sequence[Layer], share: float) -> list[Layer]:
    """The first of them, until they have so much of all weights."""
    sizes = np.cumsum([layer.codes.size for layer in layers])
    return list(layers[: int(np.searchsorted(sizes, share * sizes[-1]))])


def _tell(finest: AlikeRow, layers: Sequence[Layer]) -> list[str]:
    """What the reader must know."""
    notes = []
    if not finest.holds:
        notes.append(
            "The scales of the version before do not suit this one: with them it "
            f"loses {finest.drop:.1%}, so it keeps its own. Was it trained anew? What "
            "goes on from the version before has a small delta."
        )
    moved, every = norms_moved(layers)
    if moved > MOVED_SHARE * every:
        notes.append(
            f"{moved:,} of {every:,} channels differ from the version before by a "
            "factor alone: batch norms have moved, and folding them changed each "
            "scale. Freeze them when you train on (in PyTorch: eval() and "
            "requires_grad_(False) for each BatchNorm): the delta becomes smaller."
        )
    return notes
