from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.core.budget import Budget
from skerry.core.clock import FakeClock, SystemClock
from skerry.core.errors import MissingExtraError, RefusedError, StateError
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.release import NOTHING, Blob, Library, Reason
from skerry.core.seams import Array, LoadOptions, Runtime, Tensors
from skerry.edge import checks
from skerry.edge.checks import Prepared, prepare
from skerry.edge.installed import Installed
from skerry.runtimes import get_runtime
from skerry.runtimes.libraries import machine_abi
from skerry.runtimes.null import NullSession
from skerry.tasks.golden import Golden, GoldenSample, golden_to_bytes
from tests.serving import ScriptedRuntime, ScriptedSession, X, golden_bytes, install

MIB = 1 << 20


def _prepare(
    installed: Installed, runtime: Runtime, *, limit_s: float = 20
) -> Prepared:
    return prepare(
        installed, runtimes=lambda _: runtime, clock=SystemClock(), limit_s=limit_s
    )


def test_a_sound_release_is_prepared(tmp_path: Path) -> None:
    """It is loaded and warm, and each figure that was asked for is there."""
    budget = Budget(
        accuracy_drop=0.01,
        latency_ms=500,
        memory_bytes=512 * MIB,
        size_bytes=1000,
        energy_mj=1,
    )
    runtime = ScriptedRuntime()
    prepared = _prepare(install(tmp_path, budget=budget, gain=2), runtime)
    found = prepared.findings
    assert found.golden_error == 0
    assert found.size_bytes == len(b'{"gain": 2}')
    assert found.latency_ms is not None
    assert 0 < found.latency_ms <= 500
    assert found.memory_bytes is not None
    assert not runtime.sessions[0].is_closed
    prepared.close()
    assert runtime.sessions[0].is_closed


def test_what_no_budget_asks_for_is_not_measured(tmp_path: Path) -> None:
    """A release without limits costs no more than its golden samples."""
    found = _prepare(install(tmp_path), ScriptedRuntime()).findings
    assert (found.latency_ms, found.memory_bytes) == (None, None)


def newer_golden() -> bytes:
    """Golden samples as a later version of Skerry may write them."""
    header = np.frombuffer(b'{"schema": "skerry.golden/2"}', np.uint8)
    stream = io.BytesIO()
    np.savez(stream, header=header[None])
    return stream.getvalue()


@pytest.mark.parametrize(
    ("reason", "what", "release"),
    [
        ("size", "has a model of 11 bytes", {"budget": Budget(size_bytes=10)}),
        ("load", "cannot be loaded here: it is broken", {"refuse": "load"}),
        ("load", "cannot be loaded here: ZeroDivisionError", {"raise": "load"}),
        ("load", "cannot be run here: it stumbled", {"refuse": "run"}),
        ("load", "cannot be run here: ZeroDivisionError", {"raise": "run"}),
        ("load", r"gives float64\[1, 4\]", {"dtype": "float64"}),
        ("golden", "differs from 1 of 1", {"gain": 3, "golden": golden_bytes(2)}),
        ("golden", "no golden samples that can be read", {"golden": b"PK"}),
        ("too-new", "golden samples that are too new", {"golden": newer_golden()}),
        ("golden", "do not fit its model", {"golden": golden_bytes(name="z")}),
        ("golden", "not of finite numbers", {"golden": golden_bytes(y=X * np.inf)}),
        (
            "golden",
            "not of finite numbers",
            {"golden": golden_bytes(y=np.array([["a"]]))},
        ),
        ("not-finite", "NaN or infinities", {"gain": np.inf, "golden": golden_bytes()}),
        (
            "latency",
            "for one inference",
            {"run_s": 2e-2, "budget": Budget(latency_ms=5)},
        ),
        (
            "memory",
            "bytes of memory here",
            {"ballast_bytes": 64 * MIB, "budget": Budget(memory_bytes=16 * MIB)},
        ),
    ],
)
def test_a_bad_release_is_refused(
    reason: str, what: str, release: Mapping[str, Any], tmp_path: Path
) -> None:
    """Each with its reason, and what was loaded of it is closed again."""
    runtime = ScriptedRuntime()
    script = {"gain": 2} | dict(release)
    with pytest.raises(RefusedError, match=what) as caught:
        _prepare(install(tmp_path, **script), runtime)
    assert caught.value.reason == reason
    assert caught.value.what.startswith("meter/1 ")
    assert "secret" not in caught.value.what
    assert all(session.is_closed for session in runtime.sessions)


