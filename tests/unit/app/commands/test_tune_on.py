from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from skerry.adapt.profiles.roofline import Peaks
from skerry.app.pipelines import device_meter
from skerry.app.profiling.device import Place, Shipped
from skerry.compress.tune.store import Store
from skerry.core.errors import LinkError
from skerry.core.profile import InferenceTime, OperatorTime, Profile
from tests.commands import Typist, make_parts

SEARCH = """
schema = "skerry.search/1"

[[slot]]
optional = false

[[slot.step]]
step = "half"
search.dtype = ["float16", "bfloat16"]
"""
PLACE = "ssh://pi@board"
WORDS = ("tune", "mlp.onnx", "--evaluation", "rows.npz", "--task", "task.toml")
MORE = ("--budget", "budget.toml", "--search", "search.toml", "--on", PLACE)
SOURCE_MS, CANDIDATE_MS = 40.0, 10.0


class Board:
    """A device on which all but the source takes a quarter of its time.

    Attributes:
        asked: How many models were measured at once, one entry a call.
        breaks_after: So many calls, then the link breaks.
    """

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.breaks_after = 1000

    def profile_on(
        self, place: Place, subjects: Sequence[Shipped], *, repeats: int
    ) -> tuple[tuple[Profile, ...], Peaks | None]:
        """What `profiling.device` has of this name."""
        assert place.url == PLACE
        if len(self.asked) >= self.breaks_after:
            raise LinkError(f"{PLACE} cannot be reached", hint="Try it again.")
        self.asked.append(len(subjects))
        return tuple(_profile(one, repeats) for one in subjects), None


def _profile(subject: Shipped, repeats: int) -> Profile:
    ms = SOURCE_MS if subject.model.path.name == "mlp.onnx" else CANDIDATE_MS
    return Profile(
        runtime=subject.runtime,
        threads=subject.threads,
        repeats=repeats,
        operators=(OperatorTime(name="fc", op_type="Gemm", latency_ms=ms),),
        inference=InferenceTime(cpu_ms=ms, wall_ms=ms, noise=0.01),
    )


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    """A device that ssh reaches."""
    made = Board()
    monkeypatch.setattr(device_meter, "profile_on", made.profile_on)
    return made


@pytest.fixture
def typist(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Typist:
    """Types in a folder with a small model, a budget and two recipes."""
    make_parts(tmp_path)
    (tmp_path / "budget.toml").write_text("accuracy_drop = 1.0\nlatency_ms = 20\n")
    (tmp_path / "search.toml").write_text(SEARCH)
    monkeypatch.chdir(tmp_path)
    return Typist(capsys)


def test_latencies_are_the_devices(typist: Typist, board: Board) -> None:
    """In trials, against the budget, and in the report, which says where."""
    found = typist.ask(*WORDS, *MORE, "--target", "raspberry-pi-5")
    report = found["report"]
    assert found["trials"] == 2
    assert found["front"][0]["outcome"]["latency"]["median"] == pytest.approx(0.25)
    latency = report["latency_ms"]
    assert (latency["before"], latency["after"]) == (SOURCE_MS, CANDIDATE_MS)
    assert latency["ratio"] == pytest.approx(0.25)
    assert f"Latencies were measured on {PLACE}." in report["notes"]
    assert not any("nothing was measured" in note for note in report["notes"])
    assert not report["breaches"]
    # The source alone, each candidate beside it, then what was chosen once more, and
    # the operators of both.
    assert board.asked == [1, 2, 2, 2, 1, 1]


def test_a_latency_that_the_device_misses_is_missed(
    typist: Typist, board: Board
) -> None:
    """However fast it is here; nothing is scored for it."""
    Path("budget.toml").write_text("accuracy_drop = 1.0\nlatency_ms = 5\n")
    found = typist.ask(*WORDS, *MORE, code=21)
    assert found["chosen"] is None
    trials = Store(Path("experiments/mlp")).trials()
    refusals = [one.outcome.refusal for one in trials if one.outcome]
    assert all("latency_ms" in one for one in refusals)
    assert board.asked


def test_a_link_that_breaks_costs_no_recipe_its_chance(
    typist: Typist, board: Board
) -> None:
    """However often; the experiment goes on where it was."""
    board.breaks_after = 2
    error = typist.ask(*WORDS, *MORE, code=LinkError.exit_code)
    assert PLACE in error["what"]
    for _ in range(3):
        typist.ask("experiment", "resume", "experiments/mlp", code=LinkError.exit_code)
    board.breaks_after = 1000
    found = typist.ask("experiment", "resume", "experiments/mlp")
    assert found["trials"] == 2
    assert found["chosen"] is not None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--on", "device://gw-1"), "cannot measure on 'device://gw-1'"),
        (("--on", PLACE, "--runtime", "null"), "null is not measured on devices"),
    ],
)
def test_what_cannot_be_measured_there_is_refused(
    typist: Typist, words: tuple[str, ...], said: str
) -> None:
    """Before anything is made."""
    assert said in typist.ask(*WORDS, *words, code=2)["what"]
    assert not Path("experiments").exists()
