from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import insert

from skerry.cloud import retraining as retraining_module
from skerry.cloud.database import Database, sqlite_url
from skerry.cloud.retraining import (
    Assignment,
    Candidate,
    Retrainings,
    RetrainingState,
    Trainer,
)
from skerry.cloud.samples import Samples
from skerry.cloud.tables import devices, releases
from skerry.core.clock import FakeClock
from skerry.core.errors import DataError, ModelError, SkerryError, StateError
from skerry.core.model import TensorSpec
from skerry.core.release import Blob, Manifest, ReleaseModel, write_manifest
from tests.unit.cloud.test_samples import message, take


class _Blobs:
    """Blobs in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        assert end is None
        for start in range(offset, len(self.kept[sha256]), 3):
            yield self.kept[sha256][start : start + 3]

    async def put(self, sha256: str, content: bytes) -> None:
        self.kept[sha256] = content

    async def stat(self, sha256: str) -> int | None:
        return len(self.kept[sha256]) if sha256 in self.kept else None

    def add(self, content: bytes) -> Blob:
        sha256 = hashlib.sha256(content).hexdigest()
        self.kept[sha256] = content
        return Blob(sha256=sha256, size_bytes=len(content))


class _Hub:
    def __init__(self, database: Database, trainer: Trainer | None) -> None:
        self.clock = FakeClock(unix_ms=5000)
        self.database = database
        self.blobs = _Blobs()
        self.samples = Samples(database, tenant="main", clock=self.clock)
        self.replay = self.blobs.add(b"replay").sha256
        self.retrainings = self.make(trainer)

    def make(self, trainer: Trainer | None) -> Retrainings:
        return Retrainings(
            self.database,
            samples=self.samples,
            blobs=self.blobs,
            trainer=trainer,
            tenant="main",
            clock=self.clock,
        )

    async def publish(self) -> None:
        model = ReleaseModel(
            target="any",
            runtime="null",
            blob=self.blobs.add(b"the model"),
            inputs=(TensorSpec(name="picture", dtype="float32", shape=(1, 3, 4)),),
            outputs=(),
        )
        manifest = Manifest(
            name="meter",
            version=1,
            created_at_ms=0,
            models=(model,),
            golden=self.blobs.add(b"golden"),
            task=self.blobs.add(b"the task"),
        )
        content = write_manifest(manifest)
        await self.database.run(
            lambda connection: (
                connection.execute(
                    insert(releases).values(
                        tenant="main",
                        name="meter",
                        version=1,
                        manifest_sha256=hashlib.sha256(content).hexdigest(),
                        document=content.decode(),
                        created_at_ms=0,
                    )
                )
                and None
            )
        )

    async def label(self, n: int) -> None:
        await self.database.run(
            lambda connection: (
                connection.execute(
                    insert(devices).values(
                        tenant="main",
                        name="gate-1",
                        labels="{}",
                        created_at_ms=0,
                        is_online=False,
                    )
                )
                and None
            )
        )
        await take(
            self.database, self.samples, *(message(seq) for seq in range(1, n + 1))
        )
        for sample in (await self.samples.ls())[: n - 1]:
            await self.samples.label(sample.id, "4")


def _run(
    folder: Path, trainer: Trainer | None, work: Callable[[_Hub], Awaitable[None]]
) -> None:
    async def main() -> None:
        database = Database(sqlite_url(folder / "hub.sqlite"))
        try:
            await database.migrate()
            hub = _Hub(database, trainer)
            await hub.publish()
            await hub.label(3)
            await work(hub)
            await hub.retrainings.close()
        finally:
            await database.close()

    asyncio.run(main())


def _passes(_: Assignment) -> Candidate:
    return Candidate(
        passed=True,
        reason="",
        evidence={"field_after": 0.9},
        blobs={"model": b"new model", "drift": b"new drift"},
    )


def test_a_passed_retraining_leaves_a_candidate(tmp_path: Path) -> None:
    """The trainer gets all it needs; what it made lies in the blob store."""
    got: list[Assignment] = []

    def train(assignment: Assignment) -> Candidate:
        got.append(assignment)
        assert threading.current_thread() is not threading.main_thread()
        return _passes(assignment)

    async def work(hub: _Hub) -> None:
        begun = await hub.retrainings.start("meter/1", replay=hub.replay)
        assert begun.state is RetrainingState.QUEUED
        await hub.retrainings.wait()
        job = await hub.retrainings.show(begun.id)
        assert job.state is RetrainingState.PASSED
        assert job.evidence == {"field_after": 0.9}
        assert (job.started_at_ms, job.finished_at_ms) == (5000, 5000)
        assert job.reason == ""
        assert hub.blobs.kept[job.candidate["model"].sha256] == b"new model"
        assert hub.blobs.kept[job.candidate["drift"].sha256] == b"new drift"
        assert await hub.retrainings.ls() == (job,)

    _run(tmp_path, train, work)
    (assignment,) = got
    assert (assignment.model, assignment.task) == (b"the model", b"the task")
    assert assignment.replay == b"replay"
    assert assignment.manifest.name == "meter"
    assert [sample.label for sample in assignment.samples] == ["4", "4"]
    assert assignment.samples[0].inputs["picture"].shape == (1, 3, 4)


def test_a_gate_that_does_not_hold_fails_it(tmp_path: Path) -> None:
    """The evidence and what was made are kept, with the reason."""

    def train(_: Assignment) -> Candidate:
        return Candidate(
            passed=False,
            reason="no gain",
            evidence={"n": 1},
            blobs={"model": b"m"},
        )

    async def work(hub: _Hub) -> None:
        begun = await hub.retrainings.start("meter/1", replay=hub.replay)
        await hub.retrainings.wait()
        job = await hub.retrainings.show(begun.id)
        assert (job.state, job.reason) == (RetrainingState.FAILED, "no gain")
        assert job.evidence == {"n": 1}

    _run(tmp_path, train, work)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModelError("the head is quantized", hint="h"), "the head is quantized"),
        (ValueError("oops"), "the trainer crashed: a bug of ours"),
    ],
)
def test_a_trainer_that_raises_fails_it(
    tmp_path: Path, error: Exception, reason: str
) -> None:
    """An error of our tree says why; any other is a bug, and no more is said."""

    def train(_: Assignment) -> Candidate:
        raise error

    async def work(hub: _Hub) -> None:
        begun = await hub.retrainings.start("meter/1", replay=hub.replay)
        await hub.retrainings.wait()
        job = await hub.retrainings.show(begun.id)
        assert (job.state, job.reason) == (RetrainingState.FAILED, reason)

    _run(tmp_path, train, work)


def test_retrainings_run_one_after_the_other(tmp_path: Path) -> None:
    """Two that are asked for at once do not overlap."""
    running, most = 0, 0

    def train(assignment: Assignment) -> Candidate:
        nonlocal running, most
        running += 1
        most = max(most, running)
        threading.Event().wait(0.02)
        running -= 1
        return _passes(assignment)

    async def work(hub: _Hub) -> None:
        for _ in range(2):
            await hub.retrainings.start("meter/1", replay=hub.replay)
        await hub.retrainings.wait()
        states = {job.state for job in await hub.retrainings.ls()}
        assert states == {RetrainingState.PASSED}

    _run(tmp_path, train, work)
    assert most == 1


def test_after_a_restart_what_ran_has_failed(tmp_path: Path) -> None:
    """A job that was under way says that the hub stopped meanwhile."""
    begun_in_thread, may_end = threading.Event(), threading.Event()

    def train(assignment: Assignment) -> Candidate:
        begun_in_thread.set()
        may_end.wait(5)
        return _passes(assignment)

    async def work(hub: _Hub) -> None:
        begun = await hub.retrainings.start("meter/1", replay=hub.replay)
        await asyncio.to_thread(begun_in_thread.wait, 5)
        await hub.retrainings.close()
        may_end.set()
        restarted = hub.make(_passes)
        await restarted.recover()
        job = await restarted.show(begun.id)
        assert job.state is RetrainingState.FAILED
        assert "the hub stopped" in job.reason

    _run(tmp_path, train, work)


def test_what_cannot_begin_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No trainer, no release, no replay set, no labels, a blob that is too large."""

    async def work(hub: _Hub) -> None:
        start = hub.retrainings.start
        cases: list[tuple[str, str, type[SkerryError], str]] = [
            ("meter/2", hub.replay, DataError, "no release meter/2"),
            ("Bad Name/1", hub.replay, SkerryError, "cannot be the name"),
            ("meter/1", "0" * 64, DataError, "no blob"),
            ("meter/1", "../x", DataError, "no blob"),
        ]
        for name, replay, kind, what in cases:
            with pytest.raises(kind, match=what):
                await start(name, replay=replay)
        with pytest.raises(StateError, match="without a trainer"):
            await hub.make(None).start("meter/1", replay=hub.replay)
        with pytest.raises(DataError, match="no retraining"):
            await hub.retrainings.show("nothing")
        monkeypatch.setattr(retraining_module, "LARGEST_BLOB_BYTES", 3)
        begun = await start("meter/1", replay=hub.replay)
        await hub.retrainings.wait()
        assert "bytes" in (await hub.retrainings.show(begun.id)).reason

    _run(tmp_path, _passes, work)


def test_without_labels_nothing_begins(tmp_path: Path) -> None:
    """Samples that nobody has labelled teach nothing."""

    async def main() -> None:
        database = Database(sqlite_url(tmp_path / "hub.sqlite"))
        try:
            await database.migrate()
            hub = _Hub(database, _passes)
            await hub.publish()
            await hub.label(1)
            with pytest.raises(DataError, match="no labelled samples"):
                await hub.retrainings.start("meter/1", replay=hub.replay)
        finally:
            await database.close()

    asyncio.run(main())
