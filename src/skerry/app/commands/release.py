"""`skerry release init|create|ls|show`: signed, versioned sets of blobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app import figures
from skerry.app.arguments import open_shaped
from skerry.app.connection import ask
from skerry.app.output import Output
from skerry.app.project import complete, require
from skerry.app.tables import plain_table
from skerry.core.budget import Budget
from skerry.core.errors import UsageError
from skerry.core.release import ANY_TARGET, Manifest, ReleaseId

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.app.hub_api import HubApi
    from skerry.app.publish.publisher import Bundle, Publisher

PUBLISHER_FOLDER = "skerry-publisher"
"""Where the publisher keeps its keys unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """A publisher that a hub knows.

    Attributes:
        publisher: Its folder; the keys in it never leave it.
        tenant: Whose devices it publishes for.
        root_sha256: What devices pin when they enrol.
    """

    publisher: Path
    tenant: str
    root_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A release that the hub has.

    Attributes:
        release: NAME/VERSION.
        manifest_sha256: The hash of what was signed.
        full_bytes: Size of its models.
        delta_bytes: The smallest delta from a release before it; None without one.
        lacking: How many people must sign it yet before it is published.
    """

    release: str
    manifest_sha256: str
    full_bytes: int
    delta_bytes: int | None
    lacking: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseList:
    """What is released, by name and version."""

    releases: tuple[Manifest, ...]


def init(
    *,
    publisher: Path = Path(PUBLISHER_FOLDER),
    tenant: str = "main",
    replace: Path | None = None,
    hub: str | None = None,
) -> Publishing:
    """Make a publisher's keys, and have a hub and its devices trust them.

    Args:
        publisher: The publisher's folder; keep it, and keep it secret.
        tenant: Whose devices it publishes for.
        replace: The folder of a publisher whose keys are lost: the new one signs what
            that one had released, the hub trusts it in its place, and each device has
            to be enrolled anew.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    import hashlib

    from skerry.app.publish.publisher import Publisher

    async def begin(api: HubApi) -> Publisher:
        key = await api.online_key()
        made = Publisher.create(publisher, tenant=tenant, hub_key=key, heir_of=replace)
        await api.put_trust(made.metadata(), replace=replace is not None)
        return made

    made = ask(hub, begin)
    return Publishing(
        publisher=publisher,
        tenant=made.tenant,
        root_sha256=hashlib.sha256(made.root).hexdigest(),
    )


