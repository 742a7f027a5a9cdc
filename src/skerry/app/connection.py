"""Which hub the commands speak to, and with whose token."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from skerry.core.errors import UsageError

if TYPE_CHECKING:
    from skerry.app.hub_api import HubApi

HUB_VARIABLE = "SKERRY_HUB"
TOKEN_VARIABLE = "SKERRY_TOKEN"  # noqa: S105 - the name of a variable
HUB_FOLDER = "skerry-hub"
"""Where `skerry hub up` keeps its things unless told otherwise."""

Answer = TypeVar("Answer")


def ask(hub: str | None, talk: Callable[[HubApi], Awaitable[Answer]]) -> Answer:
    """Hold one conversation with a hub.

    Args:
        hub: The hub's folder on this machine, or its URL; by default what SKERRY_HUB
            names, else the folder `skerry-hub`.
        talk: What is said.

    Raises:
        UsageError: No hub ran in the folder, or an URL is given and no token.
        The errors of the conversation.
    """
    wanted = hub or os.environ.get(HUB_VARIABLE) or HUB_FOLDER

    async def hold() -> Answer:
        async with _api(wanted) as api:
            return await talk(api)

    return asyncio.run(hold())


def _api(hub: str) -> HubApi:
    from skerry.app.hub_api import HubApi

    if "://" not in hub:
        return HubApi.of_folder(Path(hub))
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise UsageError(
            f"there is no token for the hub at {hub}",
            hint=f"Put the operator's token into {TOKEN_VARIABLE}.",
        )
    return HubApi(hub, token)
