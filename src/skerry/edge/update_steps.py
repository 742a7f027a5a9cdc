"""How a gateway carries out the steps that the update machine asks for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from skerry.comms.download import Peer, download
from skerry.core.budget import Budget
from skerry.core.chunks import (
    SMALLEST_CHUNKED_BYTES,
    Chunks,
    most_list_bytes,
    read_chunks,
)
from skerry.core.documents import LARGEST_DOCUMENT_BYTES, Json
from skerry.core.durable import storage_errors
from skerry.core.errors import (
    ConflictError,
    DataError,
    LinkError,
    MissingExtraError,
    ModelError,
    NewerSchemaError,
    RefusedError,
    SkerryError,
    StateError,
    StorageError,
    TrustError,
)
from skerry.core.release import (
    Blob,
    Manifest,
    Reason,
    Refusal,
    ReleaseId,
    blob_path,
    chunks_path,
    delta_path,
    manifest_path,
    read_manifest,
)
from skerry.core.seams import BlobStore
from skerry.edge.downloads import Downloads
from skerry.edge.installed import Installed
from skerry.edge.neighbours import Neighbours
from skerry.edge.offers import Offers
from skerry.edge.patching import patch_file
from skerry.edge.slots import Slots
from skerry.evolve.probation import Figures
from skerry.evolve.update_state import Found, Run, Step, Transfer
from skerry.evolve.ways import Hop, Way

CONFLICT_PAUSE_S = 0.2
"""How long to wait while another release of the same name is being loaded."""

LONGEST_WHAT = 500
"""Most characters of a refusal's sentence: a part of it may come from outside."""

ResultT = TypeVar("ResultT")


class InThread(Protocol):
    """Runs a blocking call elsewhere, as `asyncio.to_thread` does."""

    def __call__(
        self, call: Callable[..., ResultT], /, *arguments: Any
    ) -> Coroutine[Any, Any, ResultT]:
        """Call it and wait for the result."""
        ...


class Trust(Protocol):
    """The signed metadata, as `skerry.edge.trust` keeps it; its calls block."""

    def refresh(self) -> None:
        """Bring it up to date.

        Raises:
            TrustError: What came must not be believed, or is too old.
            LinkError: The hub cannot be reached.
        """
        ...

    def target(self, path: str) -> Blob | None:
        """What is signed under a path, or None where nothing is."""
        ...

    def accept(self, device: str, body: Mapping[str, Any]) -> bool:
        """Accept what the hub tells a device to run; whether it is signed.

        Raises:
            TrustError: It must not be obeyed.
        """
        ...


class Counted(Protocol):
    """What the engine counts of a release since its switch."""

    @property
    def on_probation(self) -> Figures:
        """What of it is judged on probation."""
        ...

    @property
    def reported(self) -> Mapping[str, Json]:
        """What of it the hub is told, by metric."""
        ...


