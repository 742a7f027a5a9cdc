from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from skerry.cloud.api import make_api
from skerry.comms.asgi import serve
from tests.hubs import running_hub
from tests.publishing import make_bundle, make_publisher, publish

pytestmark = pytest.mark.system

EXPECTED_FAILURES = {501, 503, 504}
"""Set up otherwise, no device that answers: what the API says of its surroundings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Where a hub's API is, and its operators' token."""

    address: str
    token: str


@contextmanager
def _serving(folder: Path) -> Iterator[Served]:
    """A hub with a release and a device, served from a thread of its own."""
    up, told, places = threading.Event(), asyncio.Event(), list[Served]()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        async with running_hub(folder / "hub", "gw-1") as (hub, _):
            await publish(hub, make_bundle(make_publisher(folder, hub), 1))
            token = await hub.devices.make_operator_token()
            async with serve(make_api(hub)) as server:
                places.append(Served(address=server.address, token=token))
                up.set()
                await told.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert up.wait(20)
        yield places[0]
    finally:
        loop.call_soon_threadsafe(told.set)
        thread.join(20)
        loop.close()


def test_no_request_that_the_schema_allows_breaks_the_hub(tmp_path: Path) -> None:
    """Each route of the OpenAPI document answers anything, and never with 500."""
    with _serving(tmp_path) as served:
        headers = {"Authorization": f"Bearer {served.token}"}
        schema = schemathesis.openapi.from_url(f"{served.address}/v1/openapi.json")
        tried = 0
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path.endswith(("/ping", "/profile")):
                continue  # nobody answers: each would take its whole time

            @settings(
                max_examples=8,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def ask(case: schemathesis.Case) -> None:
                response = case.call(headers=headers)
                known = response.status_code < 500
                assert known or response.status_code in EXPECTED_FAILURES, response.text

            ask()
            tried += 1
        assert tried >= 20
