from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from skerry.cloud.rollout_plan import Plan
from skerry.cloud.rollout_store import read_rollout, write_rollout
from skerry.core.errors import ConflictError, DataError, NewerSchemaError, UsageError
from skerry.core.fleet import Gate, Outcome, RolloutState, Wave
from skerry.core.release import ReleaseId
from tests.rollouts import DEVICES, FIRST, SECOND, RolloutFleet, on_fleet

GOLDEN = Path(__file__).parents[2] / "golden"
WAVES = (Wave(devices=("gw-1",)), Wave(devices=("gw-2", "gw-3")))


async def _all_run_the_first(fleet: RolloutFleet) -> None:
    for device in DEVICES:
        entry = {"version": 1, "rollout": "by-hand"}
        await fleet.hub.shadows.set_desired(device, {"releases": {"meter": entry}})
        await fleet.runs(device, 1)


def test_a_rollout_brings_a_release_to_each_wave(tmp_path: Path) -> None:
    """Canary first; the rest when it runs; done when all run it."""

    async def case(fleet: RolloutFleet) -> None:
        await _all_run_the_first(fleet)
        made = await fleet.hub.rollouts.create(
            Plan(release=SECOND, devices=DEVICES, id="r-1"), who="ann"
        )
        assert made.waves == WAVES
        old = (1, "by-hand")
        assert await fleet.wanted() == {
            "gw-1": (2, "r-1"),
            "gw-2": old,
            "gw-3": old,
        }
        await fleet.runs("gw-1", 2)
        await fleet.outcome("r-1", "gw-2", Outcome.SENT)
        assert set((await fleet.wanted()).values()) == {(2, "r-1")}
        await fleet.runs("gw-2", 2)
        await fleet.runs("gw-3", 2)
        done = await fleet.state("r-1", RolloutState.SUCCEEDED)
        assert done.progress["gw-3"].previous == FIRST
        audit = await fleet.audit()
        assert "ann rollout.created" in audit
        assert "hub rollout.ended" in audit

    on_fleet(tmp_path, case)


def test_a_refusal_stops_and_undoes_by_itself(tmp_path: Path) -> None:
    """The refusing canary goes back; nobody else is touched."""

    async def case(fleet: RolloutFleet) -> None:
        await _all_run_the_first(fleet)
        await fleet.hub.rollouts.create(Plan(release=SECOND, waves=WAVES, id="r-1"))
        await fleet.refuses("gw-1", "r-1")
        undone = await fleet.state("r-1", RolloutState.UNDONE)
        assert "gw-1 refused (latency: slow)" in undone.reason
        assert (await fleet.wanted())["gw-1"] == (1, "r-1")
        assert (await fleet.wanted())["gw-2"] == (1, "by-hand")

    on_fleet(tmp_path, case)


def test_a_device_that_runs_it_already_needs_no_report(tmp_path: Path) -> None:
    """What its shadow says counts at once."""

    async def case(fleet: RolloutFleet) -> None:
        await fleet.runs("gw-1", 2)
        plan = Plan(release=SECOND, devices=("gw-1",), id="r-1")
        await fleet.hub.rollouts.create(plan)
        await fleet.state("r-1", RolloutState.SUCCEEDED)

    on_fleet(tmp_path, case)


def test_a_silent_device_is_late_by_the_hubs_clock(tmp_path: Path) -> None:
    """Without a report the gate fails in time, and a first release is taken away."""

    async def case(fleet: RolloutFleet) -> None:
        gate = Gate(timeout_s=30)
        await fleet.hub.rollouts.create(
            Plan(release=SECOND, devices=("gw-1",), gate=gate, id="r-1")
        )
        fleet.clock.advance(wall_s=31)
        undone = await fleet.state("r-1", RolloutState.UNDONE)
        assert "no answer in 30 s" in undone.reason
        assert (await fleet.wanted())["gw-1"] == (None, None)

    on_fleet(tmp_path, case)