class Serving(Protocol):
    """What the agent needs of the engine; all but `prepare` return at once."""

    def prepare(self, installed: Installed) -> Any:
        """Load a release beside the running one and check it; blocks.

        Raises:
            RefusedError: It fails a check.
            ModelError: The runtime cannot load it.
        """
        ...

    def switch(self, prepared: Any) -> None:
        """Let it serve from now on; what served stays loaded."""
        ...

    def roll_back(self, name: str) -> ReleaseId | None:
        """Let what served before serve again; None where nothing is loaded."""
        ...

    def settle(self, name: str) -> None:
        """Let go of what served before."""
        ...

    def active(self, name: str) -> Installed | None:
        """What serves."""
        ...

    def figures(self, name: str) -> Counted:
        """How it has served since the switch."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UpdateParts:
    """What the updates of all release names share.

    Attributes:
        tenant: Whose device this is.
        target: The device's target.
        downloads: Where partial downloads are kept, and the room for them.
        blobs: Where blobs come from.
        trust: What is signed.
        engine: What serves.
        slots: What is on the disk.
        neighbours: Who on the same site may have a blob, or None.
        offers: The hub's ways to a model, or None.
        in_thread: Where blocking work goes.
        trust_lock: One at a time uses `trust`.
        bench_lock: One at a time is measured against its budget.
    """

    tenant: str
    target: str
    downloads: Downloads
    blobs: BlobStore
    trust: Trust
    engine: Serving
    slots: Slots
    neighbours: Neighbours | None = None
    offers: Offers | None = None
    in_thread: InThread = asyncio.to_thread
    trust_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    bench_lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class _MissingError(LinkError):
    """The store does not have a blob."""


class UpdateSteps:
    """Carries out the steps of one release name, one at a time.

    Args:
        name: The release's name.
        parts: What the updates of all names share.
    """

    def __init__(self, name: str, parts: UpdateParts) -> None:
        self._name = name
        self._parts = parts
        self._downloads = parts.downloads.of(name)
        self._signed = b""
        self._manifest: Blob | None = None
        self._contents: dict[str, Path] = {}
        self._installed: Installed | None = None
        self._prepared: Any = None

    async def carry_out(self, run: Run) -> Found | None:
        """Do one step.

        Returns:
            What was found, for `Step.MANIFEST`.

        Raises:
            SkerryError: It failed; what serves goes on serving.
        """
        if run.step is not Step.SWITCH:
            self._let_go()
        match run.step:
            case Step.REFRESH:
                async with self._parts.trust_lock:
                    await self._parts.in_thread(self._parts.trust.refresh)
            case Step.MANIFEST:
                return await self._find(run.want.version)
            case Step.BLOBS:
                await self._download_all(_transfer(run))
            case Step.REBUILD:
                self._contents = await self._parts.in_thread(
                    self._rebuild, _transfer(run)
                )
            case Step.INSTALL:
                await self._install()
            case Step.LOAD:
                await self._load(is_new=run.transfer is not None)
            case Step.SWITCH:
                await self._switch(run)
            case Step.SETTLE:
                await self._parts.in_thread(self._parts.slots.settle, self._name)
                self._parts.engine.settle(self._name)
            case Step.ROLL_BACK:
                await self._roll_back(run)
        return None

    def _let_go(self) -> None:
        """Close what was loaded and is not wanted any more."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.close()

    async def _find(self, version: int) -> Found:
        parts = self._parts
        release = ReleaseId(name=self._name, version=version)
        blob = await self._target(manifest_path(release, tenant=parts.tenant))
        if blob is None:
            raise TrustError(
                f"{release} is not signed by anybody whom this device trusts",
                hint="Publish it with the tenant's key.",
            )
        if blob.size_bytes > LARGEST_DOCUMENT_BYTES:
            raise DataError(
                f"the manifest of {release} has {blob.size_bytes} bytes, at most "
                f"{LARGEST_DOCUMENT_BYTES} expected",
                hint="Make the release again.",
            )
        await self._fetch(blob)
        path = await parts.in_thread(self._file_of, blob)
        self._signed = await parts.in_thread(parts.slots.vault.read, path)
        self._manifest = blob
        manifest = read_manifest(self._signed, name=f"the manifest of {release}")
        return Found(manifest=manifest, ways=await self._ways(manifest))

    async def _ways(self, manifest: Manifest) -> tuple[Way, ...]:
        """Ways to the new model from those that lie in the two slots."""
        parts = self._parts
        model = manifest.model_for(parts.target)
        if model is None:
            return ()
        goal = model.blob
        if await parts.in_thread(parts.slots.find, self._name, goal) is not None:
            return ()
        origins = [blob.sha256 for blob in self._models()]
        found: list[Way] = []
        for origin in origins:
            path = delta_path(origin, goal.sha256, tenant=parts.tenant)
            delta = await self._target(path)
            if delta is not None:
                found.append((Hop(origin=origin, result=goal, delta=delta),))
        if not found and parts.offers is not None:
            offers = parts.offers
            found = [await offers.find(one, goal, self._blob) for one in origins]
        return tuple(way for way in found if way)

    async def _blob(self, sha256: str) -> Blob | None:
        return await self._target(blob_path(sha256, tenant=self._parts.tenant))

    async def _target(self, path: str) -> Blob | None:
        async with self._parts.trust_lock:
            return await self._parts.in_thread(self._parts.trust.target, path)

    def _models(self) -> list[Blob]:
        slots = self._parts.slots
        here = (slots.active(self._name), slots.standby(self._name))
        return [installed.model.blob for installed in here if installed is not None]

    async def _download_all(self, transfer: Transfer) -> None:
        parts = self._parts
        deltas = [hop.delta for hop in transfer.way]
        missing = [
            blob
            for blob in (*_whole(transfer).values(), *deltas)
            if await parts.in_thread(parts.slots.find, self._name, blob) is None
        ]
        lists = [await self._chunk_list(blob) for blob in missing]
        # The manifest, too: each attempt begins with it.
        kept = [one for one in (*missing, *lists, self._manifest) if one is not None]
        # Each model on the way lies there, until the next one is made.
        made = [hop.result for hop in transfer.way[:-1]]
        placed = (*transfer.blobs.values(), *made)
        placed_bytes = sum(blob.size_bytes for blob in placed)
        await parts.in_thread(
            lambda: self._downloads.make_room(
                kept,
                placed_bytes=placed_bytes,
                release=transfer.manifest.id,
            )
        )
        for blob in missing:
            try:
                await self._fetch(blob)
            except _MissingError as error:
                if blob not in deltas:
                    raise
                # A delta only saves bytes: without it the model is fetched in full.
                raise TrustError(
                    error.what, hint=error.hint, reason=Reason.CORRUPT
                ) from error

    async def _chunk_list(self, blob: Blob) -> Blob | None:
        """The list of a blob's chunks, where one is signed that can be one."""
        if blob.size_bytes < SMALLEST_CHUNKED_BYTES:
            return None
        found = await self._target(chunks_path(blob.sha256, tenant=self._parts.tenant))
        most_bytes = most_list_bytes(blob.size_bytes)
        return found if found and found.size_bytes <= most_bytes else None

    async def _chunks(self, blob: Blob) -> Chunks | None:
        """What each chunk of a blob must be; None where nothing useful says so."""
        listed = await self._chunk_list(blob)
        if listed is None:
            return None
        try:
            await self._fetch_whole(listed)
            path = await self._parts.in_thread(self._file_of, listed)
            content = await self._parts.in_thread(self._parts.slots.vault.read, path)
            return read_chunks(content, blob)
        except (DataError, TrustError):
            # It only saves bytes: without it the blob is still checked as a whole.
            return None

    async def _fetch(self, blob: Blob) -> None:
        """Download a blob, or the rest of it, unless it is here."""
        parts = self._parts
        if await parts.in_thread(self._look, blob) is None:
            try:
                await self._fetch_whole(blob, await self._chunks(blob))
            except DataError as error:  # What the store does not have may yet come.
                raise _MissingError(error.what, hint=error.hint) from error

    async def _fetch_whole(self, blob: Blob, chunks: Chunks | None = None) -> None:
        parts = self._parts
        peers: Sequence[Peer] = ()
        if chunks is not None and parts.neighbours is not None:
            peers = await parts.neighbours.find(blob.sha256)
        part = await parts.in_thread(self._downloads.part_to_write, blob)
        await download(
            parts.blobs,
            blob,
            part,
            chunks=chunks,
            peers=peers,
            received=parts.downloads.count,
            opens=parts.slots.vault.open_growing,
        )

    def _look(self, blob: Blob) -> Path | None:
        """Where a blob lies whole, in a slot or downloaded."""
        found = self._parts.slots.find(self._name, blob)
        part = self._downloads.part(blob)
        holds = self._parts.slots.vault.holds
        return found or (part if holds(part, blob) else None)

    def _file_of(self, blob: Blob) -> Path:
        path = self._look(blob)
        if path is None:
            raise TrustError(
                f"what was downloaded as {blob.sha256} is something else",
                hint="Is the hub's store damaged?",
                reason=Reason.CORRUPT,
            )
        return path

    def _rebuild(self, transfer: Transfer) -> dict[str, Path]:
        contents = {
            role: self._file_of(blob) for role, blob in _whole(transfer).items()
        }
        if transfer.way:
            contents["model"] = self._patched(transfer.way)
        return contents

    def _patched(self, way: Way) -> Path:
        """Make the model, one delta after the other."""
        slots, origin = self._parts.slots, way[0].origin
        olds = [blob for blob in self._models() if blob.sha256 == origin]
        old = slots.find(self._name, olds[0]) if olds else None
        if old is None:
            raise TrustError(
                f"the model {origin} is not here any more",
                hint="It is fetched in full.",
                reason=Reason.CORRUPT,
            )
        for number, hop in enumerate(way):
            made = self._downloads.part_to_write(hop.result)
            try:
                patch_file(slots.vault, old, self._file_of(hop.delta), made, hop.result)
            except DataError as error:
                raise TrustError(
                    error.what, hint=error.hint, reason=Reason.CORRUPT
                ) from error
            if number:
                with storage_errors(old):
                    old.unlink()
            old = made
        return old

    async def _install(self) -> None:
        parts, contents = self._parts, self._contents
        self._installed = await parts.in_thread(
            parts.slots.install, self._signed, contents
        )
        self._contents = {}
        await parts.in_thread(self._downloads.clear)

    async def _load(self, *, is_new: bool) -> None:
        parts = self._parts
        installed = self._installed if is_new else parts.slots.standby(self._name)
        if installed is None:
            raise StateError(
                f"there is no {self._name} in the standby slot",
                hint="It will be fetched again.",
            )
        await parts.in_thread(self._check, installed, is_new)
        async with parts.bench_lock:
            while True:
                # Who asks over HTTP may have the same name loaded just now.
                with contextlib.suppress(ConflictError):
                    self._prepared = await parts.in_thread(
                        parts.engine.prepare, installed
                    )
                    break
                await asyncio.sleep(CONFLICT_PAUSE_S)

    def _check(self, installed: Installed, is_new: bool) -> None:  # noqa: FBT001
        try:
            self._parts.slots.check(installed)
        except TrustError as error:
            if not is_new:
                raise
            # It was whole when it was written: the disk has spoilt it since, and what
            # is fetched anew is written anew.
            raise StorageError(error.what, hint=error.hint) from error

    async def _switch(self, run: Run) -> None:
        parts, prepared = self._parts, self._prepared
        release = ReleaseId(name=self._name, version=run.want.version)
        if prepared is None:
            raise StateError(f"{release} is not loaded", hint="It is tried again.")
        # The record first: were it the engine, a power cut in between would bring back
        # the old release after the new one had answered.
        switch = parts.slots.switch
        await parts.in_thread(lambda: switch(release, rollout=run.want.rollout))
        parts.engine.switch(prepared)
        self._prepared = None

    async def _roll_back(self, run: Run) -> None:
        # The engine first: what serves matters more than what the record says of it.
        parts = self._parts
        active = parts.engine.active(self._name)
        if active is not None and active.id.version == run.want.version:
            back = parts.engine.roll_back(self._name)
            standby = parts.slots.standby(self._name)
            if back is None and standby is not None:
                accepted = without_limits(standby)
                parts.engine.switch(
                    await parts.in_thread(parts.engine.prepare, accepted)
                )
        roll_back = parts.slots.roll_back
        is_undo = run.refused is None
        await parts.in_thread(
            lambda: roll_back(self._name, keep=is_undo, refused=run.refused)
        )


