from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.comms.codec import decode
from skerry.comms.memory import MemoryBroker
from skerry.core.clock import SystemClock
from skerry.core.documents import Json
from skerry.core.errors import (
    DataError,
    LinkError,
)
from skerry.core.release import AGENT_LEVEL, ReleaseId
from skerry.edge.agent import Agent, AgentSettings
from skerry.edge.desired import read_desired
from skerry.edge.downloads import free_bytes_of
from skerry.edge.engine import Engine
from skerry.edge.slots import Slots
from skerry.evolve.update_state import Want
from tests.agents import DOWN, UP, Bench, FakeUplink, X, play
from tests.releases import NAME, MemoryHub, small_release


def test_a_desired_release_is_fetched_and_serves(tmp_path: Path) -> None:
    """It ends in the shadow, in the log, in the slots, and nowhere in downloads."""

    async def script(bench: Bench) -> None:
        await bench.get(1)
        answer = await bench.engine.infer(NAME, X)
        assert answer.release == ReleaseId(name=NAME, version=1)
        await bench.until(
            lambda: bench.outbox.reported["serving"][NAME]["requests"] == 1
        )

    bench = play(tmp_path, script)
    running = bench.outbox.reported["releases"][NAME]
    assert running["blob"] == small_release(1).manifest.models[0].blob.sha256
    assert running["since_ms"] > 0
    assert bench.outbox.reported["agent"]["level"] == AGENT_LEVEL
    assert bench.outbox.reported["agent"]["sealed"] == "none"
    assert not bench.refused
    names = [event["name"] for event in bench.outbox.events]
    assert names[:2] == ["gateway.started", "update.started"]
    assert names[-1] == "release.accepted"
    assert bench.slots.facts(NAME).active == 1
    assert list((tmp_path / "downloads").rglob("*.part")) == []


