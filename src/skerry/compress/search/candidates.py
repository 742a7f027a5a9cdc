"""What a search tries, and what it came to: files on disk, figures in memory.

The source itself, its weights stored in half, another runtime and each quantization
are candidates of one kind: a recipe, and the runtime that its result runs on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from skerry.compress.numbers.schemes import BYTE_BITS
from skerry.compress.ptq.quantize import Quantize
from skerry.compress.recipe_files import make_step
from skerry.core.model import Model
from skerry.core.recipe import Recipe
from skerry.core.report import AlikeRow, Attempt
from skerry.core.seams import Precision
from skerry.graph import Graph, read_graph
from skerry.tasks.measure import Ratio

SOURCE_TITLE = "source model, float32"

UNSURE = "holds, but chance may have been kind"

SIZE_ONLY = "size gain, no speed gain"

_QUANTIZE = "quantize"
_STORING = frozenset({"codebook", "half"})
"""Steps that change how weights are stored, not what is computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to make a model smaller or faster, and what it measured.

    Attributes:
        title: What it is, for people.
        recipe: The steps that make it of the source; none for the source itself.
        runtime: The name of the runtime that it is to run on.
        precision: What that runtime may compute floats in.
        model: Its file; None where it was not made.
        accuracy: The task's metric on the samples seen; None where not measured.
        drop: Loss against the source on them, as a fraction; below 0 is a gain.
        seen: How many samples of the selection half it was scored on.
        is_sure: Whether it holds even if chance was kind to it; see `scoring`.
        refusal: Why it is not to be chosen, or empty.
        latency: Its latency ÷ the source's on the named runtime; None where not
            measured.
    """

    title: str
    recipe: Recipe
    runtime: str
    precision: Precision = "default"
    model: Model | None = None
    accuracy: float | None = None
    drop: float | None = None
    seen: int = 0
    is_sure: bool = False
    refusal: str = ""
    latency: Ratio | None = None

    @property
    def path(self) -> Path | None:
        """Its file, for as long as the folder of the search is there."""
        return None if self.model is None else self.model.path

    @property
    def size_bytes(self) -> int | None:
        """Of its file."""
        return None if self.model is None else self.model.size_bytes

    @property
    def step(self) -> Quantize | None:
        """The quantization among its steps, if there is one."""
        return quantize_step(self.recipe)

    def read(self) -> Graph:
        """Read its graph from its file.

        Raises:
            UsageError: The folder of the search is not there any more.
        """
        return read_graph(self.path or Path())

    def attempt(self, *, is_chosen: bool) -> Attempt:
        """This candidate as a report lists it."""
        return Attempt(
            name=self.title,
            accuracy=self.accuracy,
            size_bytes=self.size_bytes,
            latency_ratio=self.latency.median if self.latency else None,
            kept_float=len(self.step.keep_float) if self.step else 0,
            chosen=is_chosen,
            note="; ".join(filter(None, self._notes())),
            runtime=self.runtime,
        )

    def _notes(self) -> tuple[str, str]:
        step, latency = self.step, self.latency
        is_stored = any(spec.name in _STORING for spec in self.recipe.steps)
        is_narrow = step is not None and step.weight_bits < BYTE_BITS
        is_no_faster = latency is not None and latency.high >= 1
        return (
            self.refusal or ("" if self.is_sure else UNSURE),
            SIZE_ONLY if (is_stored or is_narrow) and is_no_faster else "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The outcome of a search.

    Attributes:
        prepared: The float graph that every quantization was made from.
        baseline: The source model's metric on the selection half; None without labels.
        candidates: Everything tried, in order of trial; their files are there for as
            long as the folder of the search.
        chosen: The one to return, or None where that is the source.
        sensitivity: By name of operator, the error it causes when it alone is
            quantized; empty where it was not needed.
        missing: Why a runtime was not tried, by its name.
        notes: What a reader must know of the search, in plain sentences.
        alike: What was tried to make the chosen one like the version before.
    """

    prepared: Graph
    baseline: float | None
    candidates: tuple[Candidate, ...]
    chosen: Candidate | None
    sensitivity: Mapping[str, float]
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    alike: tuple[AlikeRow, ...] = ()

    def attempts(self) -> tuple[Attempt, ...]:
        """The trials as a report lists them, the source first."""
        source = Attempt(
            name=SOURCE_TITLE,
            accuracy=self.baseline,
            latency_ratio=1.0,
            chosen=self.chosen is None,
        )
        tried = (
            candidate.attempt(is_chosen=candidate is self.chosen)
            for candidate in self.candidates
        )
        missing = (
            Attempt(name=f"source model on {name}", runtime=name, note=why)
            for name, why in self.missing.items()
        )
        return (source, *tried, *missing)


def without_chosen(choice: Choice) -> Choice:
    """The same choice, but that what was chosen has turned out to be slower."""
    refused = tuple(
        replace(one, refusal="refused: slower than the source in the last measurement")
        if one is choice.chosen
        else one
        for one in choice.candidates
    )
    return replace(choice, candidates=refused, chosen=None, alike=())


def recipe_of(*steps: Quantize) -> Recipe:
    """The recipe of these steps."""
    return Recipe(steps=tuple(step.spec() for step in steps))


def quantize_step(recipe: Recipe) -> Quantize | None:
    """The quantization among a recipe's steps, if there is one."""
    for spec in recipe.steps:
        if spec.name == _QUANTIZE:
            return cast("Quantize", make_step(spec))
    return None
