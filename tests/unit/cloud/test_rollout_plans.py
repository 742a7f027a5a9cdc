from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert, select

from skerry.cloud import tables
from skerry.cloud.database import Database, sqlite_url
from skerry.cloud.rollout_plan import Plan
from skerry.cloud.rollout_store import RolloutStore
from skerry.core.errors import ConflictError, UsageError
from skerry.core.fleet import (
    Gate,
    MetricGate,
    Outcome,
    RolloutState,
    Wave,
    Window,
)
from skerry.evolve.rollout import Stages
from tests.rollouts import DEVICES, FIRST, SECOND, RolloutFleet, on_fleet

GOLDEN = Path(__file__).parents[2] / "golden"
QUERY = "site=north"


async def _enrol(fleet: RolloutFleet, *names: str, **labels: str) -> None:
    devices, root = fleet.hub.devices, fleet.hub.releases.root_sha256
    for name in names:
        token = await devices.create(name, labels=labels, root_sha256=root)
        await devices.enrol(token)


async def _entry(fleet: RolloutFleet, device: str) -> dict[str, Any]:
    releases: Any = (await fleet.hub.shadows.get(device)).desired["releases"]
    return dict(releases["meter"])


def test_a_query_leaves_out_who_cannot_or_need_not(tmp_path: Path) -> None:
    """Each with its cause, in the preview as in the rollout, which alone changes."""

    async def case(fleet: RolloutFleet) -> None:
        await _enrol(fleet, *DEVICES, site="north")
        await _enrol(fleet, "gw-4", site="south")
        await fleet.hub.devices.create(
            "gw-5", labels={"site": "north"}, root_sha256=fleet.hub.releases.root_sha256
        )
        await fleet.report("gw-1", {"agent": {"target": "any", "level": 0}})
        await fleet.runs("gw-2", 2)
        entry = {"version": 2, "rollout": "by-hand"}
        await fleet.hub.shadows.set_desired("gw-2", {"releases": {"meter": entry}})
        plan = Plan(release=SECOND, query=QUERY, id="r-1")
        found = await fleet.hub.rollouts.preview(plan)
        notes = {one.device: (one.wave, one.note) for one in found.members}
        assert notes.pop("gw-1")[1].startswith("too-new: it needs an agent of level 1")
        assert notes == {
            "gw-3": (1, "is offline"),
            "gw-2": (None, "runs it already"),
            "gw-5": (None, "has not enrolled"),
        }
        assert await fleet.hub.rollouts.list() == ()
        made = await fleet.hub.rollouts.create(plan)
        assert made.waves == (Wave(devices=("gw-3",)),)
        assert set(made.excluded) == {"gw-1", "gw-2", "gw-5"}
        with pytest.raises(UsageError, match="nobody is left"):
            await fleet.hub.rollouts.create(Plan(release=SECOND, query="site=moon"))

    on_fleet(tmp_path, case)


def test_people_pause_resume_and_approve(tmp_path: Path) -> None:
    """Each act is in the log with who did it; what makes no sense is refused."""

    async def case(fleet: RolloutFleet) -> None:
        rollouts = fleet.hub.rollouts
        waves = [Wave(devices=("gw-1",)), Wave(devices=("gw-2", "gw-3"))]
        plan = Plan(release=SECOND, waves=waves, approval="first", id="r-1")
        await rollouts.create(plan, who="ann")
        with pytest.raises(ConflictError, match="nothing to resume"):
            await rollouts.resume("r-1")
        await rollouts.pause("r-1", who="bob")
        await fleet.runs("gw-1", 2)
        await fleet.outcome("r-1", "gw-1", Outcome.UPDATED)
        assert (await rollouts.get("r-1")).state is RolloutState.PAUSED
        await rollouts.resume("r-1", who="bob")
        waiting = await fleet.state("r-1", RolloutState.AWAITING)
        assert waiting.reason == "wave 2 waits for approval"
        assert (await fleet.wanted())["gw-2"] == (None, None)
        assert (await rollouts.approve("r-1", who="eve")).wave == 1
        assert (await fleet.wanted())["gw-2"] == (2, "r-1")
        with pytest.raises(ConflictError, match="nothing to approve"):
            await rollouts.approve("r-1")
        acts = [f"{act.who} {act.what}" for act in await rollouts.acts("r-1")]
        assert acts == [
            "ann rollout.created",
            "bob rollout.pause",
            "bob rollout.resume",
            "hub rollout.awaits_approval",
            "eve rollout.approve",
            "hub rollout.wave",
        ]

    on_fleet(tmp_path, case)


def test_a_device_that_enrols_later_joins(tmp_path: Path) -> None:
    """Where the plan is dynamic and its labels match; it comes in the last wave."""

    async def case(fleet: RolloutFleet) -> None:
        await _enrol(fleet, *DEVICES, site="north")
        plan = Plan(release=SECOND, query=QUERY, is_dynamic=True, id="r-1")
        await fleet.hub.rollouts.create(plan)
        await _enrol(fleet, "gw-7", site="north")
        await _enrol(fleet, "gw-8", site="south")
        await fleet.outcome("r-1", "gw-7", Outcome.WAITING)
        joined = await fleet.hub.rollouts.get("r-1")
        assert joined.waves[-1].devices == ("gw-2", "gw-3", "gw-7")

    on_fleet(tmp_path, case)


