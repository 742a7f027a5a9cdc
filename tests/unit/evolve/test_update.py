from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.model import TensorSpec
from skerry.core.release import (
    AGENT_LEVEL,
    Blob,
    Library,
    Manifest,
    Reason,
    Refusal,
    ReleaseModel,
)
from skerry.evolve.probation import Figures
from skerry.evolve.update import check_manifest, choose_transfer, step, wait_s
from skerry.evolve.update_state import (
    Action,
    Desired,
    Done,
    Event,
    Facts,
    Failed,
    Found,
    Keep,
    Phase,
    Refused,
    Restarted,
    Run,
    Step,
    Tell,
    Tick,
    UpdatePolicy,
    UpdateState,
    Want,
)
from skerry.evolve.ways import Hop, Way

POLICY = UpdatePolicy(probation_s=5.0)
SPEC = (TensorSpec(name="x", dtype="float32", shape=(1,)),)
BEFORE = [Step.REFRESH, Step.MANIFEST, Step.BLOBS, Step.REBUILD, Step.INSTALL]
BEFORE += [Step.LOAD, Step.SWITCH]
"""The steps up to the switch, in order."""

ONE, TWO, THREE = (Want(version=n, rollout=f"r{n}") for n in (1, 2, 3))
RUNS_ONE = Facts(active=1, counter=1)
RUNS_TWO = Facts(active=2, standby=1, counter=2)


def blob(letter: str, size_bytes: int = 100) -> Blob:
    """A blob that nobody reads."""
    return Blob(sha256=letter * 64, size_bytes=size_bytes)


def manifest(version: int, *, requires: int = 1, target: str = "any") -> Manifest:
    """A manifest of `meter`."""
    model = ReleaseModel(
        target=target, runtime="null", blob=blob("a"), inputs=SPEC, outputs=SPEC
    )
    return Manifest(
        name="meter",
        version=version,
        created_at_ms=0,
        models=(model,),
        golden=blob("b", 10),
        task=blob("c", 10),
        requires=requires,
    )


def refusal(reason: Reason, version: int = 2) -> Refusal:
    """Why a step failed."""
    return Refusal(release=f"meter/{version}", reason=reason, what="it did", at_ms=0)


@dataclass
class World:
    """A device that carries out what the machine asks for, and counts what serves."""

    facts: Facts = RUNS_ONE
    state: UpdateState = field(
        default_factory=lambda: UpdateState(name="meter", policy=POLICY)
    )
    now_ms: int = 1_000
    found: dict[int, Found] = field(default_factory=dict)
    staged: int | None = None
    runs: list[Step] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    queue: deque[Run] = field(default_factory=deque)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def __post_init__(self) -> None:
        self.feed(Restarted(facts=self.facts))

    def feed(self, event: Event) -> tuple[Action, ...]:
        """Give the machine an event and take what it answers."""
        self.state, actions = step(self.state, event, now_ms=self.now_ms, rng=self.rng)
        for action in actions:
            if isinstance(action, Run):
                self.queue.clear()  # what was under way is given up
                self.queue.append(action)
                self.runs.append(action.step)
            elif isinstance(action, Keep):
                self.facts = replace(self.facts, refused=action.refused)
            elif isinstance(action, Tell):
                self.told.append(action.name)
        return actions

    def succeed(self) -> None:
        """Carry out the step under way."""
        run = self.queue.popleft()
        self.facts = self.after(run)
        found = None
        if run.step is Step.MANIFEST:
            version = run.want.version
            found = self.found.get(version, Found(manifest=manifest(version)))
        self.feed(Done(serial=run.serial, facts=self.facts, found=found))

    def fail(self, reason: Reason, *, is_foreseen: bool = True) -> None:
        """Let the step under way fail."""
        run = self.queue.popleft()
        if run.step is Step.INSTALL:
            self.facts = replace(self.facts, standby=None)
        self.feed(
            Failed(
                serial=run.serial,
                facts=self.facts,
                refusal=refusal(reason, run.want.version),
                is_foreseen=is_foreseen,
            )
        )

    def after(self, run: Run) -> Facts:
        """What is on the disk after a step, as `skerry.edge.slots` has it."""
        facts = self.facts
        if run.step is Step.INSTALL:
            self.staged = run.want.version
            return replace(facts, standby=None)
        if run.step is Step.SWITCH:
            assert facts.trial is None, "two switches at once"
            assert run.want.version in {self.staged, facts.standby}
            return Facts(
                active=run.want.version,
                standby=facts.active,
                counter=max(facts.counter, run.want.version),
                trial=run.want,
            )
        if run.step is Step.SETTLE:
            return replace(facts, trial=None)
        if run.step is Step.ROLL_BACK:
            assert facts.standby is not None, "nothing would serve"
            kept = facts.active if run.refused is None else None
            return replace(
                facts,
                active=facts.standby,
                standby=kept,
                trial=None,
                refused=run.refused,
            )
        return facts

    def pass_time(self, seconds: float, figures: Figures | None = None) -> None:
        """Let time pass."""
        self.now_ms += round(1000 * seconds)
        self.feed(Tick(figures=figures or Figures()))

    def run_until(self, wanted: Step) -> None:
        """Carry out steps until this one is under way."""
        for _ in range(20):
            if self.queue and self.queue[0].step is wanted:
                return
            if self.queue:
                self.succeed()
            else:
                self.pass_time(10)
        pytest.fail(f"never came to {wanted}")

    def finish(self) -> None:
        """Let everything go well until nothing is left to do."""
        for _ in range(60):
            if self.queue:
                self.succeed()
            elif self.state.phase is Phase.IDLE:
                return
            else:
                self.pass_time(301)
        pytest.fail(f"it does not come to rest: {self.state}")


