from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.comms.codec import decode
from skerry.comms.memory import MemoryBroker
from skerry.core.budget import Budget
from skerry.core.clock import SystemClock
from skerry.core.documents import Json
from skerry.core.errors import (
    DataError,
    LinkError,
    StateError,
    TrustError,
)
from skerry.core.release import ReleaseId
from skerry.edge.agent import Agent, AgentSettings, free_bytes_of, read_desired
from skerry.edge.engine import Engine
from skerry.edge.slots import Slots
from skerry.evolve.delta import diff
from skerry.evolve.update_state import UpdatePolicy, Want
from tests.agents import DOWN, PLENTY, POLICY, UP, Bench, FakeUplink, X, play
from tests.releases import NAME, MemoryHub, SmallRelease, small_release


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
    assert bench.outbox.reported["agent"]["level"] == 1
    assert not bench.refused
    names = [event["name"] for event in bench.outbox.events]
    assert names[:2] == ["gateway.started", "update.started"]
    assert names[-1] == "release.accepted"
    assert bench.slots.facts(NAME).active == 1
    assert list((tmp_path / "downloads").rglob("*.part")) == []


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


BAD: dict[str, tuple[Callable[[Bench, SmallRelease], None], dict[str, Any], str]] = {}


def _bad(reason: str, **settings: Any) -> Callable[..., None]:
    def keep(change: Callable[[Bench, SmallRelease], None]) -> None:
        BAD[change.__name__] = (change, settings, reason)

    return keep


@_bad("golden", expects=1.0)
def _broken_model(bench: Bench, release: SmallRelease) -> None:
    bench.hub.publish(release)


@_bad("too-new", requires=99)
def _needs_a_newer_agent(bench: Bench, release: SmallRelease) -> None:
    bench.hub.publish(release)


@_bad("size", budget=Budget(size_bytes=10))
def _over_budget(bench: Bench, release: SmallRelease) -> None:
    bench.hub.publish(release)


@_bad("corrupt")
def _flipped_byte(bench: Bench, release: SmallRelease) -> None:
    bench.hub.publish(release)
    sha256 = release.manifest.models[0].blob.sha256
    content = bytearray(bench.hub.blobs[sha256])
    content[7] ^= 1
    bench.hub.blobs[sha256] = bytes(content)


@_bad("untrusted")
def _not_signed(bench: Bench, release: SmallRelease) -> None:
    bench.hub.publish(release)
    bench.hub.withdraw(release.manifest.id)


@_bad("untrusted")
def _unknown_key(bench: Bench, release: SmallRelease) -> None:
    bench.hub.publish(release)
    bench.hub.errors.append(TrustError("an unknown key", hint="Never."))


@_bad("replayed")
def _old_metadata(bench: Bench, release: SmallRelease) -> None:
    bench.hub.publish(release)
    bench.hub.errors.append(TrustError("old", hint="Never.", reason="replayed"))


@_bad("load")
def _does_not_load(bench: Bench, release: SmallRelease) -> None:
    bench.hub.publish(release)
    bench.runtime.broken.add(release.contents["model"])


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_release_is_refused(tmp_path: Path, name: str) -> None:
    """Each with its reason, while the one before serves on; the next good one comes."""
    change, settings, reason = BAD[name]

    async def script(bench: Bench) -> None:
        await bench.get(1)
        change(bench, small_release(2, **settings))
        bench.desire(2)
        await bench.until(lambda: bench.refused)
        assert bench.refused["reason"] == reason
        assert bench.refused["release"] == "meter/2"
        assert bench.refused["rollout"] == "r2"
        assert bench.refused["what"]
        assert (await bench.engine.infer(NAME, X)).release.version == 1
        assert bench.outbox.told("release.refused")[0]["reason"] == reason
        is_trust = reason in {"untrusted", "replayed", "corrupt"}
        assert bool(bench.outbox.told("trust.refused")) == is_trust
        await bench.get(3)
        assert not bench.refused

    bench = play(tmp_path, script)
    assert bench.slots.facts(NAME).active == 3


def test_a_refusal_outlives_a_restart(tmp_path: Path) -> None:
    """It is not fetched again, until another rollout asks for it."""
    bench = Bench(tmp_path)

    async def run() -> None:
        async with bench.gateway():
            await bench.get(1)
            bench.hub.publish(small_release(2, expects=1.0))
            bench.desire(2)
            await bench.until(lambda: bench.slots.facts(NAME).refused)
        bench.hub.opened.clear()
        bench.outbox = FakeUplink()
        async with bench.gateway():
            await bench.until(lambda: bench.refused)
            await asyncio.sleep(0.1)
            assert bench.hub.opened == []
            bench.hub.publish(small_release(2))
            bench.desire(2, "again")
            await bench.until(lambda: bench.serves(2))

    asyncio.run(run())


