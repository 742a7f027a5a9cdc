"""Find, by measurement, the best way to make a model faster or smaller.

Candidates are tried on the selection half of the evaluation data: plain quantization
of everything, then of the operators with weights, by each way of choosing ranges.
Where none holds the budget, the operators that hurt most are put back to float, until
one does. Weights stored in half, and other runtimes, are candidates too. Each is timed
first, which costs little; one that could not be chosen is not scored at all, and one
that loses too much no longer than it takes to see that. The figures of what is
returned come from the report half, which nothing here has looked at before.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path

from skerry.compress.ptq.operators import weight
from skerry.compress.ptq.patterns import PATTERNS
from skerry.compress.ptq.quantize import ACCURATE, Quantize
from skerry.compress.search.alone import MOST_JUDGED, LossAlone, only
from skerry.compress.search.candidates import Candidate, Choice, recipe_of
from skerry.compress.search.effects import saved_ms
from skerry.compress.search.mixed import (
    order_by_effect,
    slower_in_integers,
    smallest_set,
)
from skerry.compress.search.ranking import Standing, best
from skerry.compress.search.request import Search
from skerry.compress.search.scoring import Place
from skerry.compress.search.timing import TIE
from skerry.compress.search.trials import TOO_FEW_INTEGERS, Trials
from skerry.core.errors import ModelError, RuntimeFailure
from skerry.core.model import Model
from skerry.core.plugins import STEPS as REGISTERED
from skerry.core.plugins import names
from skerry.core.profile import Profile
from skerry.core.recipe import Recipe, StepSpec
from skerry.core.seams import LoadOptions, Runtime
from skerry.graph import Graph, Node, write_graph

PROFILE_REPEATS = 5

ROUNDING = 1e-9
"""A tenth of ten operators is one, however 1 - 0.9 is rounded."""

PLAIN: Mapping[str, Quantize] = {
    "plain INT8: every operator, MinMax, per tensor": Quantize(
        operators="all", per_channel=False
    ),
    "plain INT8: every operator, MinMax, per channel": Quantize(operators="all"),
}
"""What quantizers do unless told otherwise, by title."""

WEIGHTS: Mapping[str, Quantize] = {
    "operators with weights, mse": ACCURATE,
    "operators with weights, minmax": replace(ACCURATE, method="minmax"),
    "operators with weights, minmax, as they are": Quantize(),
}
FUSED: Mapping[str, Quantize] = {
    "fused operators, mse": replace(ACCURATE, operators="fused"),
    "fused operators, minmax": replace(ACCURATE, operators="fused", method="minmax"),
}
"""Ways of quantizing what has weights, and what a runtime computes faster in integers
as well, by title, in the order of trial. All but the last with weights equalize
channels, choose ranges of weights and correct what rounding does: that costs nothing
when the model runs."""

HALF = "half"
HALVES: Mapping[str, str] = {
    "weights stored in float16": "float16",
    "weights stored in bfloat16": "bfloat16",
}
"""Ways of storing weights in half the bytes, by title, in the order of trial."""


def choose(source: Model, graph: Graph, search: Search, folder: Path) -> Choice:
    """Search for the best candidate that holds the budget.

    Args:
        source: The float model's file.
        graph: The same model, read.
        search: Data, task, runtime and budget.
        folder: Where the candidates' files go; it exists.

    Raises:
        DataError: Samples do not fit the model or the task.
        ModelError: The graph cannot be quantized.
        RuntimeFailure: The runtime cannot run it.
    """
    return _Order(Trials(source, graph, search, folder)).run()


class _Order:
    """Decides what is tried after what."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self._search = trials.search
        self._sensitivity: Mapping[str, float] = {}

    def run(self) -> Choice:
        """Try quantizations, weights in half, other runtimes; choose."""
        # What cannot be quantized is refused before anything is measured.
        prepared = self._trials.maker.prepared
        baseline = self._trials.source_accuracy()
        for title, step in PLAIN.items():
            # It has most in integers: luck on few samples must not let it win.
            self._trials.attempt(title, recipe_of(step), must_be_sure=True)
        self._quantize()
        self._store_in_half()
        chosen = self._best()
        self._go_elsewhere(chosen)
        if self._search.is_any_runtime:
            chosen = self._best()
        return Choice(
            prepared=prepared,
            baseline=baseline,
            candidates=tuple(self._trials.candidates),
            chosen=chosen,
            sensitivity=self._sensitivity,
            missing=self._search.missing,
            notes=tuple(self._notes(chosen)),
        )

    def _quantize(self) -> None:
        """Quantize what has weights; more where that is slow, or surely good."""
        found = self._in_turn(WEIGHTS)
        if (found.is_sure or _is_slow(found)) and self._search.runtime.name in PATTERNS:
            found = self._in_turn(FUSED, must_win=found.is_sure)
        if not _is_slow(found) and not self._trials.holding():
            self._put_back()

    def _in_turn(
        self, steps: Mapping[str, Quantize], *, must_win: bool = False
    ) -> Candidate:
        """Try ways of quantizing until one holds, or is too slow whatever it loses."""
        for title, general in steps.items():
            step = self._for_runtime(general)
            found = self._try(title, step, must_win=must_win)
            # Other ranges would be as slow.
            if _is_slow(found) or not found.refusal:
                self._free_the_slower(found, step)
                break
        return found

    def _for_runtime(self, step: Quantize) -> Quantize:
        """A step for the named runtime, as far as what it fuses is known."""
        name = self._search.runtime.name
        return replace(step, runtime=name) if name in PATTERNS else step

    def _try(self, title: str, step: Quantize, *, must_win: bool = False) -> Candidate:
        return self._trials.attempt(title, recipe_of(step), must_win=must_win)

    def _free_the_slower(self, found: Candidate, step: Quantize) -> None:
        """Leave in float what integers make slower, where that is worth a trial."""
        saved = self._saved(found, step)
        weights = self._weight_shares(saved)
        slower = slower_in_integers(saved, weights)
        allowed = self._allowed_in_float(slower, weights)
        for count in sorted({min(allowed, len(slower)), len(slower)} - {0}):
            kept = slower[:count]
            if -sum(saved[name] for name in kept) <= TIE:
                continue
            self._trials.attempt(
                f"{found.title}, {count} that integers slow down kept float",
                recipe_of(replace(step, keep_float=tuple(sorted(kept)))),
                must_win=True,
                is_only_timed=count > allowed,
            )

    def _allowed_in_float(
        self, slower: Sequence[str], weights: Mapping[str, float]
    ) -> int:
        """How many of the slower may stay float, those with weights being few."""
        layers = [name for name, share in weights.items() if share > 0]
        most = int(len(layers) * (1 - self._search.integer_share) + ROUNDING)
        counts = accumulate(name in layers for name in slower)
        return sum(count <= most for count in counts)

    def _weight_shares(self, nodes: Iterable[str]) -> dict[str, float]:
        """By operator, the share of the source's file that its weights are."""
        prepared, total = self._trials.maker.prepared, self._trials.source.size_bytes
        wanted = frozenset(nodes)
        return {
            node.name or "": _weight_bytes(prepared, node) / max(total, 1)
            for node in prepared.nodes
            if node.name in wanted
        }

    def _put_back(self) -> None:
        """Keep the operators that hurt most in float, as few as hold the budget."""
        first = self._closest()
        step = first.step
        if first.drop is None or step is None:
            return
        saved = self._saved(first, step)
        try:
            self._sensitivity = self._trials.sensitivity(step)
        except RuntimeFailure:
            # The runtime does not bear what it takes to tell: there is no order.
            return

        def holds(kept: frozenset[str]) -> bool:
            title = f"{first.title}, {len(kept)} kept float"
            candidate = replace(step, keep_float=tuple(sorted(kept)))
            return not self._try(title, candidate).refusal

        suspects = order_by_effect(self._sensitivity, saved)[:MOST_JUDGED]
        losses = self._lost_alone(step, suspects)
        order = order_by_effect(self._sensitivity, saved, losses)
        smallest_set(order, saved, holds)

    def _closest(self) -> Candidate:
        """The way of quantizing what has weights that loses least.

        Those refused early have seen fewer samples than the others, so the one that
        went furthest is taken, and the least loss among its like.
        """
        titled = {*WEIGHTS, *FUSED}
        return min(
            (one for one in self._trials.candidates if one.title in titled),
            key=lambda one: (-one.seen, float("inf") if one.drop is None else one.drop),
        )

    def _saved(self, found: Candidate, step: Quantize) -> dict[str, float]:
        """By operator, the share of the float model's time that its integers save."""
        model = found.model
        if model is None:
            return {}
        key = {**self._trials.latency_key(model), "saved": PROFILE_REPEATS}
        try:
            return self._trials.remembered(
                "saved", key, dict[str, float], lambda: self._measure_saved(model, step)
            )
        except RuntimeFailure:
            # It failed under the profiler, as one in a hundred runs may: nothing is
            # known of its operators, and the search goes on without.
            return {}

    def _measure_saved(self, quantized: Model, step: Quantize) -> dict[str, float]:
        prepared = self._trials.maker.prepared
        with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
            before = self._profile(write_graph(prepared, Path(folder) / "float.onnx"))
        after = self._profile(quantized)
        saved = saved_ms(prepared, self._trials.plan(step), before, after)
        total_ms = max(before.total_ms, 1e-9)
        return {name: time_ms / total_ms for name, time_ms in saved.items()}

    def _profile(self, model: Model) -> Profile:
        return self._search.runtime.profile(
            model, self._trials.sample, LoadOptions(threads=1), repeats=PROFILE_REPEATS
        )

    def _lost_alone(self, step: Quantize, suspects: Sequence[str]) -> dict[str, float]:
        """By suspect, what the metric loses when it alone is quantized."""
        trials, task = self._trials, self._search.task
        if task is None:
            return {}
        place = Place(runtime=self._search.runtime, threads=self._search.threads)
        scored = LossAlone(trials.source, place, self._search.selection, task)
        planned = list(self._trials.plan(step).nodes)
        losses: dict[str, float] = {}
        for name in suspects:
            recipe = only(step, name, planned)
            make = partial(trials.maker.make, recipe)
            try:
                losses[name] = trials.remembered(
                    "alone",
                    trials.alone_key(recipe),
                    float,
                    partial(scored.measure, make, f"{name} alone"),
                )
            except ModelError:  # broken by it: nothing is worse
                losses[name] = float("inf")
        return losses

    def _store_in_half(self) -> None:
        """Store weights in half the bytes; the second form where the first is wrong."""
        if HALF not in names(REGISTERED):
            return
        for title, dtype in HALVES.items():
            recipe = Recipe(steps=(StepSpec(name=HALF, params={"dtype": dtype}),))
            # Integers that hold are smaller: only who loses less may be preferred.
            found = self._trials.attempt(
                title, recipe, must_win=self._search.prefer != "accuracy"
            )
            if not found.refusal.startswith("refused"):
                return

    def _go_elsewhere(self, chosen: Candidate | None) -> None:
        """Try the source, and what is chosen so far, on other runtimes."""
        for runtime in self._search.others:
            self._trials.elsewhere(
                f"source model on {runtime.name}",
                Recipe(steps=()),
                runtime,
                model=self._trials.source,
            )
            if chosen is not None:
                self._trials.elsewhere(
                    f"{chosen.title}, on {runtime.name}",
                    chosen.recipe,
                    runtime,
                    model=chosen.model,
                )
            if self._search.is_any_runtime and runtime.name in PATTERNS:
                self._quantize_for(runtime)

    def _quantize_for(self, runtime: Runtime) -> None:
        """Quantize anew what another runtime fuses, which is seldom the same."""
        for title, general in FUSED.items():
            recipe = recipe_of(replace(general, runtime=runtime.name))
            found = self._trials.elsewhere(
                f"{title}, for {runtime.name}", recipe, runtime
            )
            if not found.refusal or _is_slow(found):
                return

    def _best(self) -> Candidate | None:
        """The best of those that hold, None where that is the source."""
        named = self._search.runtime.name
        rivals = [
            one
            for one in self._trials.holding()
            if one.runtime == named or self._search.is_any_runtime
        ]
        sure = self._best_of([one for one in rivals if one.is_sure])
        # Of those that few samples cannot tell apart, the first tried has least in
        # integers; what differs from it in what stays float alone has no more.
        first = next((one.step for one in rivals if one.step and not one.is_sure), None)
        return sure or self._best_of(
            [one for one in rivals if first is None or _is_like(one.step, first)]
        )

    def _best_of(self, rivals: Sequence[Candidate]) -> Candidate | None:
        trials, search = self._trials, self._search
        standings = [
            Standing(
                latency=one.latency.median if one.latency else 1.0,
                size_bytes=one.size_bytes or 0,
                drop=one.drop or 0.0,
            )
            for one in rivals
        ]
        source = Standing(latency=1.0, size_bytes=trials.source.size_bytes, drop=0.0)
        if not trials.source_fits and standings:
            # The source does not hold: any of those that do is better.
            source = replace(source, latency=float("inf"), size_bytes=1 << 62)
        index = best(standings, source, search.prefer)
        return None if index < 0 else rivals[index]

    def _notes(self, chosen: Candidate | None) -> Iterator[str]:
        search = self._search
        if search.task is None:
            yield (
                "There are no labels: what is allowed is that outputs move by "
                f"{search.distance:g} of their energy (mean relative squared error, "
                "against the source's); accuracy was not measured."
            )
        yield from self._trials.maker.sample_notes()
        if chosen is None:
            yield from self._why_none()
        elif not chosen.is_sure:
            yield (
                f"{chosen.seen} selection samples are too few to be sure that the "
                "loss is within what is allowed: give more."
            )
        yield from self._what_would_be_faster(chosen)

    def _what_would_be_faster(self, chosen: Candidate | None) -> Iterator[str]:
        search = self._search
        here = 1.0 if chosen is None or not chosen.latency else chosen.latency.median
        for one in self._trials.candidates:
            is_faster = one.latency and one.latency.median < here * (1 - TIE)
            if is_faster and one.refusal == TOO_FEW_INTEGERS and one.step is not None:
                yield (
                    f"With {len(one.step.keep_float)} operators in float that integers "
                    "slow down it would take "
                    f"{one.latency.median if one.latency else 1:.2f} × of the source's "
                    "time: --integer-share 0 allows that."
                )
            if one.runtime != search.runtime.name and is_faster and not one.refusal:
                yield (
                    f"On {one.runtime} the {_which(one)} takes "
                    f"{one.latency.median if one.latency else 1:.2f} × of the source's "
                    f"time on {search.runtime.name}: --runtime any allows that."
                )

    def _why_none(self) -> Iterator[str]:
        if self._trials.holding():
            yield (
                "What holds the budget is neither faster nor smaller enough to be "
                "worth it: the source model is returned."
            )
            return
        tried = [
            one
            for one in self._trials.candidates
            if one.drop is not None and math.isfinite(one.drop)
        ]
        if not tried:
            return
        full = max(one.seen for one in tried)
        close = min(
            (one for one in tried if one.seen == full), key=lambda one: one.drop or 0.0
        )
        yield (
            f"What came closest is {close.title!r}: it loses {close.drop or 0:.4g} on "
            f"{close.seen} samples. Allow more, give more calibration samples, or "
            "train the model with quantization in the loop."
        )


def _weight_bytes(graph: Graph, node: Node) -> int:
    value = weight(graph, node)
    array = None if value is None else graph.constant(value)
    return 0 if array is None else array.nbytes


def _is_slow(found: Candidate) -> bool:
    """Whether a candidate was timed, and not scored for its time."""
    return found.latency is not None and found.drop is None


def _is_like(step: Quantize | None, other: Quantize) -> bool:
    """Whether two steps differ in what stays float alone."""
    return step is not None and replace(step, keep_float=()) == replace(
        other, keep_float=()
    )


def _which(candidate: Candidate) -> str:
    return "compressed model" if candidate.recipe.steps else "source model"
