"""The cameras of a gateway, made of a cameras' file."""

from __future__ import annotations

from pathlib import Path

from skerry.app.streams.cameras import make_cameras, make_clip
from skerry.core.clock import Clock
from skerry.edge.streams.settings import check_models, load_cameras
from skerry.edge.streams.sight import Sight


def read_sight(path: Path, *, clock: Clock) -> Sight:
    """Read a cameras' file whose models are releases, and make its cameras.

    Raises:
        UsageError: It cannot be read, is none, or names a model's file.
        MissingExtraError: PyAV is not installed.
    """
    settings = load_cameras(path)
    check_models(settings.models, are_released=True)
    return Sight(
        settings=settings,
        cameras=make_cameras(settings.cameras, clock=clock),
        make_clip=make_clip,
    )