def test_the_record_is_written_before_the_engine_switches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut in between brings back what has answered until then."""
    answered = []

    async def script(bench: Bench) -> None:
        await bench.get(1)
        switch = bench.slots.switch

        def note(release: ReleaseId, *, rollout: str) -> None:
            active = bench.engine.active(NAME)
            answered.append(active.id.version if active else None)
            switch(release, rollout=rollout)

        monkeypatch.setattr(bench.slots, "switch", note)
        await bench.get(2)

    play(tmp_path, script)
    assert answered == [1]


def test_only_what_changed_is_reported(tmp_path: Path) -> None:
    """No patch says what an earlier one said."""

    async def script(bench: Bench) -> None:
        await bench.get(1)

    bench = play(tmp_path, script)
    assert bench.outbox.patches[0]["agent"]["version"] == ""
    said: dict[tuple[str, str], object] = {}
    for patch in bench.outbox.patches:
        for section, values in patch.items():
            for key, value in values.items():
                assert said.get((section, key), "nothing") != value
                said[section, key] = value


def test_an_update_waits_for_another_load_of_its_name(tmp_path: Path) -> None:
    """Who has it loaded over HTTP delays it; it is no failure of the release."""

    async def script(bench: Bench) -> None:
        await bench.get(1)
        bench.engine._preparing.add(NAME)
        bench.hub.publish(small_release(2))
        bench.desire(2)
        phase = {"phase": "checking"}
        updates = bench.outbox.reported.setdefault("update", {})
        await bench.until(lambda: phase.items() <= updates.get(NAME, {}).items())
        await asyncio.sleep(0.05)
        assert not bench.serves(2)
        bench.engine._preparing.discard(NAME)
        await bench.until(lambda: bench.serves(2))
        assert bench.outbox.failures == []

    play(tmp_path, script)


MALFORMED: list[dict[str, Any]] = [
    {},
    {"version": "1", "desired": {}},
    {"version": True, "desired": {}},
    {"version": 9, "desired": []},
    {"version": 9, "desired": {"releases": 3}},
    {"version": 9, "desired": {"releases": {"Not a name": {"version": 1}}}},
    {"version": 9, "desired": {"releases": {NAME: {"version": 0}}}},
    {"version": 9, "desired": {"releases": {NAME: {"version": 1, "rollout": 3}}}},
    {"version": 9, "desired": {"releases": {NAME: None}}},
    {"version": 9, "desired": {"collect": 3}},
]


@pytest.mark.parametrize("body", MALFORMED)
def test_a_malformed_desire_is_told_and_passed_over(
    tmp_path: Path, body: dict[str, Any]
) -> None:
    """It serves on, and takes the next one that makes sense."""

    async def script(bench: Bench) -> None:
        await bench.get(1)
        bench.send("desired", body)
        await bench.until(lambda: bench.outbox.told("message.malformed"))
        assert (await bench.engine.infer(NAME, X)).release.version == 1
        bench.version = 10
        await bench.get(2)

    play(tmp_path, script)


def test_what_makes_sense_of_a_desire_is_taken() -> None:
    """Beside what does not."""
    wants = read_desired(
        {
            "version": 3,
            "desired": {"releases": {"a": {"version": 2}, "b": {"version": -1}}},
        }
    )
    assert wants.releases == {"a": Want(version=2, rollout="")}
    assert len(wants.faults) == 1
    with pytest.raises(DataError, match="no version"):
        read_desired({"desired": {}})


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff" * 100, b"[" * 70_000])
def test_what_is_no_message_is_told(tmp_path: Path, payload: bytes) -> None:
    """Whatever the broker delivers."""

    async def script(bench: Bench) -> None:
        await bench.online()
        bench.broker.route(f"{DOWN}/desired", payload, retain=False)
        await bench.until(lambda: bench.outbox.told("message.malformed"))
        bench.send("unheard-of", {})
        await bench.until(lambda: len(bench.outbox.told("message.malformed")) == 2)
        await bench.get(1)

    play(tmp_path, script)


def test_an_older_desire_is_ignored(tmp_path: Path) -> None:
    """A retained message of a broker that lags behind changes nothing."""

    async def script(bench: Bench) -> None:
        bench.version = 10
        await bench.get(1)
        bench.hub.publish(small_release(2))
        bench.version = 5
        bench.desire(2)
        bench.send("ping", {"id": "p"})
        await bench.until(lambda: any(topic == f"{UP}/pong" for topic, _ in bench.ups))
        assert bench.agent.states[NAME].desired == Want(version=1, rollout="r1")

    play(tmp_path, script)


def test_pings_are_answered_and_acks_handed_on(tmp_path: Path) -> None:
    """Those of another device are not."""

    async def script(bench: Bench) -> None:
        await bench.online()
        bench.send("ping", {"id": "other"}, device="gw2")
        bench.send("ping", {"id": "p1"})
        for kind in ("ack", "resend", "rejected"):
            bench.send(kind, {"epoch": "e", "seq": 1})
        await bench.until(lambda: len(bench.outbox.taken) == 3)

    bench = play(tmp_path, script)
    pongs = [message for topic, message in bench.ups if topic == f"{UP}/pong"]
    assert [pong.body for pong in pongs] == [{"id": "p1"}]
    assert pongs[0].seq == 0


def test_it_says_that_it_is_there_and_that_it_leaves(tmp_path: Path) -> None:
    """Retained, so that who comes later knows too."""

    async def script(bench: Bench) -> None:
        await bench.online()
        (_, said), *_ = bench.broker.retained(f"{UP}/status")
        body = decode(said).body
        assert body == {"is_online": True, "boot": body["boot"]}
        assert isinstance(body["boot"], str)

    bench = play(tmp_path, script)
    (_, said), *_ = bench.broker.retained(f"{UP}/status")
    assert decode(said).body == {"is_online": False}


def test_a_broker_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    """It serves, and takes what is desired when the broker is back."""

    async def script(bench: Bench) -> None:
        await bench.get(1)
        bench.broker.stop()
        await asyncio.sleep(0.05)
        assert (await bench.engine.infer(NAME, X)).release.version == 1
        bench.hub.publish(small_release(2))
        bench.broker.start()
        bench.desire(2)
        await bench.until(lambda: bench.serves(2))

    play(tmp_path, script)


def test_a_full_outbox_delays_what_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Updating goes on; the log is sent when there is room."""
    monkeypatch.setattr("skerry.edge.reporting._RETRY_S", 0.01)

    async def script(bench: Bench) -> None:
        bench.outbox.is_full = True
        bench.hub.publish(small_release(1))
        bench.desire(1)
        await bench.until(lambda: bench.slots.facts(NAME).active == 1)
        assert bench.outbox.events == []
        bench.outbox.is_full = False
        await bench.until(lambda: bench.serves(1))
        assert bench.outbox.events[0]["name"] == "gateway.started"

    play(tmp_path, script)


