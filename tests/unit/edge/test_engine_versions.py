from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.errors import ConflictError, RefusedError, RuntimeFailure, UsageError
from skerry.core.release import ReleaseId
from skerry.edge.engine import Engine, ProbationEnd, Routing
from skerry.edge.loaded import COMPARED_WITHIN_S, MOST_COMPARED
from skerry.evolve.probation import FEWEST_ANSWERS
from tests.gated import Bench, until
from tests.serving import X, install


def _run(
    folder: Path, story: Callable[[Bench], Awaitable[None]], **options: Any
) -> None:
    bench = Bench(folder, **options)

    async def whole() -> None:
        try:
            await story(bench)
        finally:
            bench.close()

    asyncio.run(whole())


async def _versions(engine: Engine, n: int = 20) -> dict[int, int]:
    """How many requests each version answers; each answer is its own."""
    counts: dict[int, int] = {}
    for _ in range(n):
        found = engine.find("meter")
        answer = await engine.infer("meter", {"x": X})
        version = answer.release.version
        assert found.id == answer.release
        np.testing.assert_array_equal(answer.outputs["y"], X * version)
        counts[version] = counts.get(version, 0) + 1
    return counts


def test_a_pinned_version_serves_whatever_is_switched_in(tmp_path: Path) -> None:
    """Others are loaded beside it and answer whoever names them."""

    async def story(bench: Bench) -> None:
        engine = bench.engine
        bench.switch(1)
        engine.route("meter", Routing(kind="pinned", version=1))
        bench.switch(2)
        bench.switch(3)
        assert engine.versions("meter") == (3, 2, 1)
        assert await _versions(engine) == {1: 20}
        for version in (3, 2, 1):
            answer = await engine.infer("meter", {"x": X}, version=version)
            assert answer.release.version == version
        active = engine.active("meter")
        assert active is not None
        assert active.id.version == 3
        assert engine.figures("meter").release.version == 3
        assert engine.figures("meter", version=1).requests == 21
        engine.settle("meter")
        await until(lambda: bench.runtime.sessions[1].is_closed)
        assert engine.versions("meter") == (3, 1)
        engine.route("meter", Routing())
        await until(lambda: bench.runtime.sessions[0].is_closed)
        assert await _versions(engine) == {3: 20}
        assert engine.routing("meter") == Routing()

    _run(tmp_path, story)


def test_a_canary_is_split_evenly_and_ends_with_its_roll_back(tmp_path: Path) -> None:
    """A quarter of any stretch; requests that name a version are not counted.

    But those are that were chosen first and then asked by their version.
    """

    async def story(bench: Bench) -> None:
        engine = bench.engine
        bench.switch(1)
        engine.route("meter", Routing(kind="canary", share=0.25))
        assert await _versions(engine) == {1: 20}
        bench.switch(2)
        for _ in range(5):
            counts = await _versions(engine)
            assert counts[2] == pytest.approx(5, abs=1)
            await engine.infer("meter", {"x": X}, version=2)
        chosen = [engine.choose("meter").id.version for _ in range(20)]
        assert chosen.count(2) == pytest.approx(5, abs=1)
        assert engine.roll_back("meter") == ReleaseId(name="meter", version=1)
        assert await _versions(engine) == {1: 20}

    _run(tmp_path, story)


def test_what_is_not_served_has_no_routing(tmp_path: Path) -> None:
    """A wrong name, and a version that is not loaded."""

    async def story(bench: Bench) -> None:
        bench.switch(1)
        for ask in (bench.engine.routing, bench.engine.disagreements):
            with pytest.raises(UsageError, match="under the name 'metre'"):
                ask("metre")
        with pytest.raises(UsageError, match="version 2 of 'meter'"):
            bench.engine.route("meter", Routing(kind="pinned", version=2))
        with pytest.raises(UsageError, match="version 2 of 'meter'"):
            bench.engine.figures("meter", version=2)

    _run(tmp_path, story)


def test_a_shadow_runs_each_request_and_answers_none(tmp_path: Path) -> None:
    """Its disagreement is recorded: here twice the output is a distance of 1."""

    async def story(bench: Bench) -> None:
        engine = bench.engine
        bench.switch(1)
        engine.route("meter", Routing(kind="shadow"))
        assert engine.disagreements("meter") is None
        candidate = bench.switch(2)
        for n in range(1, 11):
            x = np.roll(X, n) * n
            answer = await engine.infer("meter", {"x": x})
            assert answer.release.version == 1
            answer.outputs["y"][:] = 0  # it is the caller's
            await until(lambda n=n: len(candidate.begun) == n)
        await until(lambda: engine.figures("meter").running == 0)
        await until(lambda: _compared(engine) == 10)
        found = engine.disagreements("meter")
        assert found is not None
        assert (found.stable.version, found.candidate.version) == (1, 2)
        assert (found.differing, found.skipped, found.failed) == (10, 0, 0)
        assert found.mean_distance == found.worst_distance == pytest.approx(1.0)
        assert (found.other_class, len(found.last)) == (0, 8)
        assert found.last[-1].is_same_class is True
        assert engine.figures("meter").requests == 10

    _run(tmp_path, story)


