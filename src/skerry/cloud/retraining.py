"""Retrainings: jobs that make a candidate release out of labelled field samples.

The hub gathers what a trainer needs, runs it in a thread, one at a time, and keeps what
it made as blobs, with the evidence. It neither signs nor rolls out: a candidate is the
publisher's to release.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import msgspec
from sqlalchemy import Connection, insert, select, update

from skerry.cloud import tables
from skerry.cloud.database import Database, to_text
from skerry.cloud.samples import Samples
from skerry.core.clock import Clock
from skerry.core.documents import Json
from skerry.core.errors import DataError, SkerryError, StateError
from skerry.core.release import Blob, Manifest, ReleaseId, is_sha256, read_manifest
from skerry.core.seams import Array, BlobStore

log = logging.getLogger(__name__)

LARGEST_BLOB_BYTES = 1 << 28
"""Larger models and replay sets are not refitted on the hub."""


class RetrainingState(StrEnum):
    """Where a retraining stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PASSED = "passed"
    """There is a candidate, and each gate held."""
    FAILED = "failed"
    """There is none, or a gate did not hold."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledSample:
    """A field sample and what a person says it shows.

    Attributes:
        id: Its name.
        kind: Why it was chosen: `uncertain` or `random`.
        inputs: One array an input, with a batch axis of 1.
        label: The class's name or number.
    """

    id: str
    kind: str
    inputs: Mapping[str, Array]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assignment:
    """What a trainer works on.

    Attributes:
        manifest: The release.
        model: The file of its model.
        task: The file of its task (`skerry.task/1`).
        replay: Old samples: an `.npz` of arrays named after the inputs, and `label`.
        samples: Labelled field samples.
    """

    manifest: Manifest
    model: bytes
    task: bytes
    replay: bytes
    samples: tuple[LabelledSample, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """What a trainer made.

    Attributes:
        passed: Whether each gate held.
        reason: Which did not; empty where all held.
        evidence: Figures before and after.
        blobs: The candidate's files by role (`model`, `drift`).
    """

    passed: bool
    reason: str
    evidence: Mapping[str, Json]
    blobs: Mapping[str, bytes]


Trainer = Callable[[Assignment], Candidate]
"""Works in a thread; raises a SkerryError where there can be no candidate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """One job.

    Attributes:
        id: Its name.
        release: What is refitted, `NAME/VERSION`.
        replay: The SHA-256 of the replay set.
        state: Where it stands.
        started_at_ms: When it was asked for, milliseconds since 1970.
        finished_at_ms: When it ended, or None.
        reason: Why it failed, or empty.
        evidence: Figures before and after.
        candidate: The blobs it made, by role (`model`, `drift`).
    """

    id: str
    release: str
    replay: str
    state: RetrainingState = RetrainingState.QUEUED
    started_at_ms: int
    finished_at_ms: int | None = None
    reason: str = ""
    evidence: Mapping[str, Json] = field(default_factory=dict)
    candidate: Mapping[str, Blob] = field(default_factory=dict)