def create(
    name: str,
    model: Path | None = None,
    samples: Path | None = None,
    /,
    *,
    version: int | None = None,
    golden_from: Path | None = None,
    task: Path | None = None,
    shape: tuple[str, ...] = (),
    target: str = ANY_TARGET,
    runtime: str | None = None,
    library: tuple[Path, ...] = (),
    gallery: Path | None = None,
    schemas: Path | None = None,
    embedding: str = "",
    latency_ms: float | None = None,
    memory_bytes: int | None = None,
    size_bytes: int | None = None,
    notes: str = "",
    publisher: Path = Path(PUBLISHER_FOLDER),
    hub: str | None = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> Published:
    """Pack a model with what proves it, sign it, and publish it.

    Args:
        name: The release's name: a-z, 0-9 and inner hyphens.
        model: What devices will run: ONNX, TFLite, or ncnn's .param; the model of
            skerry.toml by default.
        samples: Golden samples are taken from these; those of skerry.toml by default.
        version: One more than the last of that name by default.
        golden_from: The model whose outputs are right, such as the one before
            compression; the model itself by default.
        task: A task file (schema skerry.task/1); the task of skerry.toml by default.
        shape: An input's shape, as NAME=1x3x48x320, for ncnn files that do not say it.
        target: What the model is for.
        runtime: What runs it on the device; what is usual for its format by default.
        library: A shared library with operators that the model needs; repeat it for
            several, and for other machines.
        gallery: Whom a task with embed_match knows: an .npz of names and vectors.
        schemas: A file (schema skerry.schemas/1) of what it takes and gives, and of
            adapters for older producers and consumers.
        embedding: The output that is watched for drift.
        latency_ms: Most milliseconds of one inference on the device.
        memory_bytes: Most memory that it may add on the device.
        size_bytes: Most bytes of the model file.
        notes: What is new, for people.
        publisher: The publisher's folder.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
        output: Where to say what is under way.
    """
    from skerry.app.publish.build import make_release, read_schemas
    from skerry.app.publish.publisher import Publisher
    from skerry.runtimes import DEFAULT_RUNTIMES
    from skerry.tasks.samples import open_samples

    asked = require(complete(model, samples, task, folder=Path()))
    signer = Publisher.open(publisher)
    opened = open_shaped(asked.model, shape)
    budget = Budget(
        latency_ms=latency_ms, memory_bytes=memory_bytes, size_bytes=size_bytes
    )
    manifest, blobs = make_release(
        name,
        version or _next_version(signer, name),
        opened,
        asked.task,
        open_samples(asked.samples, opened.inputs, asked.task),
        golden_from=open_shaped(golden_from, shape) if golden_from else opened,
        budget=budget,
        target=target,
        runtime=runtime or DEFAULT_RUNTIMES[opened.format],
        libraries=library,
        gallery=gallery,
        schemas=read_schemas(schemas) if schemas else None,
        embedding=embedding,
        notes=notes,
    )
    output.talk(f"{manifest.id}: {len(blobs)} blobs, signing and publishing")

    async def publish(api: HubApi) -> Bundle:
        before = await _models_before(api, manifest)
        bundle = signer.release(manifest, blobs, deltas_from=before)
        await api.publish(bundle)
        return bundle

    return _published(ask(hub, publish))


def adopt(
    retraining: str,
    /,
    *,
    notes: str = "refitted on labelled samples of the field",
    publisher: Path = Path(PUBLISHER_FOLDER),
    hub: str | None = None,
) -> Published:
    """Sign and publish what a retraining has made, as the next version.

    Args:
        retraining: One that has passed its gates.
        notes: What is new, for people.
        publisher: The publisher's folder.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    from skerry.app.publish.adopt import adopt as make_next
    from skerry.app.publish.publisher import Publisher
    from skerry.runtimes.libraries import machine_abi

    signer = Publisher.open(publisher)

    async def publish(api: HubApi) -> Bundle:
        found = await api.retraining(retraining)
        if found["state"] != "passed":
            raise UsageError(
                f"the retraining {retraining} has {found['state']}",
                hint="Only one that has passed its gates can be released.",
            )
        refitted = ReleaseId.parse(str(found["release"]))
        manifest = await api.release(refitted)
        candidate = {
            role: await _fetch(api, blob["sha256"])
            for role, blob in found["candidate"].items()
        }
        adopted, blobs = make_next(
            manifest,
            version=_next_version(signer, manifest.name),
            model=candidate["model"],
            golden=await _fetch(api, manifest.golden.sha256),
            drift=candidate.get("drift"),
            libraries=[
                await _fetch(api, library.blob.sha256)
                for model in manifest.models
                for library in model.libraries
                if library.abi == machine_abi()
            ],
            notes=notes,
        )
        before = await _models_before(api, adopted)
        bundle = signer.release(adopted, blobs, deltas_from=before)
        await api.publish(bundle)
        return bundle

    return _published(ask(hub, publish))


def _next_version(signer: Publisher, name: str) -> int:
    versions = [one.version for one in signer.releases if one.name == name]
    return max(versions, default=0) + 1


def _published(bundle: Bundle) -> Published:
    return Published(
        release=str(bundle.manifest.id),
        manifest_sha256=bundle.manifest_sha256,
        full_bytes=sum(one.blob.size_bytes for one in bundle.manifest.models),
        delta_bytes=min(bundle.delta_bytes.values(), default=None),
        lacking=bundle.lacking,
    )


async def _models_before(api: HubApi, manifest: Manifest) -> dict[str, bytes]:
    """The models of the version before, to which most devices will apply a delta."""
    earlier = [
        one
        for one in await api.releases()
        if one.name == manifest.name and one.version < manifest.version
    ]
    if not earlier:
        return {}
    latest = max(earlier, key=lambda one: one.version)
    hashes = {one.blob.sha256 for one in latest.models}
    return {sha256: await _fetch(api, sha256) for sha256 in sorted(hashes)}


async def _fetch(api: HubApi, sha256: str) -> bytes:
    return b"".join([piece async for piece in api.blobs.open(sha256)])


def ls(*, hub: str | None = None) -> ReleaseList:
    """List what is released.

    Args:
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return ReleaseList(releases=ask(hub, lambda api: api.releases()))


def show(release: str, /, *, hub: str | None = None) -> Manifest:
    """Show what a release is made of.

    Args:
        release: NAME/VERSION.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    wanted = ReleaseId.parse(release)
    return ask(hub, lambda api: api.release(wanted))


def render_init(made: Publishing) -> str:
    """Say where the keys are and what devices trust."""
    return (
        f"Keys are in {made.publisher}: keep that folder, and keep it secret.\n"
        f"Devices of {made.tenant!r} will trust the root {made.root_sha256}."
    )


def render_create(published: Published) -> str:
    """Say what was published, and how large it is."""
    size = figures.show_bytes(published.full_bytes)
    delta = (
        f", {figures.show_bytes(published.delta_bytes)} as a delta"
        if published.delta_bytes is not None
        else ""
    )
    if published.lacking:
        return (
            f"{published.release} is uploaded: {size}{delta}. It waits for "
            f"{published.lacking} more to sign: skerry key ls."
        )
    return f"{published.release} is published: {size}{delta}."


def render_ls(found: ReleaseList) -> RenderableType:
    """Render as a table with one row a release."""
    table = plain_table("release", "made", "targets", "#size", "notes")
    for one in found.releases:
        table.add_row(
            str(one.id),
            figures.show_time(one.created_at_ms),
            ", ".join(model.target for model in one.models),
            figures.show_bytes(max(model.blob.size_bytes for model in one.models)),
            one.notes,
        )
    return table


def render_show(manifest: Manifest) -> RenderableType:
    """Render as JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(manifest), indent=2).decode()
