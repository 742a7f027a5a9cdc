"""Join compressing and deltas: what a model is to be made like, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from skerry.app.connection import ask
from skerry.compress.alike.choose import Alike
from skerry.core.errors import ModelError, UsageError
from skerry.core.model import ModelFormat
from skerry.core.release import ANY_TARGET, ReleaseId
from skerry.graph import Graph, parse_graph

if TYPE_CHECKING:
    from skerry.app.hub_api import HubApi


def open_alike(named: str, *, target: str = ANY_TARGET, hub: str | None) -> Alike:
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
        manifest = await api.release(release)
        model = manifest.model_for(target)
        if model is None or model.format is not ModelFormat.ONNX:
            raise ModelError(
                f"{release} has no ONNX model for {target!r}",
                hint="Give the file of the version before.",
            )
        pieces = api.blobs.open(model.blob.sha256)
        return b"".join([piece async for piece in pieces])

    return ask(hub, fetch)
