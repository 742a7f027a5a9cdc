"""Go through a graph layer by layer, in float and in integers side by side.

A layer can only make up for what those before it lose once these are final, so each
layer is looked at with all before it quantized as they will be (Nagel et al.,
arXiv:2004.10568, section 3.3). Both graphs are cut where layers meet, and what crosses
a cut is kept for each sample, so every operator runs once a sample however many layers
there are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from skerry.compress.numbers.ranges import Range
from skerry.compress.numbers.tensors import QuantizedTensor
from skerry.compress.ptq.bias import correct_biases
from skerry.compress.ptq.plan import Plan
from skerry.compress.ptq.qdq import Schemes, insert_qdq, raise_opset
from skerry.core.seams import Array, LoadOptions, Runtime, Session, Tensors
from skerry.graph import Graph, Node, subgraphs, write_graph

LARGEST_KEPT_BYTES = 1 << 23
"""What crosses a cut is kept in memory up to this size, in a file beyond; four such are
kept at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A place between two operators of a graph.

    Attributes:
        layer: Name of the layer in front of which the graph is cut.
        values: Names of the values that are made before and read behind, the
            layer's input among them.
    """

    layer: str
    values: tuple[str, ...]


def find_cuts(graph: Graph, layers: Sequence[str], *, after: bool) -> list[Cut]:
    """Find what crosses a cut before, or after, each of some layers.

    Args:
        graph: The graph.
        layers: Names of nodes, in topological order.
        after: Whether the layer itself lies before the cut.
    """
    constants = {value.name for value in graph.initializers}
    last_read: dict[str, int] = {}
    made: dict[str, int] = {spec.name: -1 for spec in graph.inputs}
    place: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        place[str(node.name)] = index
        made.update({str(value.name): index for value in node.outputs})
        last_read.update(dict.fromkeys(_names_read(node), index))
    last = max((place[name] for name in layers), default=-1)
    cuts = []
    for name in layers:
        at = place[name] + int(after)
        values = [
            value
            for value, index in made.items()
            if index < at <= min(last_read.get(value, -1), last)
            and value not in constants
        ]
        cuts.append(Cut(layer=name, values=tuple(values)))
    return cuts


def names_of(layer: Node) -> tuple[str, str]:
    """The names of what a layer reads, beside its weights, and of what it makes."""
    source = layer.inputs[0]
    if source is None:
        raise ValueError(f"{layer.name} reads nothing")
    return str(source.name), str(layer.outputs[0].name)


def _names_read(node: Node) -> set[str]:
    """Names that a node reads, within its own graphs too."""
    found = {str(value.name) for value in node.inputs if value is not None}
    for inner in subgraphs(node):
        for one in inner:
            found |= _names_read(one)
    return found


class Kept:
    """Tensors of each sample, in the order they were added.

    Args:
        folder: Where a file may be put.
        most_bytes: How much is held in memory; more goes into the file.
    """

    def __init__(self, folder: Path, most_bytes: int = LARGEST_KEPT_BYTES) -> None:
        self._folder = folder
        self._free = most_bytes
        self._held: list[Tensors] = []
        self._names: list[tuple[str, ...]] = []
        self._file: BinaryIO | None = None

    def add(self, tensors: Tensors) -> None:
        """Keep one sample's."""
        self._free -= sum(array.nbytes for array in tensors.values())
        if self._free >= 0:
            self._held.append(tensors)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._names.append(tuple(tensors))
        for array in tensors.values():
            np.save(self._file, array, allow_pickle=False)

    def __iter__(self) -> Iterator[Tensors]:
        yield from self._held
        if self._file is None:
            return
        self._file.seek(0)
        for names in self._names:
            yield {name: np.load(self._file, allow_pickle=False) for name in names}

    def close(self) -> None:
        """Give back memory and file."""
        self._held.clear()
        if self._file is not None:
            self._file.close()