def _compared(engine: Engine) -> int:
    found = engine.disagreements("meter")
    return found.compared + found.failed if found else 0


def test_a_shadow_that_hangs_or_fails_delays_nobody(tmp_path: Path) -> None:
    """Answers come all the same; what it does not get to run is counted."""

    async def story(bench: Bench) -> None:
        engine = bench.engine
        bench.switch(1)
        candidate = bench.switch(2)
        engine.route("meter", Routing(kind="shadow", version=2))
        candidate.shut()
        assert await _versions(engine, MOST_COMPARED + 5) == {1: MOST_COMPARED + 5}
        found = engine.disagreements("meter")
        assert found is not None
        assert (found.compared, found.skipped) == (0, 5)
        candidate.fault = RuntimeFailure("it stumbled", hint="Wait.")
        candidate.open()
        await until(lambda: _compared(engine) == MOST_COMPARED)
        found = engine.disagreements("meter")
        assert found is not None
        assert (found.compared, found.failed) == (0, MOST_COMPARED)
        assert engine.figures("meter").failed == MOST_COMPARED
        assert engine.figures("meter", version=1).failed == 0

    _run(tmp_path, story, cpus=2)


def test_a_shadow_gives_way_to_who_waits_for_an_answer(tmp_path: Path) -> None:
    """With one CPU, all who wait are answered before the candidate runs."""

    async def story(bench: Bench) -> None:
        engine = bench.engine
        stable = bench.switch(1)
        candidate = bench.switch(2)
        engine.route("meter", Routing(kind="shadow"))
        stable.shut()
        asked = [asyncio.create_task(engine.infer("meter", {"x": X})) for _ in range(4)]
        for n in range(4):
            await until(lambda n=n: len(stable.begun) == n + 1)
            assert candidate.begun == []
            stable.let()
        await asyncio.gather(*asked)
        await until(lambda: len(candidate.begun) == 4)

    _run(tmp_path, story, cpus=1)


def test_a_shadow_that_hangs_is_late_and_one_without_a_turn_is_not(
    tmp_path: Path,
) -> None:
    """What it ran and did not end in time is its failure; the rest it skipped."""

    async def story(bench: Bench) -> None:
        engine, clock = bench.engine, bench.clock
        bench.switch(1)
        candidate = bench.switch(2)
        engine.route("meter", Routing(kind="shadow"))
        candidate.shut()
        assert await _versions(engine, 3) == {1: 3}
        await until(lambda: len(candidate.begun) == 1)
        assert engine.figures("meter").requests == 3
        clock.advance(wall_s=COMPARED_WITHIN_S)
        await until(lambda: _compared(engine) == 1)
        found = engine.disagreements("meter")
        assert found is not None
        assert (found.compared, found.skipped, found.failed) == (0, 2, 1)
        figures = engine.figures("meter")
        assert (figures.requests, figures.late) == (1, 1)
        clock.advance(wall_s=1)
        await until(lambda: engine._turns._free == 2)
        candidate.open()
        assert await _versions(engine, 3) == {1: 3}
        await until(lambda: _compared(engine) == 4)

    _run(tmp_path, story, clock=FakeClock(), cpus=2)


def test_only_one_load_at_a_time_of_a_name(tmp_path: Path) -> None:
    """The second is told so at once, another name's is loaded, and so is the next."""

    async def story(bench: Bench) -> None:
        engine, runtime = bench.engine, bench.runtime
        bench.switch(1)
        runtime.load_gate.clear()
        runtime.loading.clear()
        first = asyncio.create_task(
            asyncio.to_thread(engine.prepare, install(tmp_path, 2, gain=2))
        )
        await until(runtime.loading.is_set)
        third = install(tmp_path, 3, gain=3)
        with pytest.raises(ConflictError, match="another release of 'meter'"):
            engine.prepare(third)
        other = asyncio.create_task(
            asyncio.to_thread(engine.prepare, install(tmp_path, 1, name="other"))
        )
        assert await _versions(engine) == {1: 20}
        runtime.load_gate.set()
        engine.switch(await first)
        engine.switch(await other)
        engine.switch(engine.prepare(third))
        assert engine.names() == ("meter", "other")
        bad = install(tmp_path, 4, gain=4, golden=b"none")
        for _ in range(2):
            with pytest.raises(RefusedError):
                engine.prepare(bad)

    _run(tmp_path, story)


async def _serve_until(
    bench: Bench, watching: asyncio.Task[ProbationEnd], wall_s: float = 0.25
) -> ProbationEnd:
    """Ask on while time passes, until the probation has ended."""
    async with asyncio.timeout(20):
        for n in range(100_000):
            if watching.done():
                break
            x = np.roll(X, n) * np.float32(1 + n % 7)
            await asyncio.gather(
                bench.engine.infer("meter", {"x": x}), return_exceptions=True
            )
            await asyncio.sleep(0.001)  # in which the fallback runs it too
            if n % 2:
                bench.clock.advance(wall_s=wall_s)
    return await watching


