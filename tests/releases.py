"""Small releases for the null runtime, and a hub in memory to get them from."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skerry.core.budget import Budget
from skerry.core.errors import DataError, LinkError
from skerry.core.model import TensorSpec
from skerry.core.release import (
    Blob,
    Manifest,
    ReleaseId,
    ReleaseModel,
    blob_path,
    delta_path,
    manifest_path,
    write_manifest,
)
from skerry.tasks.golden import Golden, GoldenSample, golden_to_bytes

NAME = "meter"
SIZE = 3
INPUTS = (TensorSpec(name="x", dtype="float32", shape=(1, SIZE)),)
OUTPUTS = (TensorSpec(name="y", dtype="float32", shape=(1, SIZE)),)
TASK = b'schema = "skerry.task/1"\n'


def blob_of(content: bytes) -> Blob:
    """Its hash and size."""
    return Blob(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallRelease:
    """A release and the bytes of its blobs."""

    manifest: Manifest
    signed: bytes
    contents: Mapping[str, bytes]


def small_release(
    version: int,
    *,
    name: str = NAME,
    expects: float = 0.0,
    requires: int = 1,
    budget: Budget | None = None,
) -> SmallRelease:
    """Make one.

    Args:
        version: Its version.
        name: Its name.
        expects: What its golden samples expect of a model that answers zeros.
        requires: The level of the agent that it needs.
        budget: What must hold.
    """
    sample = GoldenSample(
        name="s0",
        inputs={"x": np.zeros((1, SIZE), np.float32)},
        outputs={"y": np.full((1, SIZE), expects, np.float32)},
    )
    contents = {
        "model": b"model %d of a kind that nobody runs " % version * 20,
        "golden": golden_to_bytes(Golden(samples=(sample,), tolerance=0.01)),
        "task": TASK,
    }
    model = ReleaseModel(
        target="any",
        runtime="null",
        blob=blob_of(contents["model"]),
        inputs=INPUTS,
        outputs=OUTPUTS,
    )
    manifest = Manifest(
        name=name,
        version=version,
        created_at_ms=0,
        models=(model,),
        golden=blob_of(contents["golden"]),
        task=blob_of(contents["task"]),
        requires=requires,
        budget=budget or Budget(),
    )
    return SmallRelease(
        manifest=manifest, signed=write_manifest(manifest), contents=contents
    )


@dataclass
class MemoryHub:
    """What is published: a `BlobStore`, and the `Trust` of a device that believes it.

    Attributes:
        blobs: Bytes by hash.
        targets: What is signed, by path.
        errors: Raised by the next calls of `refresh`, one each.
        is_down: Whether nothing can be reached.
        opened: The hashes that were asked for.
        n_break: A stream breaks after this many bytes, once, or never if None.
    """

    blobs: dict[str, bytes] = field(default_factory=dict)
    targets: dict[str, Blob] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)
    is_down: bool = False
    opened: list[str] = field(default_factory=list)
    n_break: int | None = None

    def publish(self, release: SmallRelease, *, tenant: str = "main") -> None:
        """Sign and keep a release."""
        path = manifest_path(release.manifest.id, tenant=tenant)
        self.targets[path] = self.keep(release.signed)
        for content in release.contents.values():
            blob = self.keep(content)
            self.targets[blob_path(blob.sha256, tenant=tenant)] = blob

    def publish_delta(self, old: bytes, new: bytes, delta: bytes) -> Blob:
        """Sign and keep a delta."""
        origin, result = blob_of(old).sha256, blob_of(new).sha256
        blob = self.keep(delta)
        self.targets[delta_path(origin, result, tenant="main")] = blob
        return blob

    def withdraw(self, release: ReleaseId) -> None:
        """Sign a list without this release."""
        self.targets.pop(manifest_path(release, tenant="main"), None)

    def keep(self, content: bytes) -> Blob:
        """Keep bytes."""
        blob = blob_of(content)
        self.blobs[blob.sha256] = content
        return blob

    def refresh(self) -> None:
        """As `Trust.refresh`."""
        if self.errors:
            raise self.errors.pop(0)
        if self.is_down:
            raise LinkError("the hub is down", hint="Wait.")

    def target(self, path: str) -> Blob | None:
        """As `Trust.target`."""
        return self.targets.get(path)

    def accept(self, device: str, body: Mapping[str, Any]) -> bool:
        """As `Trust.accept`: nothing is signed, and all of it is believed."""
        assert device
        assert "signed" not in body
        return False

    async def open(
        self, sha256: str, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """As `BlobStore.open`."""
        self.opened.append(sha256)
        if self.is_down:
            raise LinkError("the hub is down", hint="Wait.")
        if sha256 not in self.blobs:
            raise DataError("no such blob", hint="Publish it.")
        content = self.blobs[sha256][offset:end]
        n_break, self.n_break = self.n_break, None
        if n_break is not None:
            yield content[:n_break]
            raise LinkError("the stream broke", hint="Wait.")
        yield content

    async def put(self, sha256: str, content: bytes) -> None:
        """As `BlobStore.put`."""
        self.blobs[sha256] = content

    async def stat(self, sha256: str) -> int | None:
        """As `BlobStore.stat`."""
        content = self.blobs.get(sha256)
        return None if content is None else len(content)