def test_an_update_goes_through_every_step() -> None:
    """In order, with probation before it settles; then nothing is left to do."""
    world = World()
    world.feed(Desired(want=TWO))
    world.finish()
    assert world.runs == [*BEFORE, Step.SETTLE]
    assert world.facts == RUNS_TWO
    assert world.state.why is None
    assert world.told[0] == "update.started"
    assert world.told[-1] == "release.accepted"


def test_what_runs_needs_no_update() -> None:
    """Desired equals active: nothing is asked for, and a refusal is forgotten."""
    refused = Refused(refusal=refusal(Reason.GOLDEN), rollout="r2")
    world = World(facts=replace(RUNS_ONE, refused=refused))
    world.feed(Desired(want=ONE))
    assert world.runs == []
    assert world.state.why is None
    assert world.facts.refused is None


def test_what_was_refused_for_good_is_not_tried_again_after_a_restart() -> None:
    """The same rollout asks in vain; another one is heard."""
    refused = Refused(refusal=refusal(Reason.GOLDEN), rollout="r2")
    world = World(facts=replace(RUNS_ONE, refused=refused))
    world.feed(Desired(want=TWO))
    assert world.runs == []
    assert world.state.why == refused
    world.feed(Desired(want=Want(version=2, rollout="again")))
    assert world.runs == [Step.REFRESH]


def test_probation_takes_its_time() -> None:
    """It settles after the probation time and not before."""
    world = World()
    world.feed(Desired(want=TWO))
    world.run_until(Step.SWITCH)
    world.succeed()
    world.pass_time(4.9)
    assert world.state.phase is Phase.PROBATION
    assert not world.queue
    world.pass_time(0.1)
    assert world.queue[0].step is Step.SETTLE


@pytest.mark.parametrize("failing", BEFORE)
@pytest.mark.parametrize("reason", list(Reason))
def test_each_failure_at_each_step(failing: Step, reason: Reason) -> None:
    """Version 1 serves on; what may pass is tried again, the rest is refused."""
    world = World()
    world.feed(Desired(want=TWO))
    world.run_until(failing)
    world.fail(reason)
    assert world.facts.active == 1
    assert world.state.why is not None
    assert world.state.why.refusal.reason is reason
    assert world.state.why.rollout == "r2"
    if reason.is_passing:
        assert world.state.phase is Phase.WAITING
        world.finish()
        assert (world.facts.active, world.state.why) == (2, None)
    else:
        assert world.state.phase is Phase.IDLE
        world.pass_time(1000)
        world.feed(Desired(want=TWO))
        assert not world.queue
        assert world.facts.refused is not None
        world.feed(Desired(want=Want(version=2, rollout="again")))
        assert world.facts.refused is None
        world.finish()
        assert world.facts.active == 2


