from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skerry.compress.ptq.quantize import ACCURATE, Quantize
from skerry.compress.search import choose as order
from skerry.compress.search import trials as module
from skerry.compress.search.alone import LossAlone
from skerry.compress.search.cache import Cache
from skerry.compress.search.candidates import Choice
from skerry.compress.search.choose import PLAIN, WEIGHTS, choose
from skerry.compress.search.request import Search
from skerry.compress.search.scoring import Seen
from skerry.compress.search.trials import NOT_SURE
from skerry.core.budget import Budget
from skerry.core.errors import ModelError
from skerry.core.seams import Runtime
from skerry.runtimes import get_runtime
from skerry.runtimes.null import NullRuntime

BUDGET = Budget(accuracy_drop=0.25)

FixLatency = Callable[[dict[str, float]], None]
SearchFor = Callable[..., Choice]


class Doubtful(float):
    """A loss that may be chance."""


class Scripted:
    """A scorer that gives the losses that a test says, in order."""

    limit = 0.25
    allowed = 0.25

    def __init__(self, drops: Iterator[float]) -> None:
        self._drops = drops
        self.titles: list[str] = []

    def source_accuracy(self) -> float:
        """What the source scores."""
        return 0.75

    def score(
        self,
        _model: object,
        _place: object,
        *,
        title: str,
        rival_drop: float | None = None,
        view: object = None,
    ) -> Seen:
        """The next loss."""
        assert rival_drop is None
        assert view is not None
        self.titles.append(title)
        drop = next(self._drops)
        return Seen(
            accuracy=0.75 - drop,
            drop=float(drop),
            seen=9,
            total=9,
            holds=drop <= self.limit,
            at_worst=1.0 if isinstance(drop, Doubtful) else float(drop),
        )

    def say(self, seen: Seen) -> str:
        """What the report says of a loss."""
        return "" if seen.holds else "refused: loses too much"


@pytest.fixture
def ask(workplace: Any, runtime: Runtime) -> Callable[..., Search]:
    """A search on the small classifier."""

    def make(**changes: Any) -> Search:
        given: dict[str, Any] = {
            "calibration": workplace.calibration,
            "selection": workplace.selection,
            "task": workplace.task,
            "runtime": runtime,
            "budget": BUDGET,
        }
        return Search(**(given | changes))

    return make


