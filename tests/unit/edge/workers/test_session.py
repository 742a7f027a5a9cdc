from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from skerry.core.clock import FakeClock
from skerry.core.errors import LateError, ModelError, RuntimeFailure, WorkerLostError
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.seams import Array, LoadOptions, Tensors
from skerry.edge.workers.channel import Channel
from skerry.edge.workers.messages import Loaded
from skerry.edge.workers.session import WorkerSession
from skerry.edge.workers.spare import environment
from skerry.edge.workers.worker import Worker

ONE = {"x": np.ones((1, 4), np.float32)}
Act = Callable[["FakeWorker"], None]


class FakeWorker:
    """A worker that does in each step as it was told, or nothing special."""

    def __init__(self, pid: int, on_end: Callable[[Any], None]) -> None:
        self.pid = pid
        self.why = ""
        self.has_ended = False
        self.on_end = on_end
        self.is_closed = False
        self.runs = 0
        self.loading: Act = _nothing
        self.running: Act = _nothing
        self.loaded = LOADED

    def load(self, *_: object) -> Loaded:
        self.loading(self)
        return self.loaded

    def run(self, inputs: Tensors, *, times: int = 1) -> dict[str, Array]:
        self.running(self)
        self.runs += times
        return {"y": inputs["x"]}

    def kill(self, why: str) -> None:
        self.why = why

    def rss_bytes(self) -> int:
        return 2

    def memory_bytes(self) -> int:
        return 1

    def close(self) -> None:
        self.is_closed = True


def _nothing(_: FakeWorker) -> None:
    pass


def die(_: FakeWorker) -> None:
    """Be gone."""
    raise WorkerLostError("the worker process died", hint="Ask again.")


def stumble(_: FakeWorker) -> None:
    """Fail, as a runtime does that has lost its file."""
    raise ModelError("the file is gone", hint="Install it again.")


class Nursery:
    """Makes fake workers; each is told by its number what to do.

    Args:
        plans: `loading` and `running` of the workers, in order; then nothing special.
    """

    def __init__(self, *plans: dict[str, Any]) -> None:
        self.plans = list(plans)
        self.made: list[FakeWorker] = []

    def __call__(self, on_end: Callable[[Worker], None]) -> Worker:
        worker = FakeWorker(len(self.made), on_end)
        for name, what in (self.plans.pop(0) if self.plans else {}).items():
            setattr(worker, name, what)
        self.made.append(worker)
        return cast("Worker", worker)

    def session(self) -> WorkerSession:
        """A session with these workers."""
        return WorkerSession(
            MODEL,
            LoadOptions(),
            start=self,
            runtime="fake",
            clock=FakeClock(),
        )


X = TensorSpec(name="x", dtype="float32", shape=(1, 4))
Y = TensorSpec(name="y", dtype="float32", shape=(1, 4))
LOADED = Loaded(inputs=(X,), outputs=(Y,), providers=("cuda",), fallbacks=("npu: no",))
MODEL = Model(
    path=Path("m.onnx"),
    format=ModelFormat.ONNX,
    inputs=(X,),
    outputs=(Y,),
    sha256="",
    size_bytes=1,
)


def settle() -> None:
    """Wait for the threads that replace workers."""
    for thread in threading.enumerate():
        if "_restore" in thread.name:
            thread.join()


def test_what_the_worker_says_of_itself() -> None:
    """Its signature, what it runs on, its memory."""
    session = Nursery().session()
    assert (session.inputs, session.outputs) == ((X,), (Y,))
    assert (session.providers, session.fallbacks) == (("cuda",), ("npu: no",))
    figures = session.figures()
    assert (figures.restarts, figures.pid) == (0, 0)
    assert (figures.rss_bytes, figures.memory_bytes) == (2, 1)


def test_a_death_costs_one_retry() -> None:
    """The second worker answers; the first is given back."""
    nursery = Nursery({"running": die})
    session = nursery.session()
    assert session.run(ONE)["y"].sum() == 4
    settle()
    assert nursery.made[0].is_closed
    assert (session.figures().restarts, session.figures().pid) == (1, 1)


def test_workers_that_die_while_they_load_are_not_the_requests_fault() -> None:
    """It waits for one that does not, as long as there is hope."""
    nursery = Nursery({"running": die}, {"loading": die})
    session = nursery.session()
    assert session.run(ONE)["y"].sum() == 4
    settle()
    assert len(nursery.made) == 3
    assert all(worker.is_closed for worker in nursery.made[:2])


def test_a_model_that_is_gone_is_told_of() -> None:
    """With the runtime's own error."""
    nursery = Nursery({"running": die}, *[{"loading": stumble}] * 9)
    session = nursery.session()
    with pytest.raises((ModelError, WorkerLostError)) as caught:
        session.run(ONE)
    assert "file is gone" in caught.value.what or "again and" in caught.value.what
    settle()
    assert session.figures().pid is None


def test_a_model_that_has_changed_is_refused() -> None:
    """Another signature is another model."""
    other = Loaded(inputs=(X,), outputs=(X,))
    nursery = Nursery({"running": die}, *[{"loaded": other}] * 9)
    session = nursery.session()
    with pytest.raises(RuntimeFailure, match=r"signature|again and again"):
        session.run(ONE)
    settle()
    assert all(worker.is_closed for worker in nursery.made)