@pytest.mark.parametrize("failing", BEFORE)
def test_a_failure_nobody_foresaw_is_tried_a_few_times(failing: Step) -> None:
    """Then it is refused; it is not reported as a refusal before."""
    world = World()
    world.feed(Desired(want=TWO))
    for attempt in range(POLICY.attempts):
        world.run_until(failing)
        world.fail(Reason.LOAD, is_foreseen=False)
        assert world.state.phase is Phase.WAITING
        assert world.state.why is None
        assert world.state.attempt == attempt + 1
        world.pass_time(301)
    world.run_until(failing)
    world.fail(Reason.LOAD, is_foreseen=False)
    assert world.state.phase is Phase.IDLE
    assert world.state.why is not None
    assert world.facts.active == 1


@pytest.mark.parametrize("under_way", [*BEFORE, Step.SETTLE])
@pytest.mark.parametrize("want", [ONE, THREE, None, Want(version=2, rollout="other")])
def test_desired_changes_at_each_step(under_way: Step, want: Want | None) -> None:
    """The new desire wins at the next safe point, and nothing is switched twice."""
    world = World()
    world.feed(Desired(want=TWO))
    world.run_until(under_way)
    world.feed(Desired(want=want))
    world.finish()
    if want is None:
        passed = under_way in {Step.SWITCH, Step.SETTLE}
        assert world.facts.active == (2 if passed else 1)
    else:
        assert world.facts.active == want.version
    assert world.facts.trial is None
    assert world.state.why is None


@pytest.mark.parametrize("under_way", BEFORE)
def test_desired_goes_and_the_step_fails(under_way: Step) -> None:
    """A failure of what is not wanted any more is no refusal."""
    world = World()
    world.feed(Desired(want=TWO))
    world.run_until(under_way)
    world.feed(Desired(want=THREE))
    if world.queue[0].want == TWO:
        world.fail(Reason.GOLDEN)
    assert world.state.why is None
    world.finish()
    assert world.facts.active == 3


def test_a_download_is_given_up_at_once() -> None:
    """Its end, when it comes, is ignored."""
    world = World()
    world.feed(Desired(want=TWO))
    world.run_until(Step.BLOBS)
    old = world.queue[0]
    world.feed(Desired(want=THREE))
    assert world.queue[0].step is Step.REFRESH
    assert world.queue[0].want == THREE
    assert world.feed(Done(serial=old.serial, facts=world.facts)) == ()


@pytest.mark.parametrize("under_way", [*BEFORE, Step.SETTLE])
def test_a_restart_at_each_step(under_way: Step) -> None:
    """It goes on from what is on the disk, and converges."""
    world = World()
    world.feed(Desired(want=TWO))
    world.run_until(under_way)
    world.queue.clear()
    world.feed(Restarted(facts=world.facts))
    world.feed(Desired(want=TWO))
    world.finish()
    assert world.facts == RUNS_TWO


def test_undo_needs_no_download() -> None:
    """What lies in the standby slot is loaded, checked and switched to."""
    world = World(facts=RUNS_TWO)
    world.feed(Desired(want=ONE))
    world.finish()
    assert world.runs == [Step.LOAD, Step.SWITCH, Step.SETTLE]
    assert world.facts == Facts(active=1, standby=2, counter=2)


def test_undo_on_probation_is_a_roll_back() -> None:
    """The one before is still loaded; nothing is refused."""
    world = World()
    world.feed(Desired(want=TWO))
    world.run_until(Step.SWITCH)
    world.feed(Desired(want=ONE))
    world.finish()
    assert world.runs[-2:] == [Step.SWITCH, Step.ROLL_BACK]
    assert world.facts == Facts(active=1, standby=2, counter=2)


