from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from skerry.core.clock import FakeClock, SystemClock
from skerry.core.errors import (
    BusyError,
    DataError,
    LateError,
    RefusedError,
    RuntimeFailure,
    UsageError,
)
from skerry.core.model import TensorSpec
from skerry.core.release import Blob, ReleaseId, ReleaseModel
from skerry.core.seams import Array, Runtime
from skerry.edge.engine import Answer, Engine
from skerry.edge.installed import Installed
from skerry.runtimes import get_runtime
from skerry.runtimes.onnxruntime import OnnxRuntime
from skerry.tasks.golden import Golden, GoldenSample, golden_to_bytes
from tests import models
from tests.serving import ScriptedRuntime, X, golden_bytes, install, install_files


class _Bench:
    """An engine, the runtime behind it, and the releases put in front of it."""

    def __init__(
        self, folder: Path, *, threads: int = 1, max_waiting: int = 64
    ) -> None:
        self.runtime = ScriptedRuntime()
        self.engine = Engine(
            clock=SystemClock(),
            runtimes=lambda _: self.runtime,
            threads=threads,
            max_waiting=max_waiting,
            check_limit_s=20,
        )
        self._folder = folder

    def switch(self, version: int = 1, **script: object) -> None:
        """Install, prepare and switch to a release that cannot fail the check."""
        installed = install(self._folder, version, **script)  # type: ignore[arg-type]
        self.engine.switch(self.engine.prepare(installed))

    async def wait_open(self, *expected: int) -> None:
        """Wait until only these of the sessions, counted from 0, are open."""
        await _until(
            lambda: (
                [i for i, s in enumerate(self.runtime.sessions) if not s.is_closed]
                == list(expected)
            )
        )


async def _until(is_so: Callable[[], bool]) -> None:
    """Wait for what a thread will bring about."""
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 (no event tells it)
            await asyncio.sleep(0.001)


def _run(
    folder: Path,
    story: Callable[[_Bench], Awaitable[None]],
    *,
    threads: int = 1,
    max_waiting: int = 64,
) -> None:
    bench = _Bench(folder, threads=threads, max_waiting=max_waiting)

    async def whole() -> None:
        try:
            await story(bench)
        finally:
            bench.engine.close()

    asyncio.run(whole())


def test_an_answer_names_its_release_and_blob(tmp_path: Path) -> None:
    """What answers can be proven from the answer alone."""

    async def story(bench: _Bench) -> None:
        bench.switch(3, gain=5)
        answer = await bench.engine.infer("meter", {"x": X})
        active = bench.engine.active("meter")
        assert active is not None
        assert answer.release == ReleaseId(name="meter", version=3)
        assert answer.blob == active.model.blob.sha256
        assert answer.latency_ms >= 0
        np.testing.assert_array_equal(answer.outputs["y"], X * 5)
        assert bench.engine.names() == ("meter",)
        assert bench.engine.active("other") is None

    _run(tmp_path, story)


def test_what_is_not_loaded_is_not_found(tmp_path: Path) -> None:
    """A wrong name and a wrong version each say what there is."""

    async def story(bench: _Bench) -> None:
        bench.switch(1)
        with pytest.raises(UsageError, match="under the name 'metre'") as caught:
            await bench.engine.infer("metre", {"x": X})
        assert caught.value.hint == "Did you mean 'meter'?"
        with pytest.raises(UsageError, match="version 7 of 'meter' is not") as caught:
            await bench.engine.infer("meter", {"x": X}, version=7)
        assert caught.value.hint == "Loaded: 1."
        with pytest.raises(UsageError):
            bench.engine.figures("metre")

    _run(tmp_path, story)


def test_the_old_release_is_kept_until_the_new_one_has_settled(tmp_path: Path) -> None:
    """On probation both answer by version; after it the old one is closed."""

    async def story(bench: _Bench) -> None:
        bench.switch(1, gain=1)
        bench.switch(2, gain=2)
        assert bench.engine.versions("meter") == (2, 1)
        for version, gain in ((None, 2), (1, 1), (2, 2)):
            answer = await bench.engine.infer("meter", {"x": X}, version=version)
            np.testing.assert_array_equal(answer.outputs["y"], X * gain)
        bench.engine.settle("meter")
        bench.engine.settle("meter")
        await bench.wait_open(1)
        assert bench.engine.versions("meter") == (2,)
        assert bench.engine.roll_back("meter") is None

    _run(tmp_path, story)


