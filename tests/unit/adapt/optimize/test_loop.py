from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from skerry.adapt.optimize import Deployment, Kind, Optimized, Remedy, optimize
from skerry.adapt.optimize.timing import in_turns
from skerry.adapt.optimize.validate import Verdict
from skerry.core.clock import FakeClock
from skerry.core.errors import ModelError
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.profile import Profile
from skerry.core.seams import LoadOptions, Session, Tensors
from skerry.runtimes.null import NullRuntime

SPEC = TensorSpec(name="x", dtype="float32", shape=(1,))
INPUTS = ({"x": np.zeros(1, np.float32)},)


class TimedRuntime(NullRuntime):
    """One whose inferences take what the threads and the file's name say."""

    def __init__(self, name: str, clock: FakeClock, takes_s: float) -> None:
        super().__init__()
        self.name = name  # type: ignore[misc]
        self._clock = clock
        self._takes_s = takes_s

    def load(self, model: Model, options: LoadOptions) -> Session:
        """Load a model that takes its time."""
        session = super().load(model, options)
        takes_s = self._takes_s / options.threads
        if "quick" in model.path.name:
            takes_s *= 0.9
        run = session.run

        def timed(inputs: Tensors) -> dict[str, np.ndarray]:
            self._clock.advance(wall_s=takes_s)
            return run(inputs)

        session.run = timed  # type: ignore[method-assign]
        return session


@pytest.fixture
def clock() -> FakeClock:
    """A clock that only inferences move."""
    return FakeClock()


@pytest.fixture
def start(tmp_path: Path, clock: FakeClock) -> Deployment:
    """A model that takes 10 ms."""
    return Deployment(
        model=model(tmp_path / "m.onnx"), runtime=TimedRuntime("usual", clock, 0.01)
    )


def model(path: Path) -> Model:
    """A file that nothing reads."""
    path.write_bytes(b"m")
    return Model(
        path=path,
        format=ModelFormat.ONNX,
        inputs=(SPEC,),
        outputs=(SPEC,),
        sha256="",
        size_bytes=1,
    )


def remedy(name: str, expected: float, **changes: object) -> Remedy:
    """One that changes some fields of a deployment."""
    return Remedy(
        name=name,
        kind=Kind.RUNTIME,
        why="it says so",
        expected=expected,
        change=partial(replace, **changes),
    )


def run(
    start: Deployment,
    clock: FakeClock,
    remedies: Sequence[Remedy],
    *,
    wrong: frozenset[str] = frozenset(),
) -> Optimized:
    """Optimize with a fixed list of remedies; runtimes in `wrong` answer wrongly."""
    profile = Profile(runtime="usual", threads=1, repeats=1, operators=())

    def validate(one: Deployment) -> Verdict:
        holds = one.runtime.name not in wrong
        return Verdict(
            holds=holds, loss=0.0, delta=None, said="well" if holds else "ill"
        )

    return optimize(
        start,
        time=in_turns(INPUTS, rounds=7, clock=clock),
        diagnose=lambda _: (profile, remedies),
        validate=validate,
    )


def test_what_promises_most_is_tried_first_and_the_rest_builds_on_it(
    start: Deployment, clock: FakeClock
) -> None:
    """Both stay, and together they are faster than either alone."""
    fast = TimedRuntime("fast", clock, 0.004)
    threads = LoadOptions(threads=2)
    found = run(
        start,
        clock,
        [
            remedy("2 threads", 0.6, options=threads),
            remedy("fast", 0.5, runtime=fast),
        ],
    )
    assert [one.remedy for one in found.trials] == ["fast", "2 threads"]
    assert all(one.is_kept for one in found.trials)
    assert found.chosen.remedies == ("fast", "2 threads")
    assert found.gain.median == pytest.approx(0.2)
    alone = {one.remedy: one.measured.median for one in found.alone}
    assert alone == pytest.approx({"fast": 0.4, "2 threads": 0.5})
    assert found.against_best_single is not None
    assert found.against_best_single.median == pytest.approx(0.5)


def test_what_is_slower_or_answers_wrongly_or_cannot_be_run_goes(
    start: Deployment, clock: FakeClock
) -> None:
    """Each with its reason, and nothing is changed."""

    def refuse(_: Deployment) -> Deployment:
        raise ModelError("no rule replaces Conv here", hint="Try another.")

    broken = Remedy(
        name="broken", kind=Kind.REWRITE, why="", expected=0.1, change=refuse
    )
    found = run(
        start,
        clock,
        [
            remedy("slow", 0.2, runtime=TimedRuntime("slow", clock, 0.02)),
            remedy("wrong", 0.3, runtime=TimedRuntime("wrong", clock, 0.001)),
            remedy("same", 0.4, runtime=TimedRuntime("same", clock, 0.0099)),
            broken,
            remedy("hopeless", 1.2, runtime=TimedRuntime("no", clock, 0.001)),
        ],
        wrong=frozenset({"wrong"}),
    )
    said = {one.remedy: one.said for one in found.trials}
    assert list(said) == ["broken", "slow", "wrong", "same"]
    assert "no rule replaces Conv" in said["broken"]
    assert "not faster beyond the noise" in said["slow"]
    assert "ill" in said["wrong"]
    assert "too little" in said["same"]
    assert found.chosen == start
    assert found.alone == ()
    assert found.gain.median == pytest.approx(1.0)


def test_a_single_remedy_that_is_as_good_takes_the_place_of_all(
    start: Deployment, clock: FakeClock, tmp_path: Path
) -> None:
    """What adds nothing is not kept, though it helped when it was tried."""
    fast = TimedRuntime("fast", clock, 0.004)
    quick = model(tmp_path / "quick.onnx")
    plain = model(tmp_path / "m2.onnx")
    remedies = [
        remedy("quick file", 0.1, model=quick),
        # It brings a file of its own: what the first remedy did is undone.
        remedy("fast", 0.2, runtime=fast, model=plain),
    ]
    found = run(start, clock, remedies)
    assert [one.is_kept for one in found.trials] == [True, True]
    assert found.chosen.remedies == ("fast",)
    assert found.against_best_single is not None
    assert found.against_best_single.median == pytest.approx(1.0)
    assert found.notes == ("fast alone is as fast as all that helped together.",)


def test_what_did_not_help_is_tried_again_once_something_has_changed(
    start: Deployment, clock: FakeClock, tmp_path: Path
) -> None:
    """But never twice on the same deployment."""
    found = run(
        start,
        clock,
        [
            remedy("slow", 0.1, runtime=TimedRuntime("slow", clock, 0.02)),
            remedy("quick file", 0.2, model=model(tmp_path / "quick.onnx")),
        ],
    )
    tried = [(one.remedy, one.is_kept) for one in found.trials]
    assert tried == [("slow", False), ("quick file", True), ("slow", False)]