def test_a_worker_that_ended_before_it_was_known_is_replaced() -> None:
    """Nobody tells of its end a second time."""
    nursery = Nursery({"has_ended": True}, {"has_ended": True})
    session = nursery.session()
    settle()
    settle()
    assert session.run(ONE)["y"].sum() == 4
    assert session.figures().pid == 2


def test_only_the_end_of_the_worker_that_serves_counts() -> None:
    """Of one that was replaced long ago, it is no news."""
    nursery = Nursery()
    session = nursery.session()
    session._ended(cast("Worker", FakeWorker(9, _nothing)))
    assert session.figures().restarts == 0
    session._ended(cast("Worker", nursery.made[0]))
    settle()
    assert session.figures().restarts == 1


def test_an_interrupted_inference_is_not_tried_again() -> None:
    """Even where the worker was already dying."""
    waiting: list[WorkerSession] = []

    def hang(worker: FakeWorker) -> None:
        waiting[0].interrupt()
        assert worker.why == "its inference was interrupted"
        die(worker)

    nursery = Nursery({"running": hang})
    waiting.append(nursery.session())
    with pytest.raises(RuntimeFailure, match="was interrupted"):
        waiting[0].run(ONE)
    settle()
    assert waiting[0].run(ONE)["y"].sum() == 4


def test_the_one_that_hangs_is_interrupted() -> None:
    """Of two that run at once, by its thread; the other one is run again."""
    both, dying = threading.Barrier(2), threading.Event()

    def hang(_: FakeWorker) -> None:
        both.wait(60)
        assert dying.wait(60)
        die(_)

    session = Nursery({"running": hang}).session()
    ended: dict[str, object] = {}

    def run(name: str) -> None:
        try:
            ended[name] = session.run(ONE)["y"].sum()
        except RuntimeFailure as error:
            ended[name] = error.what

    threads = [threading.Thread(target=run, args=(name,)) for name in ("old", "hung")]
    threads[0].start()
    while not session._runs:
        pass
    threads[1].start()
    while both.n_waiting or len(session._runs) < 2:
        pass
    session.interrupt(threads[1].ident)
    dying.set()
    for thread in threads:
        thread.join()
    assert ended == {"old": 4, "hung": "the inference of m.onnx was interrupted"}
    settle()


def test_a_late_worker_is_not_asked_again() -> None:
    """Its limit is no reason for a second try."""

    def late(_: FakeWorker) -> None:
        raise LateError("too late", hint="Wait.")

    session = Nursery({"running": late}).session()
    with pytest.raises(RuntimeFailure, match="interrupted"):
        session.run(ONE)
    settle()
    assert session.figures().restarts == 1


def test_a_closed_session_makes_no_more_workers() -> None:
    """Nor does one that is closed while the next is loaded."""
    waiting: list[WorkerSession] = []
    nursery = Nursery({"running": die}, {"loading": lambda _: waiting[0].close()})
    waiting.append(nursery.session())
    with pytest.raises(RuntimeFailure, match="closed"):
        waiting[0].run(ONE)
    settle()
    assert len(nursery.made) == 2
    assert all(worker.is_closed for worker in nursery.made)


def test_no_descriptor_is_left_where_there_are_too_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was made before the one that failed is given back."""
    before = len(list(Path("/proc/self/fd").iterdir()))

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("socket.socketpair", refuse)
    with pytest.raises(OSError, match="Too many"):
        Channel(LOADED, limit_s=1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_worker_sees_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the environment it gets what libraries need, by name."""
    monkeypatch.setenv("SKERRY_TOKEN", "s3cret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    seen = environment()
    assert "s3cret" not in seen.values()
    assert seen["CUDA_VISIBLE_DEVICES"] == "1"
    assert seen["OPENBLAS_NUM_THREADS"] == "1"
    assert "PATH" in seen


def test_an_inference_may_be_repeated() -> None:
    """By the worker, and by the next one where it dies of it."""
    nursery = Nursery({"running": die})
    session = nursery.session()
    session.repeat(ONE, times=5)
    assert [worker.runs for worker in nursery.made] == [0, 5]
    session.close()
    settle()


def test_what_no_loop_can_be_told_of_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its channel is closed, and a thread may run it."""
    channel = Channel(LOADED, limit_s=1)
    nursery = Nursery({"start": lambda _: channel})
    session = nursery.session()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "too many watches")

    monkeypatch.setattr("skerry.edge.workers.replies.Replies.expect", refuse)

    async def story() -> None:
        with pytest.raises(OSError, match="too many watches"):
            session.start(ONE, print)

    asyncio.run(story())
    assert channel.fileno() == -1
    assert session.run(ONE)["y"].sum() == 4


@pytest.mark.parametrize(
    "inputs", [{}, {"x": np.ones((1, 4))}, {"x": np.ones((1, 1 << 20), np.float32)}]
)
def test_what_is_for_a_thread_is_not_started(inputs: dict[str, Array]) -> None:
    """What does not fit, and what is too large to be copied on an event loop."""

    def start(_: object) -> None:
        pytest.fail("it was started")

    session = Nursery({"start": start}).session()

    async def story() -> None:
        assert session.start(inputs, print) is None

    asyncio.run(story())
    session.close()
    assert session.start(ONE, print) is None
