"""`skerry shadow show|set`: what a device should be, and what it said it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skerry.app.connection import ask
from skerry.core.documents import parse_object
from skerry.core.fleet import Shadow

if TYPE_CHECKING:
    from rich.console import RenderableType


def show(name: str, /, *, hub: str | None = None) -> Shadow:
    """Show both sides of a device's shadow, with their versions.

    Args:
        name: The device.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return ask(hub, lambda api: api.shadow(name))


def change(
    name: str, patch: str, /, *, version: int | None = None, hub: str | None = None
) -> Shadow:
    """Change what a device should be, by a JSON merge patch (RFC 7396).

    Args:
        name: The device.
        patch: A JSON object; null removes a key.
        version: Change it only if the shadow still has this version.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    fields: dict[str, Any] = parse_object(patch.encode(), name="the patch")
    return ask(hub, lambda api: api.set_desired(name, fields, version=version))


def render_show(shadow: Shadow) -> RenderableType:
    """Render as JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(shadow), indent=2).decode()