def test_a_window_is_told_and_time_stands_still_while_it_is_closed(
    tmp_path: Path,
) -> None:
    """With the device's own zone; going back needs no window, and the key goes."""

    async def case(fleet: RolloutFleet) -> None:
        await fleet.hub.devices.create(
            "gw-1", labels={"zone": "Asia/Tokyo"}, root_sha256="0" * 64
        )
        entry = {"version": 1, "rollout": "by-hand"}
        for name in ("gw-1", "gw-2"):
            await fleet.hub.shadows.set_desired(name, {"releases": {"meter": entry}})
        window = Window(opens="09:00", closes="12:00", zone="UTC")
        plan = Plan(
            release=SECOND,
            waves=[Wave(devices=("gw-1", "gw-2"))],
            window=window,
            gate=Gate(timeout_s=60),
            id="r-1",
        )
        await fleet.hub.rollouts.create(plan)
        assert (await _entry(fleet, "gw-1"))["window"]["zone"] == "Asia/Tokyo"
        assert (await _entry(fleet, "gw-2"))["window"]["zone"] == "UTC"
        # It is midnight in the clock's UTC, and nine in Tokyo.
        fleet.clock.advance(wall_s=1)
        await asyncio.sleep(0.05)
        fleet.clock.advance(wall_s=70)
        undone = await fleet.state("r-1", RolloutState.UNDOING)
        assert undone.progress["gw-1"].reason == "no answer in 60 s"
        assert undone.progress["gw-2"].reason == ""
        assert set(await _entry(fleet, "gw-1")) == {"version", "rollout"}

    on_fleet(tmp_path, case)


def test_an_offline_device_is_waited_for_where_the_plan_says_so(
    tmp_path: Path,
) -> None:
    """It is told again once it has had the gate's time, and at last is late."""

    async def case(fleet: RolloutFleet) -> None:
        gate = Gate(timeout_s=60, waits_for_offline=True, retries=1)
        plan = Plan(release=SECOND, devices=("gw-1",), gate=gate, id="r-1")
        await fleet.hub.rollouts.create(plan)
        await asyncio.sleep(0.05)
        fleet.clock.advance(wall_s=86400 * 21)
        await asyncio.sleep(0.05)
        assert (await fleet.hub.rollouts.get("r-1")).state is RolloutState.RUNNING
        await fleet.online("gw-1")
        fleet.clock.advance(wall_s=61)
        undone = await fleet.state("r-1", RolloutState.UNDONE)
        assert undone.progress["gw-1"].attempt == 2
        assert "no answer in 60 s and 2 attempts" in undone.reason

    on_fleet(tmp_path, case)


def test_a_gate_on_others_reads_their_figures(tmp_path: Path) -> None:
    """A canary that fails more than those that wait is undone, with both figures."""

    async def case(fleet: RolloutFleet) -> None:
        metric = MetricGate(metric="error_rate", limit=2, relative_to="others")
        gate = Gate(soak_s=5, metrics=(metric,))
        for name in DEVICES:
            await fleet.serves(name, 1, failed=1)
        plan = Plan(release=SECOND, devices=DEVICES, gate=gate, id="r-1")
        await fleet.hub.rollouts.create(plan)
        await fleet.serves("gw-1", 2, failed=30)
        undone = await fleet.state("r-1", RolloutState.UNDOING)
        assert undone.reason == (
            "wave 1: error_rate is 0.3, at most 0.02 allowed, 2 times the 0.01 on "
            "devices not updated yet"
        )

    on_fleet(tmp_path, case)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(release=FIRST, query="a=b", devices=("gw-1",)), "both were given"),
        (Plan(release=FIRST, query="(", id="r"), "label query"),
        (
            Plan(
                release=FIRST,
                waves=[Wave(devices=("gw-1",))],
                stages=Stages(growth=2),
            ),
            "how to split",
        ),
        (
            Plan(
                release=FIRST,
                devices=("gw-1",),
                window=Window(opens="02:00", closes="05:00", zone="Mars/Base"),
            ),
            "no time zone",
        ),
        (
            Plan(
                release=FIRST,
                devices=("gw-1",),
                window=Window(opens="2", closes="05:00"),
            ),
            "maintenance window",
        ),
        (Plan(release=FIRST, devices=("gw-1",), is_dynamic=True), "dynamic"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(
    tmp_path: Path, plan: Plan, message: str
) -> None:
    """Before anything is written."""

    async def case(fleet: RolloutFleet) -> None:
        with pytest.raises(UsageError, match=message):
            await fleet.hub.rollouts.create(plan)
        assert await fleet.hub.rollouts.list() == ()

    on_fleet(tmp_path, case)


def test_what_the_first_version_kept_is_moved_into_rows(tmp_path: Path) -> None:
    """A database of the version before is read after its migration, and goes back."""

    async def case() -> None:
        from alembic import command
        from alembic.config import Config

        from skerry.cloud.database import MIGRATIONS

        def to(revision: str, connection: Any) -> None:
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            verb = command.upgrade if revision != "0001-" else command.downgrade
            verb(config, revision.strip("-"))

        database = Database(sqlite_url(tmp_path / "hub.sqlite"))
        await database.run(lambda connection: to("0001", connection))
        table = tables.rollouts
        row = {
            "tenant": "main",
            "id": "r-1",
            "state": "running",
            "document": (GOLDEN / "rollout-1.json").read_text(),
            "started_at_ms": 1,
        }
        await database.run(
            lambda connection: connection.execute(insert(table).values(**row))
        )
        await database.migrate()
        store = RolloutStore("main")
        found = await database.run(lambda connection: store.find(connection, "r-1"))
        assert found is not None
        assert found.progress["gw-2"].reason == "latency: slow"
        assert found.progress["gw-1"].outcome is Outcome.UPDATED
        await database.run(lambda connection: to("0001-", connection))
        document = await database.run(
            lambda connection: connection.execute(select(table.c.document)).scalar_one()
        )
        assert set(msgspec.json.decode(document)["progress"]) == set(DEVICES)
        await database.close()

    asyncio.run(case())
