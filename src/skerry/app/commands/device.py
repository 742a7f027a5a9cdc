"""`skerry device ls|show|create|logs|ping` and `skerry why`: the members of a fleet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skerry.app import figures
from skerry.app.connection import ask
from skerry.app.tables import plain_table
from skerry.core.errors import UsageError
from skerry.core.fleet import Device, Shadow

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.app.hub_api import HubApi


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceList:
    """The devices of the fleet, by name."""

    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A device that may enrol once.

    Attributes:
        device: Its name.
        token: What it enrols with; shown this once.
    """

    device: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """A device and its shadow."""

    device: Device
    shadow: Shadow


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """What a device said it did, the latest last."""

    device: str
    events: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinged:
    """A device that answered over its own link."""

    device: str
    round_trip_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """What a device runs, what it should, why not yet, and what happens next."""

    device: str
    text: str


def ls(*, hub: str | None = None) -> DeviceList:
    """List the devices.

    Args:
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return DeviceList(devices=ask(hub, lambda api: api.devices()))


def show(name: str, /, *, hub: str | None = None) -> DeviceView:
    """Show a device and both sides of its shadow.

    Args:
        name: The device.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """

    async def look(api: HubApi) -> DeviceView:
        return DeviceView(device=await api.device(name), shadow=await api.shadow(name))

    return ask(hub, look)


def create(
    name: str, /, *, label: tuple[str, ...] = (), hub: str | None = None
) -> Created:
    """Register a device, or let it enrol anew, and make its one-time token.

    Args:
        name: The device's name: a-z, 0-9 and inner hyphens.
        label: KEY=VALUE, any number of times.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    labels = dict(_label(text) for text in label)
    token = ask(hub, lambda api: api.create_device(name, labels=labels or None))
    return Created(device=name, token=token)


def logs(name: str, /, *, last: int = 50, hub: str | None = None) -> Logs:
    """Show what a device said it did.

    Args:
        name: The device.
        last: How many entries at most.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    events = ask(hub, lambda api: api.logs(name, limit=last))
    return Logs(device=name, events=events)


def ping(name: str, /, *, hub: str | None = None) -> Pinged:
    """Ask a device over its own link whether it is there.

    Args:
        name: The device.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    round_trip_ms = ask(hub, lambda api: api.ping(name))
    return Pinged(device=name, round_trip_ms=round_trip_ms)


def why(name: str, /, *, hub: str | None = None) -> Why:
    """Say what a device runs, what it should, why not yet, and what happens next.

    Args:
        name: The device.
        hub: The hub's folder or URL; SKERRY_HUB, else ./skerry-hub, by default.
    """
    return Why(device=name, text=ask(hub, lambda api: api.why(name)))


def _label(text: str) -> tuple[str, str]:
    key, is_pair, value = text.partition("=")
    if not is_pair or not key:
        raise UsageError(f"{text!r} is no label", hint="Write --label KEY=VALUE.")
    return key, value


def render_ls(found: DeviceList) -> RenderableType:
    """Render as a table with one row a device."""
    table = plain_table("device", "link", "last heard", "labels")
    for device in found.devices:
        labels = ", ".join(f"{key}={value}" for key, value in device.labels.items())
        link = "online" if device.is_online else "offline"
        if device.cloned_at_ms is not None:
            link = f"{link}, cloned"
        if device.enrolled_at_ms is None:
            link = "not enrolled"
        table.add_row(device.name, link, figures.show_time(device.last_seen_ms), labels)
    return table


def render_show(view: DeviceView) -> RenderableType:
    """Render as the device's row and both sides of its shadow as JSON."""
    import msgspec
    from rich.console import Group

    parts: list[RenderableType] = [render_ls(DeviceList(devices=(view.device,)))]
    for title, side in (
        ("desired", view.shadow.desired),
        ("reported", view.shadow.reported),
    ):
        text = msgspec.json.format(msgspec.json.encode(side), indent=2).decode()
        parts += ["", f"{title} (version {view.shadow.version})", text]
    return Group(*parts)


def render_create(created: Created) -> str:
    """Say how the device enrols."""
    return (
        f"{created.device} may enrol once, within a week:\n"
        f"skerry gateway run --folder {created.device} --token {created.token} "
        "--hub HUB-URL"
    )


def render_logs(logs: Logs) -> RenderableType:
    """Render as a table with one row an event."""
    table = plain_table("at", "event", "")
    for event in logs.events:
        fields = event.get("fields")
        words = [f"{key}={value}" for key, value in fields.items()] if fields else []
        table.add_row(
            figures.show_time(event.get("at_ms")),
            str(event.get("name", "")),
            " ".join(words),
        )
    return table


def render_ping(pinged: Pinged) -> str:
    """Say how long it took."""
    return f"{pinged.device} answered in {pinged.round_trip_ms:.0f} ms"


def render_why(why: Why) -> str:
    """The paragraph itself."""
    return why.text
