from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.compress.tune.loop import work
from skerry.compress.tune.sampler import Proposer, RandomSampler
from skerry.compress.tune.store import (
    MOST_CLAIMS,
    Experiment,
    Store,
    read_trial,
)
from skerry.compress.tune.trial import Outcome, Trial
from skerry.core.budget import Budget
from skerry.core.documents import from_json
from skerry.core.errors import ConflictError, LinkError, SkerryError, UsageError
from skerry.core.recipe import Recipe
from tests.tuning import SPACE, score

ASKED = Experiment(
    model="/m.onnx",
    sha256="ab",
    created_ms=1,
    budget=Budget(accuracy_drop=0.01, conditions={"dark": 0.02}),
    given={"runtime": "onnxruntime"},
)
PROPOSER = Proposer(space=SPACE, sampler=RandomSampler(SPACE))
WORKER = "tests.unit.compress.tune.worker"
ROOT = Path(__file__).parents[4]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A new experiment."""
    made = Store(tmp_path / "experiment")
    made.create(ASKED)
    return made


def start(store: Store, most: int, wait_s: float) -> subprocess.Popen[str]:
    """A worker in a process of its own, once it runs."""
    words = [sys.executable, "-m", WORKER, str(store.folder), str(most), str(wait_s)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_what_is_kept_is_read_again(store: Store) -> None:
    """The experiment, and each trial with its outcome."""
    assert store.experiment() == ASKED
    work(store, PROPOSER, score, most=3)
    again = Store(store.folder).trials()
    assert [one.number for one in again] == [0, 1, 2]
    assert all(one.outcome == score(one.recipe) for one in again)


def test_an_experiment_is_begun_once(store: Store, tmp_path: Path) -> None:
    """A second one in the folder is refused, and none is none."""
    with pytest.raises(ConflictError, match="already"):
        store.create(ASKED)
    with pytest.raises(UsageError, match="no experiment"):
        Store(tmp_path).experiment()


def test_two_workers_never_have_the_same_trial(store: Store) -> None:
    """Claims of the living are left alone."""
    other = Store(store.folder)
    with store.working(), other.working():
        mine = store.claim(PROPOSER, most=2)
        theirs = other.claim(PROPOSER, most=2)
        assert mine is not None
        assert theirs is not None
        assert (mine.number, theirs.number) == (0, 1)
        assert mine.recipe != theirs.recipe
        assert store.claim(PROPOSER, most=2) is None


def test_the_claim_of_a_dead_worker_is_taken_over_at_once(store: Store) -> None:
    """With its recipe; what the dead one would still say changes nothing."""
    with store.working():
        lost = store.claim(PROPOSER, most=1)
    assert lost is not None
    other = Store(store.folder)
    with other.working():
        taken = other.claim(PROPOSER, most=1)
        assert taken is not None
        assert (taken.recipe, taken.claims) == (lost.recipe, 2)
        store.finish(lost, score(lost.recipe))
        assert other.trials()[0].outcome is None
        other.finish(taken, score(taken.recipe))
    assert other.trials()[0].outcome == score(lost.recipe)


def test_a_recipe_that_kills_its_workers_is_given_up(store: Store) -> None:
    """It cannot bring down one after another."""
    for _ in range(MOST_CLAIMS):
        with store.working():
            assert store.claim(PROPOSER, most=1) is not None
    with store.working():
        assert store.claim(PROPOSER, most=1) is None
    (trial,) = store.trials()
    assert trial.outcome is not None
    assert "died" in trial.outcome.refusal


def test_what_breaks_with_the_link_is_no_trials_fault(store: Store) -> None:
    """However often it breaks, the recipe is tried again."""

    def broken(recipe: Recipe, others: Sequence[Trial]) -> Outcome:  # noqa: ARG001
        raise LinkError("the board cannot be reached", hint="Try it again.")

    for _ in range(MOST_CLAIMS + 1):
        with pytest.raises(LinkError):
            work(store, PROPOSER, broken, most=1)
    work(store, PROPOSER, score, most=1)
    (trial,) = store.trials()
    assert trial.outcome == score(trial.recipe)


def test_workers_killed_at_any_instant_lose_nothing(store: Store) -> None:
    """Every file stays whole, what was finished stays, and the rest is done after."""
    rng = random.Random(0)  # noqa: S311 - when to kill
    finished: set[int] = set()
    for _ in range(4):
        processes = [start(store, 30, 0.01) for _ in range(2)]
        time.sleep(rng.uniform(0.05, 0.3))
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        trials = store.trials()
        assert [one.number for one in trials] == list(range(len(trials)))
        done = {one.number for one in trials if one.outcome}
        assert finished <= done
        finished = done
    work(store, PROPOSER, score, most=30)
    trials = store.trials()
    assert len(trials) == 30
    recipes = [one.recipe for one in trials]
    assert all(one not in recipes[:k] for k, one in enumerate(recipes))
    for one in trials:
        is_given_up = one.outcome is not None and "died" in one.outcome.refusal
        assert is_given_up or one.outcome == score(one.recipe)


def test_two_processes_share_the_trials(store: Store) -> None:
    """Each is done once, by one of them."""
    processes = [start(store, 12, 0.05) for _ in range(2)]
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    trials = store.trials()
    assert [one.number for one in trials] == list(range(12))
    assert all(one.claims == 1 and one.outcome for one in trials)


@given(content=st.binary(max_size=80))
def test_a_damaged_trial_is_an_error_of_ours(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Never a traceback."""
    path = tmp_path_factory.mktemp("damaged") / "000000.json"
    path.write_bytes(content)
    with pytest.raises(SkerryError):
        read_trial(path)
    with pytest.raises(SkerryError):
        from_json(Experiment, content, schema="skerry.experiment/1", name="it")


def test_a_newer_trial_is_not_half_read(tmp_path: Path) -> None:
    """It says to upgrade."""
    path = tmp_path / "000000.json"
    path.write_bytes(b'{"schema":"skerry.trial/2","number":0,"recipe":{"steps":[]}}')
    with pytest.raises(UsageError, match=r"skerry\.trial/2"):
        read_trial(path)
    path.write_bytes(b'{"schema":"skerry.trial/1","number":0,"recipe":{"steps":[]}}')
    assert read_trial(path) == Trial(number=0, recipe=PROPOSER.space.recipe(_skip))


def _skip(*_: object) -> str:
    return "none"
