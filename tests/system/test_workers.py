from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.errors import (
    DataError,
    MissingExtraError,
    ModelError,
    RuntimeFailure,
    StateError,
    UsageError,
    WorkerLostError,
)
from skerry.core.model import Model
from skerry.core.seams import LoadOptions
from skerry.edge.workers import IsolatedRuntimes, Limits, WorkerPool, WorkerSession
from tests.unruly import unruly_model, x_for

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).parents[2]
PLACES = {
    "unruly": "tests.unruly:UnrulyRuntime",
    "threaded": "tests.unruly:ThreadedRuntime",
    "missing": "tests.unruly:MissingRuntime",
    "nowhere": "tests.nowhere:Runtime",
}
OK = {"x": np.full((1, 4), -1, np.float32)}


@pytest.fixture(scope="module", autouse=True)
def _path() -> Iterator[None]:
    """Where processes find the runtimes of tests, and a secret they must not see."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv("CLOUD_PASSWORD", "s3cret")
        yield


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    """One pool for the tests that leave it as it is."""
    made = WorkerPool(
        places=PLACES, limits=Limits(memory_bytes=400_000_000, load_s=60, run_s=60)
    )
    yield made
    made.close()


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A model that does as its inputs tell it."""
    return unruly_model(tmp_path)


def load(pool: WorkerPool, model: Model, runtime: str = "unruly") -> WorkerSession:
    """Load a model into a worker."""
    session = IsolatedRuntimes(pool)(runtime).load(model, LoadOptions())
    assert isinstance(session, WorkerSession)
    return session


@pytest.fixture
def session(pool: WorkerPool, model: Model) -> Iterator[WorkerSession]:
    """That model in a worker."""
    made = load(pool, model)
    yield made
    made.close()


def until(holds: Callable[[], object], *, within_s: float = 60) -> None:
    """Wait until something holds."""
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def answers(session: WorkerSession) -> bool:
    """Whether it answers a good request, and rightly."""
    return bool((session.run(OK)["y"] == OK["x"] * 2).all())


def pid_of(session: WorkerSession) -> int:
    """Its worker, once there is one."""
    until(lambda: session.figures().pid)
    return session.figures().pid or 0


def stop(pid: int) -> None:
    """Stop a process; its threads may run on for a moment after it was told to."""
    os.kill(pid, signal.SIGSTOP)
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    until(lambda: all(") T " in (one / "stat").read_text() for one in threads))


@pytest.mark.parametrize("shape", [(1, 4), (300, 500), (0, 7), (7, 0), (3, 2), (1, 1)])
def test_any_shape_passes(session: WorkerSession, shape: tuple[int, int]) -> None:
    """Larger than the first segments, empty, and small again after that."""
    for sizes in (shape, (2, 2), shape):
        x = -np.arange(np.prod(sizes), dtype=np.float32).reshape(sizes)
        y = session.run({"x": x})["y"]
        np.testing.assert_array_equal(y, x * 2)
        y += 1  # the caller's own


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint64", "float64"])
def test_any_dtype_passes(pool: WorkerPool, tmp_path: Path, dtype: str) -> None:
    """Each numeric dtype comes back as it went."""
    session = load(pool, unruly_model(tmp_path, dtype=dtype))
    x = np.array([[20, 30]], dtype)
    y = session.run({"x": x})["y"]
    assert y.dtype == x.dtype
    assert y.tolist() == [[40, 60]]
    session.close()


def test_wrong_inputs_are_refused(session: WorkerSession) -> None:
    """As in-process, and without asking the worker."""
    with pytest.raises(DataError, match="missing"):
        session.run({})
    with pytest.raises(DataError, match="float64"):
        session.run({"x": np.zeros((1, 4))})
    assert answers(session)


def test_a_request_that_kills_takes_two_workers_with_it(session: WorkerSession) -> None:
    """It is tried twice, and told of; the next request is answered."""
    with pytest.raises(WorkerLostError, match="brought down 2 workers"):
        session.run(x_for("crash"))
    assert answers(session)
    assert session.figures().restarts == 2


def test_a_crash_that_does_not_come_again_is_not_seen(
    pool: WorkerPool, tmp_path: Path
) -> None:
    """The request is answered by the next worker."""
    session = load(pool, unruly_model(tmp_path, once=str(tmp_path / "flag")))
    np.testing.assert_array_equal(session.run(x_for("crash"))["y"], [[2, 2, 2, 2]])
    assert session.figures().restarts == 1
    session.close()


