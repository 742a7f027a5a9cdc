"""What is broken never passes, whatever the limit; the others go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from skerry.compress.search import choose as choosing
from skerry.compress.search.candidates import Choice
from skerry.compress.search.choose import choose
from skerry.compress.search.request import Search
from skerry.core.budget import Budget
from skerry.core.errors import DataError, RuntimeFailure
from skerry.core.model import Model
from skerry.core.seams import Array, LoadOptions, Runtime, Session, Tensors

FixLatency = Callable[[dict[str, float]], None]
Spoil = Callable[[Tensors, dict[str, Array]], dict[str, Array]]

CANDIDATE = "candidate-"
"""How the files of candidates begin."""


def crash(*_: object) -> Any:
    """Fail as a runtime does."""
    raise RuntimeFailure("kernel not implemented", hint="")


def with_nan(_: Tensors, outputs: dict[str, Array]) -> dict[str, Array]:
    """NaN everywhere."""
    return {name: array * np.nan for name, array in outputs.items()}


def constant(_: Tensors, outputs: dict[str, Array]) -> dict[str, Array]:
    """The same answer whatever is asked."""
    return {name: np.ones_like(array) for name, array in outputs.items()}


def garbage(inputs: Tensors, outputs: dict[str, Array]) -> dict[str, Array]:
    """Numbers that have nothing to do with the question."""
    seed = int(abs(float(inputs["x"].sum())) * 1e4)
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=array.shape).astype(np.float32)
        for name, array in outputs.items()
    }


def of_a_kind(inputs: Tensors) -> bool:
    """Whether an input is of one kind: some samples are, most are not."""
    return bool(inputs["x"].flat[0] > 1)


def one_kind_wrong(inputs: Tensors, outputs: dict[str, Array]) -> dict[str, Array]:
    """Inputs of one kind are taken for another class."""
    (scores,) = outputs.values()
    return {"y": np.roll(scores, 1, axis=-1)} if of_a_kind(inputs) else outputs


def nan_at_times(inputs: Tensors, outputs: dict[str, Array]) -> dict[str, Array]:
    """NaN on the inputs of one kind alone."""
    return with_nan(inputs, outputs) if of_a_kind(inputs) else outputs


@dataclass
class SpoiltSession:
    """A session whose outputs are spoilt."""

    inner: Session
    spoil: Spoil

    @property
    def inputs(self) -> Any:
        """Of the session."""
        return self.inner.inputs

    @property
    def outputs(self) -> Any:
        """Of the session."""
        return self.inner.outputs

    def run(self, inputs: Tensors) -> dict[str, Array]:
        """Run and spoil."""
        return self.spoil(inputs, self.inner.run(inputs))

    def close(self) -> None:
        """Close the session."""
        self.inner.close()


@dataclass
class Spoiling:
    """onnxruntime, but that it spoils some of the candidates."""

    inner: Runtime
    numbers: frozenset[int]
    spoil: Spoil
    when: str = "run"
    loaded: set[str] = field(default_factory=set)
    name: str = "onnxruntime"
    version: str = "0"

    def load(self, model: Model, options: LoadOptions) -> Session:
        """Load a model; spoilt if it is one of those."""
        stem = model.path.stem
        session = self.inner.load(model, options)
        number = stem.removeprefix(CANDIDATE)
        if not stem.startswith(CANDIDATE) or int(number) not in self.numbers:
            return session
        self.loaded.add(stem)
        if self.when == "load":
            crash()
        return SpoiltSession(session, self.spoil)

    def profile(self, *args: Any, **options: Any) -> Any:
        """Measure operators, or fail at that."""
        if self.when == "profile":
            crash()
        return self.inner.profile(*args, **options)


@pytest.fixture
def searched(
    workplace: Any,
    runtime: Runtime,
    fixed_latency: FixLatency,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[Choice, Spoiling]]:
    """Search where the candidates of these numbers are spoilt, each the fastest."""
    monkeypatch.setattr(choosing, "names", lambda _: ())

    def search(
        spoil: Spoil, numbers: set[int], *, when: str = "run", **changes: Any
    ) -> tuple[Choice, Spoiling]:
        fixed_latency({str(number - 1): 0.1 for number in numbers})
        spoiling = Spoiling(runtime, frozenset(numbers), spoil, when)
        given: dict[str, Any] = {
            "calibration": workplace.calibration,
            "selection": workplace.selection,
            "task": workplace.task,
            "runtime": spoiling,
            "budget": Budget(accuracy_drop=0.5),
        }
        asked = Search(**(given | changes))
        return choose(
            workplace.model, workplace.graph, asked, workplace.folder
        ), spoiling

    return search


SPOILT: tuple[tuple[Spoil, str, str], ...] = (
    (with_nan, "run", "NaN or infinite on"),
    (nan_at_times, "run", "NaN or infinite on"),
    (constant, "run", "the outputs are the same for all of"),
    (crash, "run", "kernel not implemented"),
    (crash, "load", "kernel not implemented"),
)


@pytest.mark.parametrize(("spoil", "when", "said"), SPOILT)
@pytest.mark.parametrize("budget", [Budget(accuracy_drop=0.5), Budget()])
def test_what_is_broken_is_refused_whatever_the_budget(
    spoil: Spoil,
    when: str,
    said: str,
    budget: Budget,
    searched: Callable[..., tuple[Choice, Spoiling]],
) -> None:
    """The fastest one is broken: it is refused with its reason, another is chosen."""
    choice, spoiling = searched(spoil, {1}, when=when, budget=budget)
    assert spoiling.loaded == {"candidate-1"}
    broken, *others = choice.candidates
    assert broken.refusal.startswith("refused: ")
    assert said in broken.refusal
    assert broken.accuracy is None
    assert choice.chosen is not None
    assert choice.chosen in others
    assert len(others) >= 2


@pytest.mark.parametrize(("spoil", "when", "said"), [*SPOILT, (garbage, "run", "")])
def test_without_labels_what_is_broken_is_refused_too(
    spoil: Spoil,
    when: str,
    said: str,
    searched: Callable[..., tuple[Choice, Spoiling]],
) -> None:
    """Any distance is allowed, but not such outputs."""
    distance = 0.5 if spoil is garbage else 1e9
    choice, _ = searched(spoil, {1}, when=when, task=None, distance=distance)
    broken = choice.candidates[0]
    assert broken.refusal.startswith("refused")
    assert said in broken.refusal
    assert choice.chosen is not broken


def test_what_is_wrong_on_one_kind_of_samples_is_refused(
    workplace: Any, searched: Callable[..., tuple[Choice, Spoiling]]
) -> None:
    """That it is right on all others is no help."""
    wrong = sum(of_a_kind(one.inputs) for one in workplace.selection.samples)
    assert 0 < wrong <= len(workplace.selection) / 2
    choice, _ = searched(one_kind_wrong, {1}, budget=Budget(accuracy_drop=0.1))
    assert "loses too much" in choice.candidates[0].refusal
    assert choice.chosen is not choice.candidates[0]


def test_where_all_are_broken_the_source_is_the_answer(
    searched: Callable[..., tuple[Choice, Spoiling]],
) -> None:
    """Nothing is chosen, and each refusal is told."""
    choice, _ = searched(with_nan, set(range(1, 40)), budget=Budget())
    assert choice.chosen is None
    assert all(one.refusal for one in choice.candidates)
    assert choice.attempts()[0].chosen
    assert "closest" not in " ".join(choice.notes)


def test_a_profiler_that_fails_does_not_end_the_search(
    searched: Callable[..., tuple[Choice, Spoiling]],
) -> None:
    """Which operators are slow is not known then; one is chosen all the same."""
    choice, _ = searched(with_nan, set(), when="profile")
    assert choice.chosen is not None


def test_a_constant_source_is_no_fault_of_its_candidates(
    workplace: Any, searched: Callable[..., tuple[Choice, Spoiling]]
) -> None:
    """Where the samples do not differ, neither do the outputs."""
    one = workplace.selection.samples[0]
    same = replace(workplace.selection, samples=(one,) * 10)
    choice, _ = searched(with_nan, set(), selection=same)
    assert choice.chosen is not None


def test_nan_of_the_source_is_named(
    workplace: Any, searched: Callable[..., tuple[Choice, Spoiling]]
) -> None:
    """Without labels nothing can be compared with it."""
    large = tuple(
        replace(one, inputs={"x": one.inputs["x"] * np.float32(1e38)})
        for one in workplace.selection.samples
    )
    selection = replace(workplace.selection, samples=large)
    with pytest.raises(DataError, match="gives NaN or infinity for s0"):
        searched(with_nan, set(), task=None, selection=selection)
