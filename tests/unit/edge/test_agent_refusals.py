from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skerry.core.budget import Budget
from skerry.core.errors import (
    StateError,
    TrustError,
)
from tests.agents import PLENTY, Bench, FakeUplink, X, play
from tests.releases import NAME, SmallRelease, small_release

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