def test_a_hub_that_restarts_resumes(tmp_path: Path) -> None:
    """A rollout goes on where it stood, with what was reported meanwhile."""

    async def begin(fleet: RolloutFleet) -> None:
        plan = Plan(release=SECOND, waves=WAVES, id="r-1")
        await fleet.hub.rollouts.create(plan)

    async def resume(fleet: RolloutFleet) -> None:
        assert (await fleet.hub.rollouts.get("r-1")).state is RolloutState.RUNNING
        for device in DEVICES:
            await fleet.runs(device, 2)
        await fleet.state("r-1", RolloutState.SUCCEEDED)

    on_fleet(tmp_path, begin)
    on_fleet(tmp_path, resume)


def test_a_person_stops_and_undoes_once(tmp_path: Path) -> None:
    """Each is written down with who asked; a second time there is nothing to do."""

    async def case(fleet: RolloutFleet) -> None:
        await _all_run_the_first(fleet)
        rollouts = fleet.hub.rollouts
        await rollouts.create(Plan(release=SECOND, waves=WAVES, id="r-1"))
        assert (await rollouts.stop("r-1", who="ann")).reason == "stopped by ann"
        with pytest.raises(ConflictError, match="nothing to stop"):
            await rollouts.stop("r-1", who="ann")
        assert (await rollouts.undo("r-1", who="bob")).state is RolloutState.UNDOING
        await fleet.state("r-1", RolloutState.UNDONE)
        with pytest.raises(ConflictError, match="nothing to undo"):
            await rollouts.undo("r-1", who="bob")
        audit = await fleet.audit()
        assert "ann rollout.stop" in audit
        assert "bob rollout.undo" in audit

    on_fleet(tmp_path, case)


def test_two_rollouts_do_not_share_a_device_unless_one_gives_way(
    tmp_path: Path,
) -> None:
    """The second is refused; with `supersede` the first lets go of what they share."""

    async def case(fleet: RolloutFleet) -> None:
        rollouts = fleet.hub.rollouts
        await rollouts.create(Plan(release=FIRST, waves=WAVES, id="r-1"))
        plan = Plan(release=SECOND, devices=("gw-3",), id="r-2")
        with pytest.raises(ConflictError, match="r-1 of meter/1 is under way on gw-3"):
            await rollouts.create(plan)
        with pytest.raises(UsageError):
            await rollouts.get("r-2")
        await rollouts.create(
            Plan(release=SECOND, devices=("gw-3",), id="r-2", supersede=True)
        )
        await fleet.runs("gw-1", 1)
        await fleet.runs("gw-2", 1)
        first = await fleet.state("r-1", RolloutState.SUCCEEDED)
        assert first.progress["gw-3"].outcome is Outcome.SUPERSEDED
        assert (await fleet.wanted())["gw-3"] == (2, "r-2")
        assert [one.id for one in await rollouts.of_device("gw-3")] == ["r-2", "r-1"]

    on_fleet(tmp_path, case)