def without_limits(installed: Installed) -> Installed:
    """A release that was accepted before, to be loaded whatever the machine's load."""
    manifest = replace(installed.manifest, budget=Budget())
    return replace(installed, manifest=manifest)


def refusal_of(
    error: Exception, release: str, step: Step, *, at_ms: int
) -> tuple[Refusal, bool]:
    """Say why a step failed.

    Returns:
        The refusal, and whether such a failure was foreseen.
    """
    reason = _reason(error, step)
    what = error.what if isinstance(error, SkerryError) else repr(error)
    refusal = Refusal(
        release=release,
        reason=reason or Reason.LOAD,
        what=what[:LONGEST_WHAT],
        at_ms=at_ms,
        measured=error.measured if isinstance(error, RefusedError) else None,
        allowed=error.allowed if isinstance(error, RefusedError) else None,
    )
    return refusal, reason is not None


def _reason(error: Exception, step: Step) -> Reason | None:
    if isinstance(error, RefusedError):
        known = {reason.value: reason for reason in Reason}
        return known.get(error.reason, Reason.UNFIT)
    fixed: tuple[tuple[type[Exception], Reason], ...] = (
        (LinkError, Reason.UNREACHABLE),
        (StorageError, Reason.STORAGE),
        (OSError, Reason.STORAGE),
        (NewerSchemaError, Reason.TOO_NEW),
        (MissingExtraError, Reason.UNFIT),
        (ModelError, Reason.LOAD),
        (DataError, Reason.CORRUPT),
    )
    for kind, reason in fixed:
        if isinstance(error, kind):
            return reason
    # A hub that answers nonsense is as good as none.
    is_remote = step in {Step.REFRESH, Step.MANIFEST, Step.BLOBS}
    is_ours = isinstance(error, SkerryError)
    return Reason.UNREACHABLE if is_remote and is_ours else None


def _transfer(run: Run) -> Transfer:
    if run.transfer is None:
        raise StateError(f"{run.step} without a transfer", hint="Report this as a bug.")
    return run.transfer


def _whole(transfer: Transfer) -> dict[str, Blob]:
    """What is downloaded as it is: all but a model that is made of deltas."""
    return {
        role: blob
        for role, blob in transfer.blobs.items()
        if role != "model" or not transfer.way
    }