def test_a_roll_back_is_immediate_and_closes_the_new_one(tmp_path: Path) -> None:
    """The release before serves again, with its figures."""

    async def story(bench: _Bench) -> None:
        bench.switch(1, gain=1)
        await bench.engine.infer("meter", {"x": X})
        bench.switch(2, gain=2)
        assert bench.engine.roll_back("meter") == ReleaseId(name="meter", version=1)
        answer = await bench.engine.infer("meter", {"x": X})
        assert answer.release.version == 1
        await bench.wait_open(0)
        assert bench.engine.figures("meter").requests == 2
        assert bench.engine.roll_back("other") is None

    _run(tmp_path, story)


def test_a_third_release_closes_the_first(tmp_path: Path) -> None:
    """There is one fallback at most."""

    async def story(bench: _Bench) -> None:
        for version in (1, 2, 3):
            bench.switch(version)
        await bench.wait_open(1, 2)
        assert bench.engine.versions("meter") == (3, 2)
        bench.engine.remove("meter")
        bench.engine.remove("meter")
        await bench.wait_open()
        assert bench.engine.names() == ()

    _run(tmp_path, story)


def test_a_request_keeps_the_release_that_it_began_with(tmp_path: Path) -> None:
    """A release is closed when its last request is answered, not before."""

    async def story(bench: _Bench) -> None:
        bench.switch(1, gain=1, run_s=0.05)
        asked = [
            asyncio.create_task(bench.engine.infer("meter", {"x": X})) for _ in range(3)
        ]
        await asyncio.sleep(0.01)
        bench.switch(2, gain=2)
        bench.engine.settle("meter")
        assert not bench.runtime.sessions[0].is_closed
        answers = await asyncio.gather(*asked)
        assert [answer.release.version for answer in answers] == [1, 1, 1]
        await bench.wait_open(1)

    _run(tmp_path, story)


def test_too_many_requests_are_turned_away(tmp_path: Path) -> None:
    """One runs, two wait, the fourth is told so at once; the others are answered."""

    async def story(bench: _Bench) -> None:
        bench.switch(run_s=0.02)
        asked = [
            asyncio.create_task(bench.engine.infer("meter", {"x": X})) for _ in range(5)
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Answer] * 3 + [BusyError] * 2
        assert bench.engine.figures("meter").requests == 3
        await bench.engine.infer("meter", {"x": X})

    _run(tmp_path, story, max_waiting=2)


def test_a_deadline_counts_the_wait(tmp_path: Path) -> None:
    """One that runs is given up, one that waits is never run; both are late."""

    async def story(bench: _Bench) -> None:
        bench.switch(run_s=0.15)
        session = bench.runtime.sessions[0]
        ran = []
        multiply = session._answer
        session._answer = lambda inputs: (ran.append(1), multiply(inputs))[1]
        began_s = time.perf_counter()
        asked = [
            asyncio.create_task(
                bench.engine.infer("meter", {"x": X}, deadline_s=deadline_s)
            )
            for deadline_s in (0.03, 0.04, 5.0)
        ]
        with pytest.raises(LateError, match="meter/1 did not answer"):
            await asked[0]
        with pytest.raises(LateError):
            await asked[1]
        assert time.perf_counter() - began_s < 0.15
        assert (await asked[2]).release.version == 1
        assert len(ran) == 2
        figures = bench.engine.figures("meter")
        assert (figures.requests, figures.late, figures.failed) == (3, 2, 0)

    _run(tmp_path, story)


def test_a_deadline_is_kept_on_a_simulated_clock(tmp_path: Path) -> None:
    """Who moves the clock moves the deadline."""

    async def story() -> None:
        clock = FakeClock()
        engine = Engine(clock=clock, runtimes=lambda _: ScriptedRuntime())
        engine.switch(engine.prepare(install(tmp_path, run_s=0.1)))
        asked = asyncio.create_task(engine.infer("meter", {"x": X}, deadline_s=60))
        await asyncio.sleep(0.01)
        clock.advance(wall_s=61)
        with pytest.raises(LateError):
            await asked
        engine.close()

    asyncio.run(story())