@pytest.mark.parametrize("kind", ["raise", "fail", "swell", "odd"])
def test_an_error_is_told_and_harms_nobody(session: WorkerSession, kind: str) -> None:
    """What Python can catch costs no worker; a text of unknown origin stays inside."""
    pid = session.figures().pid
    with pytest.raises(RuntimeFailure) as caught:
        session.run(x_for(kind))
    assert "secret" not in caught.value.what
    assert ("it stumbled" in caught.value.what) == (kind == "fail")
    assert answers(session)
    assert session.figures().pid == pid


def test_a_runtime_that_exits_is_lost(session: WorkerSession) -> None:
    """It cannot leave its process behind, deaf."""
    with pytest.raises(WorkerLostError):
        session.run(x_for("exit"))
    assert answers(session)


@pytest.mark.parametrize("kind", ["hang", "freeze"])
def test_a_hanging_inference_is_interrupted(session: WorkerSession, kind: str) -> None:
    """The one who waits hears of it; the next is answered by another worker."""
    caught: list[Exception] = []

    def hang() -> None:
        try:
            session.run(x_for(kind))
        except RuntimeFailure as error:
            caught.append(error)

    pid = session.figures().pid
    thread = threading.Thread(target=hang)
    thread.start()
    until(lambda: session._runs and next(iter(session._runs.values())).worker)
    session.interrupt()
    thread.join(60)
    assert "interrupted" in str(caught[0])
    assert not isinstance(caught[0], WorkerLostError)
    assert answers(session)
    assert session.figures().pid not in {pid, None}
    session.interrupt()  # nothing runs
    assert answers(session)


def test_nothing_runs_for_ever(model: Model) -> None:
    """Where nobody interrupts, the pool's own limit does."""
    pool = WorkerPool(places=PLACES, limits=Limits(run_s=0.3))
    session = load(pool, model)
    with pytest.raises(RuntimeFailure, match="interrupted"):
        session.run(x_for("hang"))
    until(lambda: session.figures().pid)
    session.close()
    pool.close()


def test_a_worker_that_grows_is_stopped(
    session: WorkerSession, pool: WorkerPool, tmp_path: Path
) -> None:
    """At its limit, with the reason; a neighbour keeps its process."""
    neighbour = load(pool, unruly_model(tmp_path, "n"))
    pid = neighbour.figures().pid
    with pytest.raises(WorkerLostError, match="its limit is 400000000"):
        session.run(x_for("hog"))
    assert answers(session)
    assert answers(neighbour)
    assert neighbour.figures().pid == pid
    neighbour.close()