def test_an_older_release_is_replayed() -> None:
    """Lower than the counter and not in the standby slot: refused at once."""
    world = World(facts=Facts(active=3, standby=2, counter=3))
    world.feed(Desired(want=ONE))
    assert world.runs == []
    assert world.state.why is not None
    assert world.state.why.refusal.reason is Reason.REPLAYED


@pytest.mark.parametrize(
    ("figures", "word"),
    [
        (Figures(requests=10, not_finite=1), "NaN"),
        (Figures(requests=100, failed=3), "3 of 100 requests failed"),
        (Figures(requests=10, late=6), "6 of 10 requests had no answer"),
    ],
)
def test_probation_fails(figures: Figures, word: str) -> None:
    """The one before serves again, and the release is refused with the figures."""
    world = World()
    world.feed(Desired(want=TWO))
    world.run_until(Step.SWITCH)
    world.succeed()
    world.pass_time(1, figures)
    assert [run.step for run in world.queue] == [Step.ROLL_BACK]
    world.finish()
    assert world.facts.active == 1
    assert world.facts.standby is None
    assert world.state.why is not None
    assert world.state.why.refusal.reason is Reason.PROBATION
    assert word in world.state.why.refusal.what
    assert "release.rolled_back" in world.told


def test_the_first_release_has_nothing_to_go_back_to() -> None:
    """It serves on, whatever its figures."""
    world = World(facts=Facts())
    world.feed(Desired(want=ONE))
    world.run_until(Step.SWITCH)
    world.succeed()
    world.pass_time(1, Figures(requests=10, not_finite=10))
    world.finish()
    assert world.facts == RUNS_ONE


@pytest.mark.parametrize("failing", [Step.SETTLE, Step.ROLL_BACK])
def test_a_record_that_cannot_be_written_is_tried_again(failing: Step) -> None:
    """A full disk after the switch delays; what serves is right all along."""
    world = World()
    world.feed(Desired(want=TWO))
    world.run_until(Step.SWITCH)
    if failing is Step.ROLL_BACK:
        world.feed(Desired(want=ONE))
    world.run_until(failing)
    for _ in range(3):
        world.fail(Reason.STORAGE)
        assert world.state.phase is Phase.PROBATION
        world.pass_time(0)
        assert not world.queue
        world.pass_time(301)
        assert world.queue[0].step is failing
    world.finish()
    assert world.facts.active == (1 if failing is Step.ROLL_BACK else 2)
    assert world.facts.refused is None


def test_a_spoilt_delta_is_fetched_in_full() -> None:
    """Once; a full model that is corrupt is refused."""
    way = (Hop(origin="d" * 64, result=blob("1", 100), delta=blob("e", 5)),)
    found = Found(manifest=manifest(2), ways=(way,))
    world = World(found={2: found})
    world.feed(Desired(want=TWO))
    world.run_until(Step.REBUILD)
    transfer = world.queue[0].transfer
    assert transfer is not None
    assert transfer.way == way
    world.fail(Reason.CORRUPT)
    assert world.queue[0].step is Step.BLOBS
    assert world.queue[0].transfer == replace(transfer, way=())
    world.fail(Reason.CORRUPT)
    assert world.state.why is not None
    assert world.state.why.refusal.reason is Reason.CORRUPT


def test_the_smallest_transfer_is_chosen() -> None:
    """The way that costs least, if it costs less than the model."""

    def way(*sizes: int) -> Way:
        model = blob("9", 100)
        return tuple(
            Hop(origin="a", result=model, delta=blob("1", size)) for size in sizes
        )

    for ways, chosen in (
        ((), ()),
        ((way(50), way(5)), way(5)),
        ((way(50), way(20, 25)), way(20, 25)),
        ((way(60, 50),), ()),
        ((way(100),), ()),
    ):
        found = Found(manifest=manifest(2), ways=ways)
        assert choose_transfer(found, "any").way == chosen


WITH_LIBRARY = replace(
    manifest(2),
    models=(
        replace(
            manifest(2).models[0],
            libraries=(Library(abi="linux-x86_64", blob=blob("5", 7)),),
        ),
    ),
)