@pytest.mark.parametrize("fault", ["raise", "nan", "stuck", ""])
def test_a_release_on_probation_is_rolled_back_by_itself(
    fault: str, tmp_path: Path
) -> None:
    """As soon as it fails, answers NaN, or always the same; a sound one settles."""

    async def story(bench: Bench) -> None:
        engine = bench.engine
        bench.switch(1)
        session = bench.switch(2)
        if fault == "raise":
            session.fault = RuntimeFailure("it stumbled", hint="Wait.")
        elif fault == "nan":
            session.gain = float("nan")
        elif fault == "stuck":
            session.gain = 0.0
        watching = asyncio.create_task(
            engine.watch("meter", probation_s=FEWEST_ANSWERS)
        )
        ended = await _serve_until(bench, watching)
        rolled_back = ProbationEnd.ROLLED_BACK if fault else ProbationEnd.SETTLED
        assert ended is rolled_back
        assert engine.versions("meter") == ((1,) if fault else (2,))
        assert await _versions(engine) == {engine.versions("meter")[0]: 20}

    _run(tmp_path, story, clock=FakeClock())


def test_a_first_release_settles_whatever_it_does(tmp_path: Path) -> None:
    """There is nothing to go back to."""

    async def story(bench: Bench) -> None:
        bench.switch(1).gain = float("inf")
        watching = asyncio.create_task(bench.engine.watch("meter", probation_s=2))
        assert await _serve_until(bench, watching) is ProbationEnd.SETTLED
        assert bench.engine.names() == ("meter",)
        assert await bench.engine.watch("metre") is ProbationEnd.OVERTAKEN

    _run(tmp_path, story, clock=FakeClock())


@pytest.mark.parametrize("what", ["switch", "roll_back", "settle", "remove"])
def test_a_probation_is_overtaken_by_what_others_do(what: str, tmp_path: Path) -> None:
    """It does nothing to a release that it was not set to watch."""

    async def story(bench: Bench) -> None:
        engine = bench.engine
        bench.switch(1)
        bench.switch(2)
        watching = asyncio.create_task(engine.watch("meter", probation_s=2))
        await asyncio.sleep(0)
        if what == "switch":
            bench.switch(3)
        else:
            getattr(engine, what)("meter")
        left = engine.versions("meter")
        async with asyncio.timeout(20):
            while not watching.done():
                bench.clock.advance(wall_s=0.25)
                await asyncio.sleep(0)
        ended = ProbationEnd.SETTLED if what == "settle" else ProbationEnd.OVERTAKEN
        assert await watching is ended
        assert engine.versions("meter") == left

    _run(tmp_path, story, clock=FakeClock())


def test_a_shadow_on_probation_is_judged_by_what_it_ran(tmp_path: Path) -> None:
    """It never answered anybody, and is rolled back all the same."""

    async def story(bench: Bench) -> None:
        engine = bench.engine
        bench.switch(1)
        engine.route("meter", Routing(kind="shadow"))
        bench.switch(2).fault = RuntimeFailure("it stumbled", hint="Wait.")
        watching = asyncio.create_task(engine.watch("meter", probation_s=100))
        assert await _serve_until(bench, watching) is ProbationEnd.ROLLED_BACK
        assert await _versions(engine) == {1: 20}

    _run(tmp_path, story, clock=FakeClock())


def test_pairs_are_counted_nowhere_else(tmp_path: Path) -> None:
    """The fallback runs some requests too; its figures stay what they were."""

    async def story(bench: Bench) -> None:
        engine = bench.engine
        old = bench.switch(1)
        bench.switch(2)
        for n in range(1, 6):
            await engine.infer("meter", {"x": X})
            await until(lambda n=n: len(old.begun) == n)
            await until(lambda n=n: _pairs(engine) == n)
        figures = engine.figures("meter")
        assert figures.requests == 5
        assert figures.before is not None
        assert figures.before.requests == 0
        assert figures.pairs.crowds["y"].n == 1
        engine.settle("meter")
        assert _pairs(engine) == 0

    _run(tmp_path, story)


@pytest.mark.parametrize("kind", ["latest", "shadow"])
def test_who_is_answered_after_the_name_is_gone_compares_nothing(
    kind: Any, tmp_path: Path
) -> None:
    """What would run it too is gone as well, and keeps no turn for it."""

    async def story(bench: Bench) -> None:
        engine = bench.engine
        first, second = bench.switch(1), bench.switch(2)
        engine.route("meter", Routing(kind=kind))
        answering, other = (second, first) if kind == "latest" else (first, second)
        answering.shut()
        asked = asyncio.create_task(engine.infer("meter", {"x": X}))
        await until(lambda: len(answering.begun) == 1)
        engine.remove("meter")
        await until(lambda: other.is_closed)
        answering.open()
        assert (await asked).release.name == "meter"
        await until(lambda: answering.is_closed)
        assert other.begun == []
        assert engine._turns._free == 1

    _run(tmp_path, story, cpus=1)


def _pairs(engine: Engine) -> int:
    return len(engine.figures("meter").pairs.latencies_ms)