def test_twenty_kills_under_load_lose_nothing(
    session: WorkerSession, pool: WorkerPool, tmp_path: Path
) -> None:
    """Each request of three threads is answered, rightly; a neighbour never notices."""
    neighbour = load(pool, unruly_model(tmp_path, "n"))
    neighbour_pid = neighbour.figures().pid
    counts = [0, 0, 0]
    wrong: list[object] = []
    done = threading.Event()

    def ask(number: int) -> None:
        asked = neighbour if number == 2 else session
        x = np.full((1, 4), -1 - number, np.float32)
        while not done.is_set():
            try:
                y = asked.run({"x": x})["y"]
            except RuntimeFailure as error:
                wrong.append(error)
            else:
                if not (y == x * 2).all():
                    wrong.append(y)
            counts[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        os.kill(pid_of(session), signal.SIGKILL)
        seen = list(counts)
        until(lambda seen=seen: all(np.subtract(counts, seen) > 3))  # type: ignore[misc]
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert session.figures().restarts == 20
    assert neighbour.figures().pid == neighbour_pid
    neighbour.close()


def test_an_idle_worker_is_replaced_too(session: WorkerSession) -> None:
    """Nobody needs to ask: the model stands ready again."""
    pid = pid_of(session)
    os.kill(pid, signal.SIGKILL)
    until(lambda: session.figures().pid not in {pid, None})
    assert answers(session)


def test_a_crash_loop_is_left_alone(model: Model) -> None:
    """After three deaths in a row requests fail at once; a while later all is well."""
    clock = FakeClock()
    pool = WorkerPool(places=PLACES, clock=clock)
    session = load(pool, model)
    for _ in range(2):
        with pytest.raises(WorkerLostError):
            session.run(x_for("crash"))
    with pytest.raises(WorkerLostError, match="again and again"):
        session.run(OK)
    assert session.figures().pid is None
    clock.advance(wall_s=61)
    assert answers(session)
    session.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        session.run(OK)
    pool.close()


@pytest.mark.parametrize(
    ("kind", "error", "what"),
    [
        ("crash", WorkerLostError, "died while it loaded m.json"),
        ("hog", WorkerLostError, "its limit is 400000000"),
        ("fail", ModelError, "it stumbled"),
        ("raise", RuntimeFailure, "m.json cannot be loaded: ZeroDivisionError"),
        ("swell", RuntimeFailure, "MemoryError"),
    ],
)
def test_a_model_that_cannot_be_loaded(
    pool: WorkerPool, tmp_path: Path, kind: str, error: type[Exception], what: str
) -> None:
    """The one who loads hears why; whatever it did, it did to its own process."""
    with pytest.raises(error, match=what):
        load(pool, unruly_model(tmp_path, load=kind))


def test_loading_has_a_limit(tmp_path: Path) -> None:
    """A load that hangs is stopped."""
    pool = WorkerPool(places=PLACES, limits=Limits(load_s=0.3))
    with pytest.raises(WorkerLostError, match=r"within 0.3 s"):
        load(pool, unruly_model(tmp_path, load="hang"))
    pool.close()


def test_runtimes_that_are_not_there(pool: WorkerPool, model: Model) -> None:
    """Unknown, without its library, not to be imported: each says so."""
    runtimes = IsolatedRuntimes(pool)
    with pytest.raises(UsageError, match="no runtime called 'unrly'"):
        runtimes("unrly")
    with pytest.raises(MissingExtraError, match="unruly"):
        runtimes("missing")
    with pytest.raises(StateError, match=r"tests\.nowhere"):
        runtimes("nowhere")
    found = runtimes("unruly")
    assert (found.name, found.version) == ("unruly", "7")
    with pytest.raises(UsageError, match="profile"):
        found.profile(model, OK, LoadOptions(), repeats=1)


def test_a_runtime_that_cannot_be_forked(pool: WorkerPool, model: Model) -> None:
    """Each of its workers is a process that was started for it."""
    sessions = [load(pool, model, "threaded") for _ in range(3)]
    assert len({session.figures().pid for session in sessions}) == 3
    assert all(answers(session) for session in sessions)
    os.kill(pid_of(sessions[0]), signal.SIGKILL)
    assert answers(sessions[0])
    for session in sessions:
        session.close()


def test_a_spare_that_dies_is_replaced(
    session: WorkerSession, pool: WorkerPool, model: Model
) -> None:
    """Its workers live on, and the next can be made."""
    pid = session.figures().pid
    spare = pool.spare("unruly").pid
    assert spare is not None
    os.kill(spare, signal.SIGKILL)
    until(lambda: pool.spare("unruly").pid not in {spare, None})
    assert session.figures().pid == pid
    other = load(pool, model)
    assert answers(other)
    other.close()


def test_a_worker_gets_only_what_it_needs(session: WorkerSession) -> None:
    """No secret of the environment, no descriptor of others; first to go for memory."""
    assert answers(session)
    place = Path(f"/proc/{session.figures().pid}")
    assert b"s3cret" not in (place / "environ").read_bytes()
    assert (place / "oom_score_adj").read_text().strip() == "500"
    held = [str(f.readlink()) for f in (place / "fd").iterdir() if int(f.name) > 2]
    assert len([fd for fd in held if fd.startswith("socket:")]) == 2
    assert len([fd for fd in held if "memfd:skerry" in fd]) == 4  # each, and its map
    figures = session.figures()
    assert 0 < figures.memory_bytes < figures.rss_bytes


def test_fifty_loads_leave_nothing_behind(pool: WorkerPool, model: Model) -> None:
    """No descriptor, no thread, no process."""

    def held() -> tuple[int, ...]:
        return (
            count("/proc/self/fd"),
            threading.active_count(),
        )

    load(pool, model).close()
    spare = pool.spare("unruly").pid
    until(lambda: not (restoring() or children_of(spare)))
    gc.collect()  # what the tests before left: an event loop, its descriptors
    before = held()
    for number in range(50):
        session = load(pool, model)
        if number % 10 == 0:
            os.kill(pid_of(session), signal.SIGKILL)
        assert answers(session)
        session.close()
    until(lambda: held() == before and not children_of(spare))


def restoring() -> bool:
    """Whether a thread of ours still loads something."""
    return any("_restore" in thread.name for thread in threading.enumerate())


def count(folder: str) -> int:
    """How many entries a folder has."""
    return sum(1 for _ in Path(folder).iterdir())


def children_of(spare: int | None) -> list[int]:
    """The living children of a process."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                line = (place / "stat").read_text()
                state, parent = line.rpartition(")")[2].split()[:2]
                if int(parent) == spare and state != "Z":
                    found.append(int(place.name))
    return found


ORPHANS = """
import os, sys, threading, time
from pathlib import Path
from skerry.core.seams import LoadOptions
from skerry.edge.workers import IsolatedRuntimes, WorkerPool
from tests.unruly import unruly_model, x_for
pool = WorkerPool(places={"unruly": "tests.unruly:UnrulyRuntime"})
model = unruly_model(Path(sys.argv[1]))
sessions = [IsolatedRuntimes(pool)("unruly").load(model, LoadOptions()) for _ in "123"]
for session, kind in zip(sessions, ("freeze", "hang")):
    threading.Thread(target=session.run, args=(x_for(kind),), daemon=True).start()
while not all(session._runs for session in sessions[:2]):
    time.sleep(0.01)
time.sleep(0.2)
print(pool.spare("unruly").pid, *(s.figures().pid for s in sessions), flush=True)
time.sleep(600)
"""


def test_workers_die_with_their_gateway(tmp_path: Path) -> None:
    """Killed without a word, it leaves no process: not even one that is frozen."""
    command = [sys.executable, "-c", ORPHANS, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout is not None
        pids = [int(word) for word in gateway.stdout.readline().split()]
        watched = [os.pidfd_open(pid) for pid in pids]
        gateway.kill()
        gateway.wait()
    assert len(pids) == 4
    for fd in watched:
        until(lambda fd=fd: has_ended(fd))  # type: ignore[misc]
        os.close(fd)


def has_ended(pidfd: int) -> bool:
    """Whether the process behind a descriptor has ended."""
    return bool(select.select([pidfd], [], [], 0)[0])


NATIVE = """
import sys
from pathlib import Path
import numpy as np
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.seams import LoadOptions
from skerry.edge.gateway import run_gateway
from skerry.edge.workers import IsolatedRuntimes, WorkerPool
path = Path(sys.argv[1])
specs = [TensorSpec(name=name, dtype="float32", shape=(1, 3)) for name in "xy"]
model = Model(
    path=path, format=ModelFormat.ONNX, inputs=tuple(specs[:1]),
    outputs=tuple(specs[1:]), sha256="", size_bytes=path.stat().st_size,
)
pool = WorkerPool()
for runtime in ("onnxruntime", "openvino"):
    session = IsolatedRuntimes(pool)(runtime).load(model, LoadOptions())
    x = np.array([[-1, 2, -3]], np.float32)
    assert session.run({"x": x})["y"].tolist() == [[0, 2, 0]]
    session.close()
pool.close()
print(*sys.modules)
"""


def test_the_gateway_imports_no_native_runtime(tmp_path: Path) -> None:
    """What real runtimes answer comes from processes that were forked with them."""
    from tests.models import model_bytes

    path = tmp_path / "relu.onnx"
    path.write_bytes(
        model_bytes("net (float[1, 3] x) => (float[1, 3] y) { y = Relu(x) }")
    )
    command = [sys.executable, "-W", "error", "-c", NATIVE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "skerry.edge.engine" in loaded
    assert loaded.isdisjoint({"onnxruntime", "openvino", "onnx"})


def test_a_worker_that_dies_of_what_was_started(session: WorkerSession) -> None:
    """Whoever finishes it has it run once more, by the next worker."""

    async def story() -> None:
        for kills in (0, 1, 0):
            done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            if kills:
                stop(pid_of(session))  # or it answers before it dies
            while (started := session.start(OK, done.set_result)) is None:
                await asyncio.to_thread(session.run, OK)
            if kills:
                started.leave()
                os.kill(pid_of(session), signal.SIGKILL)
            else:
                async with asyncio.timeout(60):
                    assert await done
            outputs = await asyncio.to_thread(started.finish)
            assert outputs["y"].tolist() == (OK["x"] * 2).tolist()

    session.run(OK)
    asyncio.run(story())


def test_what_was_started_and_hangs_is_interrupted(session: WorkerSession) -> None:
    """By the thread that finishes it."""

    async def story() -> None:
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        started = session.start(x_for("hang"), done.set_result)
        assert started is not None
        started.leave()
        threads: list[int] = []

        def finish() -> None:
            threads.append(threading.get_ident())
            started.finish()

        finishing = asyncio.create_task(asyncio.to_thread(finish))
        async with asyncio.timeout(60):
            while not session._runs:  # noqa: ASYNC110 (no event tells it)
                await asyncio.sleep(0.001)
            session.interrupt(threads[0])
            with pytest.raises(RuntimeFailure, match="interrupted"):
                await finishing
        assert not done.done()

    session.run(OK)
    asyncio.run(story())
    until(lambda: answers(session))