def _no_blobs(bench: Bench) -> Callable[[], None]:
    blobs = dict(bench.hub.blobs)
    bench.hub.blobs.clear()
    return lambda: bench.hub.blobs.update(blobs)


def _no_hub(bench: Bench) -> Callable[[], None]:
    bench.hub.is_down = True
    return lambda: setattr(bench.hub, "is_down", False)


def _no_room(bench: Bench) -> Callable[[], None]:
    bench.free = 1000
    return lambda: setattr(bench, "free", PLENTY)


def _expired(bench: Bench) -> Callable[[], None]:
    error = TrustError("too old", hint="Sign again.", reason="expired")
    bench.hub.errors += [error] * 1000
    return bench.hub.errors.clear


def _nonsense(bench: Bench) -> Callable[[], None]:
    bench.hub.errors += [StateError("status 500", hint="Look.")] * 1000
    return bench.hub.errors.clear


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (_no_blobs, "unreachable"),
        (_no_hub, "unreachable"),
        (_no_room, "storage"),
        (_expired, "expired"),
        (_nonsense, "unreachable"),
    ],
)
def test_what_may_pass_is_waited_for(
    tmp_path: Path, break_it: Callable[[Bench], Callable[[], None]], reason: str
) -> None:
    """Reported as waiting with its reason; it serves on, and updates in the end."""

    async def script(bench: Bench) -> None:
        await bench.get(1)
        bench.hub.publish(small_release(2))
        mend = break_it(bench)
        bench.desire(2)
        await bench.until(lambda: len(bench.outbox.failures) > 2)
        assert bench.refused["reason"] == reason
        await bench.until(
            lambda: bench.outbox.reported["update"][NAME]["phase"] == "waiting"
        )
        assert bench.outbox.reported["update"][NAME]["retry_at_ms"] > 0
        assert (await bench.engine.infer(NAME, X)).release.version == 1
        mend()
        await bench.until(lambda: bench.serves(2))
        assert not bench.refused

    play(tmp_path, script)


def test_a_broken_download_goes_on_where_it_ended(tmp_path: Path) -> None:
    """Also after a restart: what came is kept."""

    async def script(bench: Bench) -> None:
        bench.hub.publish(small_release(1))
        bench.hub.n_break = 7
        bench.desire(1)
        await bench.until(lambda: bench.serves(1))

    bench = play(tmp_path, script)
    assert len(bench.outbox.failures) == 1


def test_a_bug_in_an_update_stops_nothing(tmp_path: Path) -> None:
    """It is logged, waited for, and tried again; then refused, and serving goes on."""

    async def script(bench: Bench) -> None:
        await bench.get(1)
        bench.hub.publish(small_release(2))
        bench.hub.errors += [ZeroDivisionError("oops")] * 2
        bench.desire(2)
        await bench.until(lambda: bench.serves(2))
        assert len(bench.outbox.failures) == 2
        assert not bench.outbox.told("release.refused")
        bench.hub.publish(small_release(3))
        bench.hub.errors += [ZeroDivisionError("oops")] * 9
        bench.desire(3)
        await bench.until(lambda: bench.refused)
        assert "oops" in bench.refused["what"]
        assert (await bench.engine.infer(NAME, X)).release.version == 2

    play(tmp_path, script)


def test_a_delta_is_fetched_instead_of_the_model(tmp_path: Path) -> None:
    """Signed, from what is here, and smaller; a spoilt one costs a full download."""

    async def script(bench: Bench) -> None:
        for version in (1, 2, 3):
            old, new = (
                small_release(n).contents["model"] for n in (version - 1, version)
            )
            delta = diff(old, new)
            if version == 3:
                delta = diff(old, new + b"?")
            blob = bench.hub.publish_delta(old, new, delta)
            assert blob.size_bytes < len(new)
            bench.hub.opened.clear()
            await bench.get(version)
            model = small_release(version).manifest.models[0].blob
            assert (blob.sha256 in bench.hub.opened) == (version > 1)
            assert (model.sha256 in bench.hub.opened) == (version != 2)

    bench = play(tmp_path, script)
    assert [event["reason"] for event in bench.outbox.failures] == ["corrupt"]