def test_what_an_operator_changes_is_left_alone(tmp_path: Path) -> None:
    """A device whose shadow was changed by hand is neither counted nor undone."""

    async def case(fleet: RolloutFleet) -> None:
        await _all_run_the_first(fleet)
        rollouts = fleet.hub.rollouts
        await rollouts.create(
            Plan(release=SECOND, waves=[Wave(devices=DEVICES)], id="r-1")
        )
        entry = {"version": 1, "rollout": "by-hand"}
        await fleet.hub.shadows.set_desired("gw-2", {"releases": {"meter": entry}})
        await fleet.outcome("r-1", "gw-2", Outcome.SUPERSEDED)
        version = (await fleet.hub.shadows.get("gw-2")).version
        await rollouts.undo("r-1")
        assert (await fleet.hub.shadows.get("gw-2")).version == version

    on_fleet(tmp_path, case)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(release=ReleaseId(name="meter", version=9)), "there is no release"),
        (Plan(release=FIRST, devices=("gw-9",)), "there is no device 'gw-9'"),
        (Plan(release=FIRST, waves=WAVES, devices=("gw-1",)), "both were given"),
        (Plan(release=FIRST, waves=[Wave(devices=())]), "empty"),
        (Plan(release=FIRST, id="Not A Name"), "cannot be the name"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused(
    tmp_path: Path, plan: Plan, message: str
) -> None:
    """Unknown releases and devices, and plans that make no sense."""

    async def case(fleet: RolloutFleet) -> None:
        with pytest.raises(UsageError, match=message):
            await fleet.hub.rollouts.create(plan)
        assert await fleet.hub.rollouts.list() == ()

    on_fleet(tmp_path, case)


def test_a_rollout_to_everybody_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Without devices it is for all that can answer; a name is used once."""

    async def case(fleet: RolloutFleet) -> None:
        with pytest.raises(UsageError, match="0 waves"):
            await fleet.hub.rollouts.create(Plan(release=SECOND))
        devices, root = fleet.hub.devices, fleet.hub.releases.root_sha256
        for device in DEVICES:
            token = await devices.create(device, root_sha256=root)
            await devices.enrol(token)
        await devices.create("not-yet", root_sha256=root)
        made = await fleet.hub.rollouts.create(Plan(release=SECOND))
        assert made.id.startswith("meter-2-")
        assert made.waves == WAVES
        with pytest.raises(ConflictError, match="already"):
            await fleet.hub.rollouts.create(
                Plan(release=SECOND, id=made.id, supersede=True)
            )

    on_fleet(tmp_path, case)


def test_a_shadow_without_room_stops_the_rollout(tmp_path: Path) -> None:
    """The hub gives up and says so, rather than try each second for ever."""

    async def case(fleet: RolloutFleet) -> None:
        rollouts = fleet.hub.rollouts
        await rollouts.create(Plan(release=SECOND, waves=WAVES, id="r-1"))
        filler = {"filler": "x" * (32 * 1024 - 40)}
        await fleet.hub.shadows.set_desired("gw-2", filler)
        await fleet.runs("gw-1", 2)
        stopped = await fleet.state("r-1", RolloutState.STOPPED)
        assert stopped.reason == "stopped by the hub"

    on_fleet(tmp_path, case)


def test_each_versions_document_is_read_for_ever() -> None:
    """What an earlier version kept is read; what this one keeps is written the same."""
    first = read_rollout((GOLDEN / "rollout-1.json").read_bytes())
    assert first.release == SECOND
    assert first.progress["gw-2"].reason == "latency: slow"
    assert (first.window, first.gate.retries, first.query) == (None, 0, None)
    kept = (GOLDEN / "rollout-2.json").read_bytes()
    second = read_rollout(kept)
    assert second.gate.metrics[0].relative_to == "before"
    assert second.progress["gw-1"].after == {"failed": 0.0, "requests": 40.0}
    assert write_rollout(second) == kept.rstrip()


def test_a_newer_or_damaged_document_is_refused() -> None:
    """It is never half-read."""
    kept = (GOLDEN / "rollout-2.json").read_bytes()
    newer = kept.replace(b"skerry.rollout/2", b"skerry.rollout/3")
    with pytest.raises(NewerSchemaError):
        read_rollout(newer)
    with pytest.raises(DataError):
        read_rollout(b"{}")


def test_a_database_that_refuses_for_a_moment_delays_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was reported meanwhile is looked at again."""

    async def case(fleet: RolloutFleet) -> None:
        rollouts = fleet.hub.rollouts
        plan = Plan(release=SECOND, devices=("gw-1",), id="r-1")
        await rollouts.create(plan)
        with monkeypatch.context() as patched:

            def refuse(*_: object) -> None:
                raise ConflictError("not now", hint="")

            patched.setattr(rollouts._events, "gather", refuse)
            await fleet.runs("gw-1", 2)
            fleet.clock.advance(wall_s=1)
            await asyncio.sleep(0.05)
        await fleet.state("r-1", RolloutState.SUCCEEDED)

    on_fleet(tmp_path, case)