def test_a_refusal_says_what_was_measured_and_allowed(tmp_path: Path) -> None:
    """A limit of the budget, and the tolerance of the golden samples."""
    slow = install(tmp_path, 1, run_s=0.02, budget=Budget(latency_ms=5))
    wrong = install(tmp_path, 2, gain=3, golden=golden_bytes(2))
    large = install(tmp_path, 3, budget=Budget(size_bytes=1))
    figures = []
    for installed in (slow, wrong, large):
        with pytest.raises(RefusedError) as caught:
            _prepare(installed, ScriptedRuntime())
        figures.append((caught.value.measured, caught.value.allowed))
    assert figures[0][0] is not None
    assert figures[0][0] >= 20
    assert figures[0][1] == 5
    assert figures[1] == (pytest.approx(0.25), 0.01)
    assert figures[2] == (2, 1)


def test_windows_are_long_enough_for_a_quota_to_show() -> None:
    """A window is longer than the 0.1 s in which a CPU quota is given out."""
    assert checks.WINDOW_S >= 0.15


class _Woken(ScriptedSession):
    """One that takes a while to be woken, for one inference or for many."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, {})
        self.times: list[int] = []

    def run(self, inputs: Tensors) -> dict[str, Array]:
        time.sleep(0.005)
        return super().run(inputs)

    def repeat(self, inputs: Tensors, *, times: int) -> None:
        self.run(inputs)
        self.times.append(times)


def test_waking_a_process_is_not_in_its_latency(tmp_path: Path) -> None:
    """What can be asked for many inferences at once is, more and more of them."""

    class Waking(ScriptedRuntime):
        def load(self, model: Model, options: LoadOptions) -> NullSession:
            super().load(model, options)
            return woken.setdefault("session", _Woken(model))

    woken: dict[str, _Woken] = {}
    installed = install(tmp_path, budget=Budget(latency_ms=4.9))
    found = _prepare(installed, Waking()).findings
    assert found.latency_ms is not None
    assert found.latency_ms < 4.9
    times = woken["session"].times
    assert times[:4] == [1, 1, 2, 4]
    assert max(times) <= checks.MOST_REPEATS


def test_a_clock_that_stands_still_ends_a_window(tmp_path: Path) -> None:
    """On a simulated clock the check ends, and says no time has passed."""
    installed = install(tmp_path, budget=Budget(latency_ms=1))
    found = prepare(
        installed, runtimes=lambda _: ScriptedRuntime(), clock=FakeClock()
    ).findings
    assert found.latency_ms == 0


def test_a_release_for_another_runtime_is_unfit(tmp_path: Path) -> None:
    """One that nobody knows, and one whose library is not installed."""

    def missing(_: str) -> Runtime:
        raise MissingExtraError("openvino", extra="openvino")

    for version, runtimes in ((1, get_runtime), (2, missing)):
        installed = install(tmp_path, version, runtime="abacus")
        with pytest.raises(RefusedError, match="'abacus', which is not here") as caught:
            prepare(installed, runtimes=runtimes, clock=SystemClock())
        assert caught.value.reason == "unfit"


def test_files_that_are_gone_are_refused(tmp_path: Path) -> None:
    """Without its model it is the disk, without golden samples the release."""
    reasons = []
    for version, role in ((1, "model"), (2, "golden")):
        installed = install(tmp_path, version)
        installed.files[role].unlink()
        with pytest.raises(RefusedError) as caught:
            _prepare(installed, ScriptedRuntime())
        reasons.append(caught.value.reason)
    assert reasons == ["storage", "golden"]


def test_memory_that_cannot_be_measured_does_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit is not kept where nobody can tell."""

    def blind() -> int:
        raise StateError("this system does not tell", hint="Measure on Linux.")

    monkeypatch.setattr(checks, "pss_bytes", blind)
    with pytest.raises(RefusedError, match="cannot be measured") as caught:
        _prepare(install(tmp_path, budget=Budget(memory_bytes=1)), ScriptedRuntime())
    assert (caught.value.reason, caught.value.allowed) == ("memory", 1)


@pytest.mark.parametrize(
    ("script", "reason"), [({"load_s": 0.6}, "load"), ({"run_s": 0.6}, "latency")]
)
def test_a_check_that_hangs_is_given_up(
    script: Mapping[str, Any], reason: str, tmp_path: Path
) -> None:
    """The caller goes on at the limit; what comes of it later is closed."""
    runtime = ScriptedRuntime()
    began_s = time.perf_counter()
    with pytest.raises(RefusedError, match=r"within 0\.2 s") as caught:
        _prepare(install(tmp_path, **script), runtime, limit_s=0.2)
    assert caught.value.reason == reason
    assert time.perf_counter() - began_s < 0.6
    for thread in threading.enumerate():
        if thread.name == "skerry-check":
            thread.join()
    assert [session.is_closed for session in runtime.sessions] == [True]


def with_libraries(
    installed: Installed, *abis: str, files: Mapping[str, Path]
) -> Installed:
    """The release with a library for each ABI, and the files of some."""
    libraries = tuple(Library(abi=abi, blob=Blob.of(abi.encode())) for abi in abis)
    return replace(
        installed,
        model=replace(installed.model, libraries=libraries),
        files={**installed.files, **files},
    )


