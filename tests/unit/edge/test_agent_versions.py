from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from skerry.comms.memory import MemoryBroker
from skerry.core.documents import Json
from skerry.evolve.delta import diff
from skerry.evolve.update_state import UpdatePolicy
from tests.agents import POLICY, Bench, FakeUplink, X, play
from tests.releases import NAME, small_release


@pytest.mark.parametrize("spoil", [lambda new: new + b"?", lambda new: new[:-1] + b"?"])
def test_a_delta_is_fetched_instead_of_the_model(
    tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    """Signed, from what is here, and smaller; a spoilt one costs a full download."""

    async def script(bench: Bench) -> None:
        for version in (1, 2, 3):
            old, new = (
                small_release(n).contents["model"] for n in (version - 1, version)
            )
            delta = diff(old, new)
            if version == 3:
                delta = diff(old, spoil(new))
            blob = bench.hub.publish_delta(old, new, delta)
            assert blob.size_bytes < len(new)
            bench.hub.opened.clear()
            await bench.get(version)
            model = small_release(version).manifest.models[0].blob
            assert (blob.sha256 in bench.hub.opened) == (version > 1)
            assert (model.sha256 in bench.hub.opened) == (version != 2)

    bench = play(tmp_path, script)
    (failure,) = bench.outbox.failures
    assert failure["reason"] == "corrupt"
    assert "delta" in failure["what"]


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

        async def slow(
            sha256: str, *, offset: int = 0, end: int | None = None
        ) -> AsyncIterator[bytes]:
            async for content in opened(sha256, offset=offset, end=end):
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