def test_only_libraries_of_this_machine_are_fetched() -> None:
    """Another machine's bytes are of no use here."""
    found = Found(manifest=WITH_LIBRARY)
    for abi, is_fetched in (("linux-x86_64", True), ("linux-aarch64", False)):
        roles = choose_transfer(found, "any", abi=abi).blobs
        assert ("library.0" in roles) is is_fetched


@pytest.mark.parametrize(
    ("found", "policy", "reason"),
    [
        (manifest(3), POLICY, Reason.UNTRUSTED),
        (manifest(2, requires=AGENT_LEVEL + 1), POLICY, Reason.TOO_NEW),
        (manifest(2, target="npu"), POLICY, Reason.UNFIT),
        (manifest(2), replace(POLICY, runtimes=frozenset({"x"})), Reason.UNFIT),
        (WITH_LIBRARY, replace(POLICY, abi="linux-aarch64"), Reason.UNFIT),
    ],
)
def test_a_manifest_that_is_not_for_us(
    found: Manifest, policy: UpdatePolicy, reason: Reason
) -> None:
    """It is refused before anything is downloaded."""
    state = UpdateState(name="meter", policy=policy)
    world = World(state=state, found={2: Found(manifest=found)})
    world.feed(Desired(want=TWO))
    world.run_until(Step.MANIFEST)
    world.succeed()
    assert world.state.why is not None
    assert world.state.why.refusal.reason is reason
    assert Step.BLOBS not in world.runs


def test_a_manifest_that_is_for_us() -> None:
    """Of the right name and version, for this target and an installed runtime."""
    policy = replace(POLICY, target="npu", runtimes=frozenset({"null"}))
    release = manifest(2).id
    for target in ("any", "npu"):
        found = manifest(2, target=target)
        assert check_manifest(found, release, policy, now_ms=0) is None


def test_waits_grow_and_are_spread() -> None:
    """From half a second to five minutes, never the same twice."""
    rng = np.random.default_rng(0)
    waits = [wait_s(attempt, POLICY, rng) for attempt in range(1, 40)]
    assert 0.5 <= waits[0] <= 1
    assert all(150 <= wait <= 300 for wait in waits[10:])
    assert len(set(waits)) == len(waits)


FACTS = st.sampled_from(
    [
        Facts(),
        RUNS_ONE,
        RUNS_TWO,
        Facts(active=2, standby=1, counter=2, trial=TWO),
        Facts(active=1, standby=None, counter=2),
    ]
)
WANTS = st.builds(
    Want, version=st.integers(1, 4), rollout=st.sampled_from(["r1", "r2"])
)
MOVES = st.lists(
    st.one_of(
        st.just("succeed"),
        st.just("restart"),
        st.tuples(st.just("fail"), st.sampled_from(list(Reason)), st.booleans()),
        st.tuples(st.just("want"), st.none() | WANTS),
        st.tuples(st.just("time"), st.sampled_from([0.1, 1.0, 6.0, 400.0])),
        st.just("nan"),
    ),
    max_size=40,
)


@given(facts=FACTS, moves=MOVES, last=st.integers(5, 6))
def test_whatever_happens_it_serves_and_converges(
    facts: Facts, moves: list[object], last: int
) -> None:
    """Never two switches at once, never nothing that serves; it comes to rest."""
    world = World(facts=facts)
    for move in moves:
        match move:
            case "succeed" if world.queue:
                world.succeed()
            case "restart":
                world.queue.clear()
                world.feed(Restarted(facts=world.facts))
            case ("fail", Reason() as reason, bool() as is_foreseen) if world.queue:
                world.fail(reason, is_foreseen=is_foreseen)
            case ("want", want):
                world.feed(Desired(want=want))  # type: ignore[arg-type]
            case ("time", float() as seconds):
                world.pass_time(seconds)
            case "nan":
                world.pass_time(0.1, Figures(requests=9, not_finite=9))
            case _:
                pass
        assert facts.active is None or world.facts.active is not None
        assert len(world.queue) <= 1
        # What was given up may still be under way: its end is of no interest.
        assert world.state.running is None or world.queue
    world.feed(Desired(want=Want(version=last, rollout="last")))
    world.finish()
    assert world.facts.active == last
    assert world.facts.trial is None
    assert world.state.why is None
