"""Make the file of a candidate from its recipe, measuring nothing twice.

Quantizations share what they have in common: the graph prepared, its channels
equalized, what calibration found out. Any other step is applied as a recipe applies it.
What comes out has the bytes that the recipe alone gives.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec

from skerry.compress.apply import apply_steps
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.quantize import Equalization, Measured, Quantize, StepContext
from skerry.compress.recipe_files import split_steps
from skerry.compress.search.cache import Cache, fingerprint, versions
from skerry.compress.search.candidates import quantize_step
from skerry.compress.search.stored import decode_measured, encode_measured
from skerry.compress.view import RESIZE, view_of
from skerry.core.errors import ModelError, UsageError
from skerry.core.model import Model
from skerry.core.recipe import Recipe, StepSpec
from skerry.graph import Graph, content_hash, read_graph, write_graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """What does the steps that train.

    Attributes:
        train: Trains as a recipe of such steps says; returns the model exported.
        key: Tells apart what it depends on: two of the same key train the same.
    """

    train: Callable[[Recipe], Graph]
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where candidates are made.

    Attributes:
        folder: Where their files go; it exists.
        cache: What is kept from one search to the next.
        trainer: What does the steps that train; None where none may be asked for.
    """

    folder: Path
    cache: Cache
    trainer: Trainer | None = None