def restrict(plan: Plan, part: Graph) -> Plan:
    """What a plan says about a part of its graph."""
    nodes = {str(node.name) for node in part.nodes}
    values = {str(value.name) for value in part.values()}

    def kept(names: Mapping[str, str]) -> dict[str, str]:
        return {name: source for name, source in names.items() if name in values}

    return replace(
        plan,
        nodes=tuple(name for name in plan.nodes if name in nodes),
        carries=tuple(name for name in plan.carries if name in nodes),
        reads=kept(plan.reads),
        writes=kept(plan.writes),
        outputs={name: one for name, one in plan.outputs.items() if name in nodes},
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """What was decided so far; the next layers are looked at with it in place.

    Attributes:
        codes: Weights by name of node.
        shifts: What biases make up for, by name of node.
    """

    codes: dict[str, QuantizedTensor] = field(default_factory=dict)
    shifts: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerWalk:
    """A float graph, and how it is quantized.

    Attributes:
        graph: Its nodes are named, the types of its values known.
        plan: What is quantized.
        ranges: Range by name of value, for each value of the plan.
        schemes: How.
        runtime: What runs both graphs.
        threads: CPU threads.
    """

    graph: Graph
    plan: Plan
    ranges: Mapping[str, Range]
    schemes: Schemes
    runtime: Runtime
    threads: int = 1

    def walk(
        self, layers: Sequence[str], samples: Iterable[Tensors], chosen: Chosen
    ) -> Iterator[tuple[str, Iterator[tuple[Array, Array]]]]:
        """Go through layers, each behind those that are chosen already.

        Args:
            layers: Names of nodes, in topological order.
            samples: Inputs of single inferences.
            chosen: What the caller decides on a layer before it asks for the next.

        Yields:
            The layer, and for each sample what the layer reads in the quantized graph
            (before it is rounded) and makes in the float one. All samples are to be
            gone through before the next layer is asked for.
        """
        nodes = {str(node.name): node for node in self.graph.nodes}
        before = find_cuts(self.graph, layers, after=False)
        after = find_cuts(self.graph, layers, after=True)
        start = Cut(layer="", values=tuple(one.name for one in self.graph.inputs))
        with tempfile.TemporaryDirectory(prefix="skerry-") as name:
            folder = Path(name)
            ours, theirs = Kept(folder), Kept(folder)
            for sample in samples:
                ours.add(sample)
                theirs.add(sample)
            quantized = _Front(self, folder / "quantized.onnx", start, ours)
            known = _Front(self, folder / "float.onnx", start, theirs)
            for cut, end in zip(before, after, strict=True):
                node = nodes[cut.layer]
                read, made = names_of(node)
                quantized.open(cut, read, chosen)
                known.open(end, made, None)
                yield cut.layer, zip(quantized.run(), known.run(), strict=True)
            quantized.close()
            known.close()

    def part(self, has: Cut, wanted: Sequence[str], chosen: Chosen | None) -> Graph:
        """What makes some values from those at a cut; quantized where chosen says."""
        part = self.graph.extract(has.values, wanted)
        if chosen is None:
            return part
        plan = restrict(self.plan, part)
        ready = raise_opset(correct_biases(part, chosen.shifts), self.schemes)
        return insert_qdq(ready, plan, self.ranges, self.schemes, chosen.codes)


class _Front:
    """How far one of the two graphs was run."""

    def __init__(self, walk: LayerWalk, path: Path, cut: Cut, kept: Kept) -> None:
        self._walk = walk
        self._path = path
        self._cut = cut
        self._kept = kept
        self._next, self._behind, self._shown = cut, kept, ""
        self._session: Session | None = None

    def open(self, cut: Cut, shown: str, chosen: Chosen | None) -> None:
        """Make ready to run on to the next cut, and to show one value."""
        self.close()
        self._cut, self._kept = self._next, self._behind
        self._next, self._behind, self._shown = cut, Kept(self._path.parent), shown
        has = set(self._cut.values)
        wanted = [
            name for name in dict.fromkeys((*cut.values, shown)) if name not in has
        ]
        if wanted:
            part = self._walk.part(self._cut, wanted, chosen)
            options = LoadOptions(threads=self._walk.threads, precision="float32")
            model = write_graph(part, self._path)
            self._session = self._walk.runtime.load(model, options)

    def run(self) -> Iterator[Array]:
        """Run all samples on to the cut."""
        for tensors in self._kept:
            found = {**tensors}
            if self._session is not None:
                found |= self._session.run(tensors)
            self._behind.add({name: found[name] for name in self._next.values})
            yield found[self._shown]
        self._kept.close()

    def close(self) -> None:
        """Give back what the runtime holds."""
        if self._session is not None:
            self._session.close()
            self._session = None