def test_a_hung_release_does_not_hold_up_its_fallback(tmp_path: Path) -> None:
    """Rolled back to, the old one answers while the new one still hangs."""

    async def story(bench: _Bench) -> None:
        bench.switch(1, gain=1)
        bench.switch(2, gain=2, run_s=0.25)
        stuck = asyncio.create_task(bench.engine.infer("meter", {"x": X}))
        await asyncio.sleep(0.01)
        bench.engine.roll_back("meter")
        answer = await bench.engine.infer("meter", {"x": X}, deadline_s=0.2)
        assert answer.release.version == 1
        assert not stuck.done()
        assert (await stuck).release.version == 2
        await bench.wait_open(0)

    _run(tmp_path, story)


def test_who_leaves_is_not_served(tmp_path: Path) -> None:
    """A cancelled request neither runs nor counts against those who wait."""

    async def story(bench: _Bench) -> None:
        bench.switch(run_s=0.05)
        first = asyncio.create_task(bench.engine.infer("meter", {"x": X}))
        await asyncio.sleep(0.01)
        for deadline_s in (None, 9.0):
            second = asyncio.create_task(
                bench.engine.infer("meter", {"x": X}, deadline_s=deadline_s)
            )
            await asyncio.sleep(0.005)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
        await first
        await bench.engine.infer("meter", {"x": X})
        figures = bench.engine.figures("meter")
        assert (figures.failed, figures.late) == (0, 0)

    _run(tmp_path, story, max_waiting=2)


def test_figures_tell_how_a_release_serves(tmp_path: Path) -> None:
    """Failures of the model, infinities, times; a client's NaN is its own fault."""

    async def story(bench: _Bench) -> None:
        bench.switch(1, gain=1)
        await bench.engine.infer("meter", {"x": X})
        bench.switch(2, gain=2)
        session = bench.runtime.sessions[1]
        with pytest.raises(DataError):
            await bench.engine.infer("meter", {"z": X})
        nan = await bench.engine.infer("meter", {"x": X * np.float32("nan")})
        assert np.isnan(nan.outputs["y"]).all()
        session._script = {"gain": float("inf")}
        await bench.engine.infer("meter", {"x": X})
        for script, what in (
            ({"refuse": "run"}, "it stumbled"),
            ({"raise": "run"}, "meter/2 cannot be run: ZeroDivisionError$"),
        ):
            session._script = script
            with pytest.raises(RuntimeFailure, match=what):
                await bench.engine.infer("meter", {"x": X})
        figures = bench.engine.figures("meter")
        assert figures.release.version == 2
        assert (figures.requests, figures.failed, figures.not_finite) == (5, 2, 1)
        assert figures.latency_ms is not None
        assert figures.before is not None
        assert (figures.before.release.version, figures.before.requests) == (1, 1)
        bench.engine.settle("meter")
        assert bench.engine.figures("meter").before is None

    _run(tmp_path, story)


def test_a_release_that_is_refused_leaves_the_old_one_serving(tmp_path: Path) -> None:
    """Nothing of the one that failed its check is left."""

    async def story(bench: _Bench) -> None:
        bench.switch(1, gain=1)
        bad = install(tmp_path, 2, gain=3, golden=golden_bytes(2))
        with pytest.raises(RefusedError):
            await asyncio.to_thread(bench.engine.prepare, bad)
        answer = await bench.engine.infer("meter", {"x": X})
        assert answer.release.version == 1
        assert [s.is_closed for s in bench.runtime.sessions] == [False, True]

    _run(tmp_path, story)


async def _load(engine: Engine, inputs: Array, answers: list[Answer]) -> None:
    """Ask for ever, a little apart."""
    while True:
        answers.append(await engine.infer("meter", {"x": inputs}, deadline_s=20))
        await asyncio.sleep(0.001)


async def _swap_under_load(
    engine: Engine, releases: list[Installed], inputs: Array
) -> list[Answer]:
    """Swap releases again and again while eight clients ask."""
    answers: list[Answer] = []
    engine.switch(engine.prepare(releases[0]))
    clients = [asyncio.create_task(_load(engine, inputs, answers)) for _ in range(8)]
    for step in range(1, 9):
        wanted = len(answers) + 20
        prepared = await asyncio.to_thread(engine.prepare, releases[step % 2])
        engine.switch(prepared)
        await _until(lambda wanted=wanted: len(answers) >= wanted)
        if step % 3 == 0:
            engine.roll_back("meter")
        elif step % 3 == 1:
            engine.settle("meter")
    for client in clients:
        assert not client.done()
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return answers