def test_libraries_of_this_machine_are_loaded(tmp_path: Path) -> None:
    """Those alone, in the order of the manifest, and the format is the manifest's."""
    here = machine_abi()
    first, last = tmp_path / "first.so", tmp_path / "last.so"
    for path in (first, last):
        path.touch()
    installed = with_libraries(
        install(tmp_path),
        here,
        "linux-other",
        here,
        files={"library.0": first, "library.2": last},
    )
    model = replace(installed.model, format=ModelFormat.NCNN)
    asked = []

    class Noting(ScriptedRuntime):
        def load(self, model: Model, options: LoadOptions) -> NullSession:
            asked.append((model.format, options.libraries))
            return super().load(model, options)

    _prepare(replace(installed, model=model), Noting()).close()
    assert asked == [(ModelFormat.NCNN, (first, last))]


@pytest.mark.parametrize("abi", ["linux-other", ""])
def test_a_missing_library_refuses_the_release(abi: str, tmp_path: Path) -> None:
    """It is for another machine, or its file is not here: nothing is loaded."""
    runtime = ScriptedRuntime()
    installed = with_libraries(install(tmp_path), abi or machine_abi(), files={})
    with pytest.raises(RefusedError, match="needs a library of operators") as caught:
        _prepare(installed, runtime)
    assert caught.value.reason is Reason.UNFIT
    assert runtime.sessions == []


class _Worker:
    memory_bytes = 30 * MIB


class _IsolatedSession(ScriptedSession):
    """A session that says it runs in a process of its own."""

    def figures(self) -> _Worker:
        return _Worker()


class _IsolatedRuntime(ScriptedRuntime):
    def load(self, model: Model, options: LoadOptions) -> NullSession:
        session = super().load(model, options)
        isolated = _IsolatedSession(model, json.loads(model.path.read_bytes()))
        session.close()
        self.sessions.append(isolated)
        return isolated


def test_the_memory_of_a_worker_is_its_own(tmp_path: Path) -> None:
    """What this process takes says nothing of a model that runs in another."""
    fits = install(tmp_path, 1, budget=Budget(memory_bytes=31 * MIB))
    assert _prepare(fits, _IsolatedRuntime()).findings.memory_bytes == 30 * MIB
    large = install(tmp_path, 2, budget=Budget(memory_bytes=29 * MIB))
    with pytest.raises(RefusedError, match="takes 31457280 bytes of memory"):
        _prepare(large, _IsolatedRuntime())


def test_a_change_of_signature_is_told(tmp_path: Path) -> None:
    """Against what serves: what is gone, what is new, what is of another shape."""
    old = install(tmp_path, 1)
    spec = old.model.inputs[0]
    gone = TensorSpec(name="mask", dtype="bool", shape=(1,))
    wider = replace(spec, shape=("N", 8))
    serving = replace(old, model=replace(old.model, inputs=(wider, gone), outputs=()))
    new = install(tmp_path, 2)
    found = prepare(
        new,
        runtimes=lambda _: ScriptedRuntime(),
        clock=SystemClock(),
        serving=serving,
    ).findings
    assert found.changes == (
        f"input {gone} is gone",
        f"input {wider} has become {spec}",
        f"output {new.model.outputs[0]} is new",
    )
    assert found.tolerance == 0.01
    assert _prepare(new, ScriptedRuntime()).findings.changes == ()


def test_the_usual_time_of_an_inference_is_known_from_the_start(tmp_path: Path) -> None:
    """The quickest golden sample says what it takes here."""
    prepared = _prepare(install(tmp_path, run_s=0.02), ScriptedRuntime())
    assert prepared.typical_s >= 0.02


def test_what_was_never_released_is_run_and_not_compared(tmp_path: Path) -> None:
    """Without golden outputs nothing is right or wrong, but NaN is; a release has them.

    The inputs alone are kept where golden samples are.
    """
    sample = GoldenSample(name="made up", inputs={"x": X}, outputs={})
    inputs = golden_to_bytes(Golden(samples=(sample,), tolerance=0.01))
    released = install(tmp_path, golden=inputs, gain=7)
    alone = replace(released, manifest=replace(released.manifest, golden=NOTHING))
    assert _prepare(alone, ScriptedRuntime()).findings.golden_error == 0
    with pytest.raises(RefusedError) as caught:
        _prepare(released, ScriptedRuntime())
    assert caught.value.reason == Reason.GOLDEN
    broken = install(tmp_path, 2, golden=inputs, gain=float("nan"))
    broken = replace(broken, manifest=replace(broken.manifest, golden=NOTHING))
    with pytest.raises(RefusedError) as caught:
        _prepare(broken, ScriptedRuntime())
    assert caught.value.reason == Reason.NOT_FINITE