def test_a_delta_that_the_hub_has_lost_costs_a_full_download(tmp_path: Path) -> None:
    """It only saves bytes: the release comes without it."""

    async def script(bench: Bench) -> None:
        await bench.get(1)
        old, new = (small_release(n).contents["model"] for n in (1, 2))
        delta = bench.hub.publish_delta(old, new, diff(old, new))
        del bench.hub.blobs[delta.sha256]
        await bench.get(2)
        assert delta.sha256 in bench.hub.opened

    bench = play(tmp_path, script)
    assert not bench.outbox.told("release.refused")


def test_names_that_share_a_blob_do_not_spoil_each_others(tmp_path: Path) -> None:
    """Two releases with the same task and golden samples come at the same time."""
    names = ("meter", "clock", "valve")

    async def script(bench: Bench) -> None:
        opened = bench.hub.open

        async def slow(sha256: str, *, offset: int = 0) -> AsyncIterator[bytes]:
            async for content in opened(sha256, offset=offset):
                for index in range(0, len(content), 16):
                    await asyncio.sleep(0)
                    yield content[index : index + 16]

        bench.hub.open = slow  # type: ignore[method-assign]
        for name in names:
            bench.hub.publish(small_release(1, name=name))
        wanted: Json = {name: {"version": 1, "rollout": "r1"} for name in names}
        bench.send("desired", {"version": 1, "desired": {"releases": wanted}})
        running = bench.outbox.reported
        await bench.until(
            lambda: (
                set(running.get("releases", {})) | set(running.get("refused", {}))
                == set(names)
            )
        )
        assert not running.get("refused")

    bench = play(tmp_path, script)
    assert bench.outbox.failures == []


def test_what_is_here_is_not_fetched_again(tmp_path: Path) -> None:
    """Golden samples and task are the same in each release: only the model comes."""

    async def script(bench: Bench) -> None:
        await bench.get(1)
        bench.hub.opened.clear()
        await bench.get(2)
        assert len(bench.hub.opened) == 2

    play(tmp_path, script)


def test_undo_needs_no_network(tmp_path: Path) -> None:
    """With the hub's HTTP down it goes back to the standby slot."""

    async def script(bench: Bench) -> None:
        await bench.get(1)
        await bench.get(2)
        bench.hub.is_down = True
        bench.desire(1)
        await bench.until(lambda: bench.serves(1))
        assert bench.slots.facts(NAME).standby == 2

    play(tmp_path, script)


def test_an_older_release_is_refused_as_replayed(tmp_path: Path) -> None:
    """Once it is not in the standby slot any more."""

    async def script(bench: Bench) -> None:
        for version in (1, 2, 3):
            await bench.get(version)
        bench.desire(1)
        await bench.until(lambda: bench.refused)
        assert bench.refused["reason"] == "replayed"
        assert (await bench.engine.infer(NAME, X)).release.version == 3

    play(tmp_path, script)


def test_a_release_that_fails_on_probation_is_rolled_back(tmp_path: Path) -> None:
    """It passed all checks and then answers NaN: the one before serves again."""

    async def script(bench: Bench) -> None:
        await bench.get(1)
        release = small_release(2)
        bench.hub.publish(release)
        bench.runtime.nan.add(release.contents["model"])
        bench.desire(2)
        await _fail_on_probation(bench)
        assert bench.refused["reason"] == "probation"
        assert "NaN" in bench.refused["what"]
        assert (await bench.engine.infer(NAME, X)).release.version == 1

    bench = play(tmp_path, script)
    assert bench.slots.facts(NAME).active == 1
    assert bench.slots.facts(NAME).standby is None


LONG = UpdatePolicy(probation_s=60, backoff_s=0.02)


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_gateway_that_dies_on_probation(tmp_path: Path, *, is_killed: bool) -> None:
    """Once is bad luck, twice is the release's fault; a stop on purpose is neither."""
    bench = Bench(tmp_path)

    async def run() -> None:
        async with bench.gateway():
            await bench.get(1)
        bench.policy = LONG
        bench.hub.publish(small_release(2))
        async with bench.gateway(is_killed=is_killed):
            bench.desire(2)
            await bench.until(lambda: bench.slots.facts(NAME).trial)
        async with bench.gateway(is_killed=is_killed):
            assert (await bench.engine.infer(NAME, X)).release.version == 2
            assert bench.engine.versions(NAME) == (2, 1)
        bench.outbox = FakeUplink()
        bench.policy = POLICY
        async with bench.gateway():
            if is_killed:
                await bench.until(lambda: bench.refused)
                assert bench.refused["reason"] == "probation"
                assert bench.refused["rollout"] == "r2"
                assert (await bench.engine.infer(NAME, X)).release.version == 1
                assert bench.outbox.told("gateway.trouble")
            else:
                await bench.until(lambda: bench.serves(2))

    asyncio.run(run())