def test_a_swap_under_load_fails_nobody(tmp_path: Path) -> None:
    """Every answer is that of the release that it names, and both have answered."""

    async def story(bench: _Bench) -> None:
        releases = [install(tmp_path, 1, gain=1), install(tmp_path, 2, gain=2)]
        answers = await _swap_under_load(bench.engine, releases, X)
        assert {answer.release.version for answer in answers} == {1, 2}
        for answer in answers:
            version = answer.release.version
            np.testing.assert_array_equal(answer.outputs["y"], X * version)
            assert answer.blob == releases[version - 1].model.blob.sha256
        assert bench.engine.figures("meter").failed == 0

    _run(tmp_path, story, threads=2)


def _onnx_release(folder: Path, version: int, scale: float) -> Installed:
    text = "net (float[1, 4] x) => (float[1, 4] y) { y = Mul(x, w) }"
    content = models.model_bytes(text, {"w": np.full(1, scale, np.float32)})
    spec = TensorSpec(name="x", dtype="float32", shape=(1, 4))
    sample = GoldenSample(
        name="s", inputs={"x": X}, outputs={"y": X * np.float32(scale)}
    )
    golden = golden_to_bytes(Golden(samples=(sample,), tolerance=0.01))
    model = ReleaseModel(
        target="any",
        runtime="onnxruntime",
        blob=Blob(sha256=f"{version:064x}", size_bytes=len(content)),
        inputs=(spec,),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(1, 4)),),
    )
    contents = {"model": content, "golden": golden}
    return install_files(folder / str(version), contents, model, version=version)


def test_real_models_are_swapped_under_load(tmp_path: Path) -> None:
    """The same on onnxruntime, with inputs that are read-only views of a body."""

    async def story() -> None:
        engine = Engine(clock=SystemClock(), runtimes=get_runtime)
        releases = [_onnx_release(tmp_path, v, scale=v) for v in (1, 2)]
        x = np.frombuffer(X.tobytes(), np.float32).reshape(1, 4)
        answers = await _swap_under_load(engine, releases, x)
        engine.close()
        assert {answer.release.version for answer in answers} == {1, 2}
        for answer in answers:
            np.testing.assert_allclose(
                answer.outputs["y"], X * answer.release.version, rtol=1e-6
            )

    asyncio.run(story())


def test_a_broken_model_file_is_refused_by_onnxruntime(tmp_path: Path) -> None:
    """A file cut in half is refused as one that cannot be loaded."""
    installed = _onnx_release(tmp_path, 1, 2.0)
    path = installed.files["model"]
    path.write_bytes(path.read_bytes()[:40])
    engine = Engine(clock=SystemClock(), runtimes=lambda _: OnnxRuntime())
    with pytest.raises(RefusedError, match="cannot be loaded") as caught:
        engine.prepare(installed)
    assert caught.value.reason == "load"


def test_a_slow_load_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """While a release takes its time to load, requests go on being answered."""

    async def story(bench: _Bench) -> None:
        bench.switch(1, gain=1)
        slow = install(tmp_path, 2, gain=2, load_s=1.0)
        preparing = asyncio.create_task(asyncio.to_thread(bench.engine.prepare, slow))
        gaps_s = []
        while not preparing.done():
            began_s = time.perf_counter()
            await bench.engine.infer("meter", {"x": X})
            gaps_s.append(time.perf_counter() - began_s)
            await asyncio.sleep(0.002)
        bench.engine.switch(await preparing)
        assert len(gaps_s) > 20
        assert max(gaps_s) < 0.5

    _run(tmp_path, story)


def test_threads_end_with_their_release(tmp_path: Path) -> None:
    """An engine that is closed leaves no thread behind."""

    async def story(bench: _Bench) -> None:
        bench.switch(1, name="leaver")
        bench.switch(2, name="leaver")
        bench.engine.close()
        await bench.wait_open()

    _run(tmp_path, story, threads=3)
    for thread in threading.enumerate():
        if thread.name.startswith("skerry-leaver"):
            thread.join(timeout=5)
            assert not thread.is_alive()


@pytest.mark.parametrize(("threads", "max_waiting"), [(0, 1), (1, -1)])
def test_an_engine_needs_threads(threads: int, max_waiting: int) -> None:
    """No thread, or a queue of less than nothing, is refused."""

    def none(_: str) -> Runtime:
        raise NotImplementedError

    with pytest.raises(UsageError, match="expected at least 1 and 0"):
        Engine(
            clock=FakeClock(),
            runtimes=none,
            threads=threads,
            max_waiting=max_waiting,
        )