class Maker:
    """Makes candidates of one model.

    Args:
        source: Its file.
        graph: The same, read.
        context: What steps may use.
        workshop: Where files go.
    """

    def __init__(
        self, source: Model, graph: Graph, context: StepContext, workshop: Workshop
    ) -> None:
        self._graph = graph
        self._context = context
        self._workshop = workshop
        self._equalized: dict[tuple[Equalization, bool, float], Graph] = {}
        self._measures: dict[Quantize, Measured] = {}
        self._notes: tuple[str, ...] | None = None
        self._after: dict[str, Maker] = {}
        self._made = 0
        cache = workshop.cache
        # Weights that lie apart may change under the same file.
        self.source = content_hash(source) if cache.is_kept else source.sha256
        self._samples = fingerprint(context.calibration) if cache.is_kept else ""

    @cached_property
    def prepared(self) -> Graph:
        """The graph as quantizations begin with it.

        Raises:
            ModelError: It cannot be quantized, or is already.
        """
        return prepare(self._graph)

    def make(self, recipe: Recipe) -> Model:
        """Make the model of a recipe.

        Raises:
            SkerryError: As its steps do.
        """
        maker, rest = self._begun(recipe)
        if maker is not self:
            return maker.make(rest)
        self._made += 1
        path = self._workshop.folder / f"candidate-{self._made}.onnx"
        key = self.key(steps=[_plain(step) for step in recipe.steps])
        return self._workshop.cache.model(
            key, lambda where: write_graph(self._apply(recipe), where), path
        )

    def after(self, trained: tuple[StepSpec, ...]) -> Maker:
        """What makes candidates of the model that steps have trained.

        Args:
            trained: Steps that train, and no others; of none this maker itself.

        Raises:
            UsageError: There is nothing to train with.
            SkerryError: As the steps do.
        """
        if not trained:
            return self
        trainer = self._workshop.trainer
        if trainer is None:
            raise UsageError(
                f"the step {trained[0].name!r} trains, and there is nothing to "
                "train with",
                hint="Give the module and its data: --train train.py:setup.",
            )
        steps = [_plain(step) for step in trained]
        key = self.key(trained=steps, training=trainer.key)

        def train() -> Graph:
            # The same training fails the same: it is not done to see that again.
            cache = self._workshop.cache
            if (known := cache.get("failed", key)) is not None:
                what, hint = msgspec.json.decode(known, type=tuple[str, str])
                raise ModelError(what, hint=hint)
            try:
                return trainer.train(Recipe(steps=trained))
            except ModelError as error:
                cache.put("failed", key, msgspec.json.encode((error.what, error.hint)))
                raise

        return self._then(key, train, self._context)

    def prepared_for(self, recipe: Recipe) -> Graph:
        """The float graph that a recipe's quantization begins with.

        That is what its steps that train, and a resize after them, have made; the
        source's, prepared, where that has integers already.

        Raises:
            SkerryError: As these steps do, or as `prepared` does.
        """
        maker, rest = self._begun(recipe)
        if maker is not self:
            with suppress(ModelError):
                return maker.prepared_for(rest)
        return self.prepared

    def _begun(self, recipe: Recipe) -> tuple[Maker, Recipe]:
        """What makes the rest of a recipe, once it trains and resizes no more."""
        trained, rest = split_steps(recipe)
        if trained:
            return self.after(trained), Recipe(steps=rest)
        if not rest or rest[0].name != RESIZE:
            return self, recipe
        first, context = Recipe(steps=rest[:1]), self._context
        view = view_of(first, self._graph.inputs)
        seen = replace(context, calibration=view.samples(context.calibration))
        key = self.key(steps=[_plain(rest[0])])
        maker = self._then(key, lambda: apply_steps(self._graph, first, context), seen)
        return maker, Recipe(steps=rest[1:])

    def _then(
        self, key: dict[str, object], make: Callable[[], Graph], context: StepContext
    ) -> Maker:
        """What makes candidates of a model that this one's has become."""
        mark = repr(key)
        if mark not in self._after:
            folder = self._workshop.folder / f"begun-{len(self._after)}"
            folder.mkdir(exist_ok=True)
            model = self._workshop.cache.model(
                key, lambda where: write_graph(make(), where), folder / "begun.onnx"
            )
            workshop = replace(self._workshop, folder=folder, trainer=None)
            self._after[mark] = Maker(model, read_graph(model.path), context, workshop)
        return self._after[mark]

    def measured(self, step: Quantize) -> Measured:
        """Calibrate for a step, unless a step before needed the same.

        Ranges of a wider choice of operators would do but for the last bit: a runtime
        that is watched in more places fuses less, and the recipe must give the same
        bytes.
        """
        whole = replace(step, keep_float=())
        is_plain = step.rounding == "nearest" and not step.correct_bias
        if is_plain and step.equalize == "none" and not step.smooth:
            # These two have no part in the ranges then.
            whole = replace(whole, per_channel=True, weight_method="minmax")
        if whole not in self._measures:
            self._measures[whole] = self._measure(whole)
        return self._measures[whole]

    def sample_notes(self) -> tuple[str, ...]:
        """What the first calibration said of its samples; empty if there was none."""
        if self._notes is None:
            known = self._workshop.cache.get("samples", self._notes_key)
            if known is not None:
                with suppress(msgspec.DecodeError):
                    return msgspec.json.decode(known, type=tuple[str, ...])
        return self._notes or ()

    def equalized(self, step: Quantize) -> Graph:
        """The graph whose channels are equalized as a step wants it."""
        key = (step.equalize, step.per_channel, step.smooth)
        if key not in self._equalized:
            self._equalized[key] = step.equalized(self.prepared, self._context)
        return self._equalized[key]

    def _apply(self, recipe: Recipe) -> Graph:
        step = quantize_step(recipe)
        if step is not None and len(recipe.steps) == 1:
            measured = self.measured(step)
            return step.write(
                self.equalized(step), measured.ranges, measured.shifts, measured.codes
            )
        return apply_steps(self._graph, recipe, self._context)

    def _measure(self, whole: Quantize) -> Measured:
        cache, key = self._workshop.cache, self.key(measured=_plain(whole.spec()))
        known = cache.get("measured", key)
        found = None if known is None else decode_measured(known)
        if found is None:
            found = whole.measure(self.equalized(whole), self._context)
            cache.put("measured", key, encode_measured(found))
        if self._notes is None:
            # A later search that finds its candidates ready calibrates none.
            self._notes = found.notes
            kept = msgspec.json.encode(found.notes)
            cache.put("samples", self._notes_key, kept)
        return found

    @property
    def _notes_key(self) -> dict[str, object]:
        return self.key(notes="samples")

    def key(self, **more: object) -> dict[str, object]:
        """What a measurement of this model on these samples depends on."""
        runtime = self._context.runtime
        return {
            "source": self.source,
            "samples": self._samples,
            "threads": self._context.threads,
            "versions": versions(**{runtime.name: runtime.version}),
            **more,
        }


def _plain(step: StepSpec) -> dict[str, object]:
    return {"step": step.name, **step.params}
