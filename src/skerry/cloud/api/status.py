"""The status page at `/`."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from skerry.cloud.api.access import HubOf, operator_at_browser
from skerry.cloud.api.answers import ERROR_RESPONSES
from skerry.cloud.hub import Hub
from skerry.cloud.pages import CONTENT_SECURITY_POLICY, LogLine, overview, render

router = APIRouter(
    tags=["hub"],
    dependencies=[Depends(operator_at_browser)],
    responses=ERROR_RESPONSES,
)

ROLLOUTS, RELEASES, LINES = 10, 10, 25
_LINES_PER_DEVICE = 10
_ASKED_FOR_LINES = 50

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@router.get(
    "/",
    responses={200: {"description": "The page.", "content": {"text/html": {}}}},
)
async def show_page(hub: HubOf) -> Response:
    """Show what the fleet does, as a page for people."""
    shadows = {shadow.device: shadow for shadow in await hub.shadows.list()}
    devices = [one for one in await hub.devices.list() if one.name in shadows]
    shown = overview(
        [(device, shadows[device.name]) for device in devices],
        rollouts=await hub.rollouts.list(limit=ROLLOUTS),
        releases=(await hub.releases.list())[:RELEASES],
        log=await _newest_lines(hub, [device.name for device in devices]),
        tenant=hub.settings.tenant,
        now_ms=hub.clock.unix_ms(),
    )
    page = render(shown)
    return Response(page, media_type="text/html; charset=utf-8", headers=_HEADERS)


async def _newest_lines(hub: Hub, devices: list[str]) -> list[LogLine]:
    events = [
        event
        for device in devices[:_ASKED_FOR_LINES]
        for event in await hub.events.read(device, limit=_LINES_PER_DEVICE)
    ]
    newest = sorted(events, key=lambda event: event.id, reverse=True)[:LINES]
    return [
        LogLine(
            device=event.device, at_ms=event.at_ms, name=event.name, fields=event.fields
        )
        for event in newest
    ]