@pytest.fixture
def search_for(
    workplace: Any, ask: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> SearchFor:
    """Search where the candidates that are scored lose what a test says, in order."""

    def search(drops: list[float], **changes: Any) -> Choice:
        scorer = Scripted(iter(drops))
        # The script is of integers alone.
        monkeypatch.setattr(order, "HALVES", {})
        monkeypatch.setattr(module, "LabelledScorer", lambda *_, **__: scorer)
        return choose(
            workplace.model, workplace.graph, ask(**changes), workplace.folder
        )

    return search


@pytest.mark.parametrize(("fastest", "time"), [(0, 0.4), (1, 0.5), (2, 0.7)])
def test_the_fastest_of_those_that_hold_is_chosen(
    fastest: int, time: float, search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """Where everything holds, latency decides, and nothing else is tried."""
    fixed_latency({str(fastest): time})
    choice = search_for([0.0] * 9)
    assert choice.chosen is choice.candidates[fastest]
    assert choice.chosen.latency is not None
    assert choice.chosen.latency.median == time
    assert choice.sensitivity == {}
    attempts = choice.attempts()
    assert [one.chosen for one in attempts].index(True) == fastest + 1
    assert attempts[0].accuracy == 0.75
    assert attempts[fastest + 1].latency_ratio == time


def test_what_cannot_be_chosen_is_not_scored(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """Slower than the source, or than one that holds: no score would change that."""
    fixed_latency({"0": 1.5, "1": 0.4, "2": 0.9})
    choice = search_for([0.0])
    assert choice.chosen is choice.candidates[1]
    assert [one.refusal for one in choice.candidates[:3]] == [
        "refused: 1.50 × the source's time",
        "",
        "not scored: slower than one that holds",
    ]
    assert choice.candidates[0].accuracy is None


def test_a_slower_model_is_not_returned(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """Where integers are slower everywhere, the source is the answer, and that is said.

    Whoever asks for size gets the smallest all the same, if it is smaller at all.
    """
    slow = {str(number): 1.5 for number in range(30)}
    fixed_latency(slow)
    choice = search_for([])
    assert choice.chosen is None
    assert {one.refusal for one in choice.candidates} == {
        "refused: 1.50 × the source's time"
    }
    fixed_latency(slow)
    sized = search_for([0.0] * 9, prefer="size", budget=Budget(size_bytes=10**5))
    assert not any(one.refusal for one in sized.candidates[:3])


def test_what_loses_too_much_is_refused_however_fast(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """A candidate beyond the budget is not chosen."""
    fixed_latency({"0": 0.1, "1": 0.1, "2": 0.9})
    choice = search_for([0.5, 0.5, 0.0])
    assert choice.chosen is choice.candidates[2]
    assert [one.note for one in choice.attempts()][:4] == [
        "",
        "refused: loses too much",
        "refused: loses too much",
        "",
    ]


def titled(choice: Choice) -> str:
    """What was chosen."""
    return "" if choice.chosen is None else choice.chosen.title


def test_methods_are_tried_in_turn(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """The most accurate step first, then other ranges, then the graph as it was."""
    fixed_latency({})
    choice = search_for([1, 1, 1, 1, 0.0])
    first = len(PLAIN)
    steps = [one.step for one in choice.candidates[first : first + len(WEIGHTS)]]
    assert steps == [ACCURATE, replace(ACCURATE, method="minmax"), Quantize()]
    assert choice.chosen is choice.candidates[first + 2]


def test_more_in_integers_where_weights_alone_are_slow(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """Slower than the source: what a runtime fuses is tried, other ranges are not."""
    fixed_latency({"2": 1.3, "3": 0.5})
    choice = search_for([1, 1, 0.0])
    assert choice.candidates[2].step == ACCURATE
    assert choice.chosen is choice.candidates[3]
    assert choice.chosen.step == replace(ACCURATE, operators="fused")


def test_more_in_integers_where_few_samples_leave_no_doubt(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """What is sure makes room for more; what may be luck is taken as it is."""
    fixed_latency({"2": 0.8, "3": 0.5})
    assert titled(search_for([1, 1, 0.0, 0.1])) == "fused operators, mse"
    fixed_latency({"2": 0.8, "3": 0.5})
    lucky = search_for([1, 1, Doubtful(0.0), 0.0])
    assert lucky.chosen is lucky.candidates[2]
    assert "too few to be sure" in " ".join(lucky.notes)
    fixed_latency({"2": 0.8, "3": 0.5})
    second = search_for([1, 1, 0.0, Doubtful(0.1)])
    assert second.chosen is second.candidates[2]


def test_plain_integers_do_not_win_by_luck(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """However fast: what has weights is tried all the same, and taken."""
    fixed_latency({"0": 0.3, "1": 0.3, "2": 0.8})
    choice = search_for([Doubtful(0.0), Doubtful(0.0), Doubtful(0.1)])
    assert [one.refusal for one in choice.candidates[:3]] == [NOT_SURE, NOT_SURE, ""]
    assert choice.chosen is choice.candidates[2]


def test_operators_are_put_back_until_it_holds(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """Those worth most stay float, by the method that lost least."""
    fixed_latency({})
    choice = search_for([1, 1, 0.4, 0.6, 0.5, 0.5, 0.0, 1, 1])
    held = choice.candidates[6]
    assert choice.chosen is held
    assert held.step is not None
    assert set("abcd") <= set(choice.sensitivity)
    kept = held.step.keep_float
    assert held.step == replace(ACCURATE, keep_float=kept)
    assert len(kept) == 2
    assert choice.attempts()[7].kept_float == 2
    (first,) = choice.candidates[5].step.keep_float  # type: ignore[union-attr]
    assert first in kept


def test_what_the_metric_loses_most_by_goes_back_first(
    search_for: SearchFor,
    fixed_latency: FixLatency,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of those that move outputs most, the one that costs answers; a broken one too."""
    fixed_latency({})
    judged: list[str] = []

    def measure(_self: object, _make: object, title: str) -> float:
        judged.append(title)
        if len(judged) == 2:
            raise ModelError("it gives NaN", hint="Leave it.")
        return 0.0

    monkeypatch.setattr(LossAlone, "measure", measure)
    choice = search_for([1, 1, 0.4, 0.6, 0.5, 0.5, 0.0, 1, 1])
    assert choice.candidates[5].step is not None
    worst, _, _ = judged[1].rpartition(" alone")
    assert choice.candidates[5].step.keep_float == (worst,)


def test_what_is_needless_in_float_is_quantized_again(
    search_for: SearchFor,
    fixed_latency: FixLatency,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once two hold together, each is tried alone where that saves time."""
    fixed_latency({str(number): 0.9 - number / 20 for number in range(20)})
    monkeypatch.setattr(
        "skerry.compress.search.choose.saved_ms", lambda *_: dict.fromkeys("abcd", 1e9)
    )
    choice = search_for([1, 1, 1, 1, 1, 1, 0.0, 0.0, 1])
    assert choice.chosen is not None
    assert choice.chosen.step is not None
    assert len(choice.chosen.step.keep_float) == 1


def test_nothing_is_chosen_where_nothing_holds(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """At most half of the operators are put back; then the source is the answer."""
    fixed_latency({})
    choice = search_for([0.9] * 4 + [0.6] + [0.9] * 9)
    assert choice.chosen is None
    kept = [len(one.step.keep_float) for one in choice.candidates[5:] if one.step]
    assert kept == [1, 2]
    assert choice.attempts()[0].chosen
    note = choice.notes[-1]
    assert "What came closest is 'operators with weights, minmax, as they are'" in note
    assert "it loses 0.6" in note


def test_the_budget_of_size_is_kept(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """A file that is too large is refused, and the reason says so."""
    fixed_latency({})
    choice = search_for([0.0] * 20, budget=Budget(size_bytes=10))
    assert choice.chosen is None
    assert {one.refusal for one in choice.candidates} == {"refused: too large"}
    roomy = search_for([0.0] * 20, budget=Budget(size_bytes=10**6))
    assert roomy.chosen is not None


def test_another_runtime_is_told_of_and_chosen_only_if_allowed(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """The source and the choice are tried there; `any` lets one of them win."""
    times = {str(number): 0.9 for number in range(30)}
    other = get_runtime("openvino")
    for is_any in (False, True):
        fixed_latency(times)
        count = len(search_for([0.0] * 9).candidates)
        fixed_latency(times | {str(count): 0.3, str(count + 1): 0.5})
        choice = search_for([0.0] * 9, others=(other,), is_any_runtime=is_any)
        elsewhere = choice.candidates[count]
        assert elsewhere.title == "source model on openvino"
        assert elsewhere.runtime == "openvino"
        assert (choice.chosen is elsewhere) is is_any
        assert choice.candidates[count + 1].refusal
        titles = [one.title for one in choice.candidates[count + 2 :]]
        assert titles[:1] == (["fused operators, mse, for openvino"] if is_any else [])
        if not is_any:
            assert "takes 0.30 × of the source's time" in " ".join(choice.notes)


@pytest.mark.parametrize(("share", "is_scored"), [(0.9, False), (0.75, True)])
def test_what_integers_slow_down_may_stay_float(
    share: float,
    *,
    is_scored: bool,
    search_for: SearchFor,
    fixed_latency: FixLatency,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of four: taken where a quarter is allowed, else timed and told of."""
    slow = {"a": 1.0, "b": -1e9, "c": 1.0, "d": 1.0}
    fixed_latency({"3": 0.5})
    monkeypatch.setattr("skerry.compress.search.choose.saved_ms", lambda *_: slow)
    choice = search_for([1, 1, 0.0, 0.0], integer_share=share)
    found = choice.candidates[3]
    assert found.step is not None
    assert found.step.keep_float == ("b",)
    assert (choice.chosen is found) is is_scored
    assert any("--integer-share 0" in note for note in choice.notes) is not is_scored


def test_a_runtime_that_is_missing_is_listed(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """As an attempt that says how to install it."""
    fixed_latency({})
    choice = search_for([0.0] * 9, missing={"odd": "not tried: pip install odd"})
    last = choice.attempts()[-1]
    assert (last.runtime, last.note) == ("odd", "not tried: pip install odd")


def test_a_runtime_that_refuses_is_only_refused(
    search_for: SearchFor, fixed_latency: FixLatency
) -> None:
    """What another runtime cannot load is told; the search goes on."""

    class Refusing(NullRuntime):
        name = "refusing"

    def refuse(*_: object) -> None:
        raise module.ModelError("no kernel", hint="")

    fixed_latency({})
    refusing = Refusing()
    refusing.load = refuse  # type: ignore[method-assign,assignment]
    choice = search_for([0.0] * 9, others=(refusing,))
    assert choice.chosen is not None


def test_a_measured_search(
    workplace: Any, ask: Callable[..., Search], fixed_latency: FixLatency
) -> None:
    """Without scripts: a net that bears quantization is quantized, with progress."""
    fixed_latency({"1": 0.5})
    told: list[str] = []
    choice = choose(
        workplace.model,
        workplace.graph,
        ask(
            budget=Budget(accuracy_drop=1),
            progress=lambda what, _done, _total: told.append(what),
        ),
        workplace.folder,
    )
    assert choice.baseline == 1
    chosen = choice.chosen
    assert chosen is choice.candidates[1]
    assert chosen.accuracy is not None
    assert chosen.accuracy >= 0.5
    assert chosen.size_bytes == len(chosen.read().to_bytes())
    assert {"calibrate", "try: source"} < set(told)


def test_without_labels_outputs_decide(
    workplace: Any,
    ask: Callable[..., Search],
    fixed_latency: FixLatency,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The report says what was allowed, and no accuracy is made up."""
    fixed_latency({})
    monkeypatch.setattr(order, "HALVES", {})
    choice = choose(
        workplace.model, workplace.graph, ask(task=None, distance=0.5), workplace.folder
    )
    assert choice.chosen is not None
    assert choice.baseline is None
    assert choice.chosen.accuracy is None
    assert 0 < (choice.chosen.drop or 0) < 0.5
    assert "There are no labels" in choice.notes[0]
    strict = choose(
        workplace.model, workplace.graph, ask(task=None, distance=0), workplace.folder
    )
    assert strict.chosen is None


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folder of a cache."""
    return tmp_path / "cache"


def test_a_second_search_measures_nothing_again(
    workplace: Any,
    ask: Callable[..., Search],
    *,
    kept: Path,
    fixed_latency: FixLatency,
) -> None:
    """All of it comes from the cache: one pass each tells that samples are the same."""
    fixed_latency({"1": 0.5})
    first = Cache(kept)
    before = choose(
        workplace.model, workplace.graph, ask(cache=first), workplace.folder
    )
    assert first.hits < first.misses
    workplace.calibration.passes.clear()
    workplace.selection.passes.clear()
    second = Cache(kept)
    after = choose(
        workplace.model, workplace.graph, ask(cache=second), workplace.folder
    )
    assert second.misses == 0
    assert 0 < second.hits <= first.misses
    assert workplace.selection.passes == [10]
    assert after.attempts() == before.attempts()
    assert (after.chosen is None) == (before.chosen is None)


def test_an_interrupted_search_goes_on_where_it_was(
    workplace: Any,
    ask: Callable[..., Search],
    *,
    kept: Path,
    fixed_latency: FixLatency,
) -> None:
    """Ctrl-C at any time leaves a cache from which the same result comes."""
    fixed_latency({})
    expected = choose(workplace.model, workplace.graph, ask(), workplace.folder)
    for stop in (5, 20, 40):
        calls = iter(range(stop))

        def told(*_: object, calls: Iterator[int] = calls) -> None:
            if next(calls, None) is None:
                raise KeyboardInterrupt

        fixed_latency({})
        with pytest.raises(KeyboardInterrupt):
            choose(
                workplace.model,
                workplace.graph,
                ask(cache=Cache(kept), progress=told),
                workplace.folder,
            )
    files = sorted(path.suffix for path in kept.iterdir())
    assert ".measured" in files
    assert not [suffix for suffix in files if "tmp" in suffix]
    fixed_latency({})
    found = choose(
        workplace.model, workplace.graph, ask(cache=Cache(kept)), workplace.folder
    )
    assert [one.accuracy for one in found.candidates] == [
        one.accuracy for one in expected.candidates
    ]


def test_garbage_in_the_cache_changes_nothing(
    workplace: Any,
    ask: Callable[..., Search],
    *,
    kept: Path,
    fixed_latency: FixLatency,
) -> None:
    """Each entry is damaged; everything is made anew."""
    fixed_latency({"1": 0.5})
    first = Cache(kept)
    before = choose(
        workplace.model, workplace.graph, ask(cache=first), workplace.folder
    )
    for path in kept.iterdir():
        path.write_bytes(path.read_bytes()[:-3] + b"odd")
    fixed_latency({"1": 0.5})
    cache = Cache(kept)
    after = choose(workplace.model, workplace.graph, ask(cache=cache), workplace.folder)
    assert cache.hits == first.hits
    assert after.attempts() == before.attempts()