class Retrainings:
    """The retrainings of a tenant.

    Args:
        database: Where they are.
        samples: Where the labelled samples are.
        blobs: Where models, replay sets and candidates are.
        trainer: What makes a candidate; None where this hub cannot.
        tenant: Whose they are.
        clock: Says when.
    """

    def __init__(
        self,
        database: Database,
        *,
        samples: Samples,
        blobs: BlobStore,
        trainer: Trainer | None,
        tenant: str,
        clock: Clock,
    ) -> None:
        self._database = database
        self._samples = samples
        self._blobs = blobs
        self._trainer = trainer
        self._tenant = tenant
        self._clock = clock
        self._turn = asyncio.Lock()
        self._jobs: set[asyncio.Task[None]] = set()

    async def recover(self) -> None:
        """After a restart of the hub: what was under way has failed."""
        for job in await self.ls():
            if job.state in {RetrainingState.QUEUED, RetrainingState.RUNNING}:
                await self._end(job, reason="the hub stopped meanwhile: start it again")

    async def close(self) -> None:
        """Stop; what is under way in a thread runs to its end and is not kept."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    async def start(self, release: str, *, replay: str) -> Retraining:
        """Begin a retraining and return at once.

        Args:
            release: `NAME/VERSION`; it is published here.
            replay: The SHA-256 of the blob with old samples.

        Raises:
            StateError: This hub has no trainer.
            UsageError: That is no release, or there is none such.
            DataError: There is no such blob, or there are no labelled samples.
        """
        if self._trainer is None:
            raise StateError(
                "this hub cannot retrain: it was started without a trainer",
                hint="Start it by `skerry hub up`.",
            )
        await self._manifest(release)
        if not is_sha256(replay) or await self._blobs.stat(replay) is None:
            raise DataError(
                f"there is no blob {replay[:80]!r} of old samples",
                hint="Put the .npz under /v1/blobs/SHA256 first.",
            )
        if not await self._samples.ls(release=release, labelled=True, limit=1):
            raise DataError(
                f"{release} has no labelled samples", hint="Label some first."
            )
        job = Retraining(
            id=f"retraining-{secrets.token_hex(6)}",
            release=release,
            replay=replay,
            started_at_ms=self._clock.unix_ms(),
        )
        await self._database.run(lambda connection: self._insert(connection, job))
        running = asyncio.create_task(self._run(job), name=job.id)
        self._jobs.add(running)
        running.add_done_callback(self._jobs.discard)
        return job

    async def show(self, retraining_id: str) -> Retraining:
        """One retraining.

        Raises:
            DataError: There is none of this id.
        """
        for job in await self._read(retraining_id):
            return job
        raise DataError(
            f"there is no retraining {retraining_id[:80]!r}", hint="List them first."
        )

    async def ls(self) -> tuple[Retraining, ...]:
        """All retrainings, the oldest first."""
        return await self._read(None)

    async def wait(self) -> None:
        """Return once nothing is under way."""
        while self._jobs:
            await asyncio.wait(self._jobs)

    async def _run(self, job: Retraining) -> None:
        async with self._turn:
            job = await self._write(replace(job, state=RetrainingState.RUNNING))
            try:
                candidate = await self._train(job)
                blobs = {
                    role: await self._keep(content)
                    for role, content in candidate.blobs.items()
                }
            except SkerryError as error:
                await self._end(job, reason=error.what)
            except Exception:
                log.exception("retraining.crashed", extra={"id": job.id})
                await self._end(job, reason="the trainer crashed: a bug of ours")
            else:
                ended = replace(job, evidence=candidate.evidence, candidate=blobs)
                await self._end(
                    ended, reason="" if candidate.passed else candidate.reason
                )

    async def _train(self, job: Retraining) -> Candidate:
        if self._trainer is None:
            raise StateError("there is no trainer", hint="Restart the hub.")
        manifest = await self._manifest(job.release)
        labelled = await self._samples.labelled(job.release)
        assignment = Assignment(
            manifest=manifest,
            model=await self._fetch(manifest.models[0].blob.sha256),
            task=await self._fetch(manifest.task.sha256),
            replay=await self._fetch(job.replay),
            samples=tuple(
                LabelledSample(
                    id=sample.id,
                    kind=sample.kind,
                    inputs=inputs,
                    label=sample.label or "",
                )
                for sample, inputs in labelled
            ),
        )
        return await asyncio.to_thread(self._trainer, assignment)

    async def _fetch(self, sha256: str) -> bytes:
        size_bytes = await self._blobs.stat(sha256)
        if size_bytes is None or size_bytes > LARGEST_BLOB_BYTES:
            raise DataError(
                f"blob {sha256} has {size_bytes} bytes, up to {LARGEST_BLOB_BYTES} "
                "expected",
                hint="Publish it first; larger ones are not refitted on the hub.",
            )
        pieces = [piece async for piece in self._blobs.open(sha256)]
        return b"".join(pieces)

    async def _keep(self, content: bytes) -> Blob:
        sha256 = hashlib.sha256(content).hexdigest()
        await self._blobs.put(sha256, content)
        return Blob(sha256=sha256, size_bytes=len(content))

    async def _manifest(self, release: str) -> Manifest:
        wanted = ReleaseId.parse(release)
        table = tables.releases
        query = select(table.c.document).where(
            table.c.tenant == self._tenant,
            table.c.name == wanted.name,
            table.c.version == wanted.version,
        )
        document = await self._database.run(
            lambda connection: connection.execute(query).scalar()
        )
        if document is None:
            raise DataError(
                f"there is no release {release}", hint="Publish it here first."
            )
        return read_manifest(document.encode(), name=release)

    async def _end(self, job: Retraining, *, reason: str) -> None:
        state = RetrainingState.FAILED if reason else RetrainingState.PASSED
        ended = replace(
            job, state=state, reason=reason, finished_at_ms=self._clock.unix_ms()
        )
        await self._write(ended)
        log.info(
            "retraining.ended", extra={"id": job.id, "state": state, "why": reason}
        )

    async def _write(self, job: Retraining) -> Retraining:
        table = tables.retrainings
        change = (
            update(table)
            .where(table.c.tenant == self._tenant, table.c.id == job.id)
            .values(state=job.state.value, document=to_text(msgspec.to_builtins(job)))
        )
        await self._database.run(lambda connection: connection.execute(change) and None)
        return job

    def _insert(self, connection: Connection, job: Retraining) -> None:
        connection.execute(
            insert(tables.retrainings).values(
                tenant=self._tenant,
                id=job.id,
                state=job.state.value,
                document=to_text(msgspec.to_builtins(job)),
                started_at_ms=job.started_at_ms,
            )
        )

    async def _read(self, retraining_id: str | None) -> tuple[Retraining, ...]:
        table = tables.retrainings
        query = select(table.c.document).where(table.c.tenant == self._tenant)
        if retraining_id is not None:
            query = query.where(table.c.id == retraining_id)
        query = query.order_by(table.c.started_at_ms, table.c.id)

        def work(connection: Connection) -> tuple[Retraining, ...]:
            documents = connection.execute(query).scalars().all()
            return tuple(
                msgspec.json.decode(document, type=Retraining) for document in documents
            )

        return await self._database.run(work)