async def _fail_on_probation(bench: Bench) -> None:
    """Ask until the release on probation has been rolled back."""
    async with asyncio.timeout(10):
        while not bench.refused:
            active = bench.engine.active(NAME)
            bench.runtime.is_serving = active is not None and active.id.version == 2
            await bench.engine.infer(NAME, X)
            await asyncio.sleep(0.005)


def test_a_roll_back_after_a_restart_loads_what_was_not_loaded(tmp_path: Path) -> None:
    """The release before could not be loaded at the start, but now it can."""
    bench = Bench(tmp_path)

    async def run() -> None:
        async with bench.gateway():
            await bench.get(1)
        bench.policy = LONG
        bench.hub.publish(small_release(2))
        async with bench.gateway(is_killed=True):
            bench.desire(2)
            await bench.until(lambda: bench.slots.facts(NAME).trial)
        old = small_release(1).contents["model"]
        bench.runtime.broken.add(old)
        bench.runtime.nan.add(small_release(2).contents["model"])
        async with bench.gateway():
            assert bench.engine.versions(NAME) == (2,)
            bench.runtime.broken.clear()
            await _fail_on_probation(bench)
            assert bench.refused["reason"] == "probation"
            assert (await bench.engine.infer(NAME, X)).release.version == 1
            assert bench.slots.facts(NAME).active == 1

    asyncio.run(run())


def test_a_trial_that_does_not_load_any_more_is_rolled_back(tmp_path: Path) -> None:
    """At the start, with its reason in the shadow."""
    bench = Bench(tmp_path)

    async def run() -> None:
        async with bench.gateway():
            await bench.get(1)
        bench.policy = LONG
        bench.hub.publish(small_release(2))
        async with bench.gateway():
            bench.desire(2)
            await bench.until(lambda: bench.slots.facts(NAME).trial)
        bench.runtime.broken.add(small_release(2).contents["model"])
        bench.outbox = FakeUplink()
        async with bench.gateway():
            await bench.until(lambda: bench.refused)
            assert bench.refused["reason"] == "load"
            assert (await bench.engine.infer(NAME, X)).release.version == 1
            assert bench.slots.facts(NAME).standby is None

    asyncio.run(run())


def test_an_agent_that_is_run_again_goes_on(tmp_path: Path) -> None:
    """What was desired still is: the broker does not say it again."""

    async def script(bench: Bench) -> None:
        await bench.get(1)
        bench.hub.is_down = True
        bench.hub.publish(small_release(2))
        bench.desire(2)
        await bench.until(lambda: bench.outbox.failures)
        again = asyncio.create_task(bench.agent.run())
        bench.hub.is_down = False
        await bench.until(lambda: bench.serves(2))
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)

    play(tmp_path, script)


def test_a_release_that_stops_loading_gives_way_and_comes_back(tmp_path: Path) -> None:
    """The standby slot serves at the start; the agent brings back what is desired."""
    bench = Bench(tmp_path)

    async def run() -> None:
        async with bench.gateway():
            await bench.get(1)
            await bench.get(2)
        bench.runtime.broken.add(small_release(2).contents["model"])
        bench.outbox = FakeUplink()
        bench.broker = MemoryBroker()
        async with bench.gateway():
            assert (await bench.engine.infer(NAME, X)).release.version == 1
            bench.runtime.broken.clear()
            bench.desire(2)
            await bench.until(lambda: bench.serves(2))

    asyncio.run(run())


def test_nothing_whole_is_fetched_again(tmp_path: Path) -> None:
    """Both slots damaged: nothing serves, it is told, and the release is fetched."""
    bench = Bench(tmp_path)

    async def run() -> None:
        async with bench.gateway():
            await bench.get(1)
        for path in (tmp_path / "slots" / NAME).rglob("model.onnx"):
            path.write_bytes(b"?")
        bench.outbox = FakeUplink()
        async with bench.gateway():
            assert bench.engine.names() == ()
            await bench.until(lambda: bench.serves(1))
            assert "damaged" in bench.outbox.told("gateway.trouble")[0]["what"]

    asyncio.run(run())


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
        assert decode(said).body == {"is_online": True}

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
