"""Join compressing and deltas: what a model is to be made like, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from skerry.app.connection import ask
from skerry.compress.alike.choose import Alike
from skerry.core.errors import ModelError, UsageError
from skerry.core.model import ModelFormat
from skerry.core.release import ANY_TARGET, Manifest, ReleaseId, ReleaseModel
from skerry.graph import Graph, parse_graph

if TYPE_CHECKING:
    from skerry.app.hub_api import HubApi


def open_alike(named: str, *, target: str = "", hub: str | None) -> Alike:
    """Open the version before.

    Args:
        named: NAME/VERSION of a release, or an ONNX file.
        target: For which target, where a release has several models.
        hub: The hub that has the release.

    Raises:
        UsageError: There is neither such a file nor such a release.
        ModelError: It is no ONNX model.
    """
    # Packing needs zstandard, and only who asks for a delta must have it.
    from skerry.evolve.delta import diff

    path = Path(named)
    if path.suffix == ".onnx" or path.is_file():
        if not path.is_file():
            raise UsageError(
                f"there is no file {named}", hint="Give NAME/VERSION, or a file."
            )
        content = path.read_bytes()
    else:
        content = _fetch(ReleaseId.parse(named), target, hub)

    def patch_size_bytes(graph: Graph) -> int:
        return len(diff(content, graph.to_bytes()))

    previous = parse_graph(content, name=named)
    return Alike(previous=previous, patch_size_bytes=patch_size_bytes, title=named)


def _fetch(release: ReleaseId, target: str, hub: str | None) -> bytes:
    async def fetch(api: HubApi) -> bytes:
        model = _model_of(await api.release(release), target)
        pieces = api.blobs.open(model.blob.sha256)
        return b"".join([piece async for piece in pieces])

    return ask(hub, fetch)


def _model_of(manifest: Manifest, target: str) -> ReleaseModel:
    """The ONNX model for a target; without one, the only one, or that for any."""
    models = {
        one.target: one for one in manifest.models if one.format is ModelFormat.ONNX
    }
    if not target and len(models) == 1:
        return next(iter(models.values()))
    found = models.get(target or ANY_TARGET)
    if found is None:
        has = ", ".join(sorted(models)) or "none"
        raise ModelError(
            f"{manifest.id} has no ONNX model for {target or ANY_TARGET!r}; it has "
            f"them for: {has}",
            hint="Name one with --target."
            if models
            else "Give the ONNX file of the version before.",
        )
    return found
