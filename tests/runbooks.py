"""Type the commands of a page, in the simulator, against its hub and its publisher."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from skerry.app import commands
from skerry.app.hub_api import HubApi
from skerry.app.main import main
from skerry.app.simulate.fleet import FleetSimulator
from skerry.cloud.api import make_api
from skerry.core.clock import SystemClock
from tests.architecture.source import REPOSITORY

RUNBOOKS = REPOSITORY / "docs" / "runbooks"
ResultT = TypeVar("ResultT")


def commands_of(page: str) -> list[list[str]]:
    """The commands of each console block of a page, in order."""
    text = (RUNBOOKS / f"{page}.md").read_text()
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [re.findall(r"^\$ skerry (.+)$", block, re.MULTILINE) for block in blocks]


class Operator:
    """Somebody who types commands at a machine with the publisher's folder.

    Args:
        fleet: Whose hub the commands speak to.
        folder: Where they are typed.
        monkeypatch: Puts the fleet's clock and hub in the place of the real ones.
        capsys: Reads what they say.
    """

    def __init__(
        self,
        fleet: FleetSimulator,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self._fleet = fleet
        self._capsys = capsys
        self._loop = asyncio.get_running_loop()
        (folder / "skerry-publisher").symlink_to(folder / "publisher")
        monkeypatch.chdir(folder)
        monkeypatch.setattr(SystemClock, "unix_ms", lambda _: fleet.clock.unix_ms())
        for name in ("device", "fleet", "hub", "key", "release"):
            module = f"{commands.__name__}.{name}.ask"
            monkeypatch.setattr(module, self._ask)

    async def follow(self, block: list[str], **words: str) -> list[Any]:
        """Type the commands of a block, with words in the place of others."""
        return [await self.type(command, **words) for command in block]

    async def type(self, command: str, **words: str) -> Any:
        """Type a command; gives its result."""
        typed = [words.get(word, word) for word in shlex.split(command)]
        code: list[int] = []
        thread = threading.Thread(
            target=lambda: code.append(main([*typed, "--json"])), daemon=True
        )
        self._capsys.readouterr()
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0)
            time.sleep(0.0005)  # noqa: ASYNC251 - the other thread is to have its turn
        said = self._capsys.readouterr()
        assert code == [0], (typed, said)
        return json.loads(said.out)["result"]

    def _ask(self, hub: str | None, talk: Callable[[HubApi], Awaitable[Any]]) -> Any:
        assert hub is None
        talking = asyncio.run_coroutine_threadsafe(self._talk(talk), self._loop)
        return talking.result(timeout=60)

    async def _talk(self, talk: Callable[[HubApi], Awaitable[ResultT]]) -> ResultT:
        hub = self._fleet.hub
        token = await hub.devices.make_operator_token()
        async with HubApi("http://hub", token) as api:
            for part in (api._http, api.blobs):
                await part._client.aclose()
                part._client = httpx.AsyncClient(
                    transport=httpx.ASGITransport(app=make_api(hub)),
                    base_url="http://hub",
                    headers={"Authorization": f"Bearer {token}"},
                )
            return await talk(api)
