"""A publisher with small releases of no particular content, for tests."""

from __future__ import annotations

import hashlib
from pathlib import Path

from skerry.app.publish.publisher import Bundle, Publisher
from skerry.cloud.hub import Hub
from skerry.core.clock import Clock
from skerry.core.release import Blob, Manifest, ReleaseModel


def make_blob(content: bytes) -> Blob:
    """Name bytes by their hash."""
    return Blob(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def make_parts(
    version: int, name: str = "meter", *, model: bytes = b""
) -> tuple[Manifest, dict[str, bytes]]:
    """A release's manifest and its blobs."""
    model = model or f"the model of {name}/{version}".encode() * 100
    parts = [model, b"golden samples", b"a task"]
    blob, golden, task = map(make_blob, parts)
    of_any = ReleaseModel(
        target="any", runtime="null", blob=blob, inputs=(), outputs=()
    )
    manifest = Manifest(
        name=name,
        version=version,
        created_at_ms=1_767_225_600_000 + version,
        models=(of_any,),
        golden=golden,
        task=task,
        notes=f"version {version}",
    )
    return manifest, {make_blob(part).sha256: part for part in parts}


def make_bundle(publisher: Publisher, version: int, name: str = "meter") -> Bundle:
    """A signed release."""
    return publisher.release(*make_parts(version, name))


def make_publisher(folder: Path, hub: Hub, *, clock: Clock | None = None) -> Publisher:
    """A publisher whose root names the hub's key."""
    return Publisher.create(
        folder / "publisher",
        tenant=hub.settings.tenant,
        hub_key=hub.releases.online_key,
        clock=clock or hub.clock,
    )


async def publish(hub: Hub, bundle: Bundle) -> None:
    """Publish a release to a hub, without its API."""
    for sha256, content in bundle.blobs.items():
        await hub.blobs.put(sha256, content)
    await hub.releases.publish(bundle.metadata, [bundle.manifest_sha256])