def test_the_agents_time_never_goes_back(tmp_path: Path) -> None:
    """A clock set back to 1970 goes on from where it was; one set right is followed."""

    class Wrong(SystemClock):
        unix = 1_000_000

        def unix_ms(self) -> int:
            return self.unix

    clock = Wrong()
    agent = Agent(
        AgentSettings(device="gw", folder=tmp_path),
        link=MemoryBroker().link("gw"),
        uplink=FakeUplink(),
        blobs=MemoryHub(),
        trust=MemoryHub(),
        engine=Engine(clock=clock),
        slots=Slots(tmp_path, target="any"),
        clock=clock,
        rng=np.random.default_rng(0),
    )
    assert agent.now_ms() >= 1_000_000
    clock.unix = 0
    assert agent.now_ms() >= 1_000_000
    clock.unix = 9_000_000
    assert agent.now_ms() == 9_000_000


def test_free_space_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    """The folder itself may not be there yet."""
    assert free_bytes_of(tmp_path / "a" / "b") > 0


def test_a_link_error_names_itself() -> None:
    """The fake hub speaks as the real one does."""
    hub = MemoryHub(is_down=True)
    with pytest.raises(LinkError, match="down"):
        hub.refresh()


def _desire(bench: Bench, *names: str) -> None:
    """Ask for a version of each of these names, and of no other."""
    bench.version += 1
    wanted: dict[str, Json] = {name: {"version": 1, "rollout": "r1"} for name in names}
    desired: Json = {"releases": wanted}
    bench.send("desired", {"version": bench.version, "desired": desired})


def test_ever_new_names_leave_nothing_behind(tmp_path: Path) -> None:
    """A hub that asks for names that nobody signed fills neither memory nor disk."""

    async def script(bench: Bench) -> None:
        await bench.get(1)
        for turn in range(3):
            names = [f"n{turn}-{number}" for number in range(40)]
            _desire(bench, NAME, *names)
            await bench.until(lambda n=names: set(n) <= set(bench.slots.names()))
        for _ in range(2):
            _desire(bench, NAME)
            await bench.until(lambda: bench.slots.names() == (NAME,))
        await bench.until(lambda: set(bench.agent.states) == {NAME})
        await bench.until(lambda: not bench.outbox.reported["refused"])
        assert set(bench.outbox.reported["serving"]) == {NAME}
        reporter = bench.agent.reporter
        await bench.until(lambda: not reporter._leaving)
        assert set(reporter._state["refused"]) == {NAME}
        assert set(reporter._sent["refused"]) == {NAME}

    play(tmp_path, script)


def test_too_many_names_at_once_are_left_out(tmp_path: Path) -> None:
    """Names on their way out count until they are gone."""

    async def script(bench: Bench) -> None:
        await bench.online()
        for turn in range(4):
            releases = {f"n{turn}-{n}": {"version": 1} for n in range(60)}
            body = {"version": turn + 1, "desired": {"releases": releases}}
            bench.agent._take_desired(body)
        assert len(bench.agent.states) == 128
        await bench.until(lambda: bench.outbox.told("message.malformed"))

    bench = play(tmp_path, script)
    assert "too many" in str(bench.outbox.told("message.malformed")[0]["what"])
