"""Which hub the commands speak to, and with whose token."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from skerry.core.documents import parse_object
from skerry.core.errors import StateError, UsageError

if TYPE_CHECKING:
    from skerry.app.hub_api import HubApi

HUB_VARIABLE = "SKERRY_HUB"
TOKEN_VARIABLE = "SKERRY_TOKEN"  # noqa: S105 - the name of a variable
HUB_FOLDER = "skerry-hub"
"""Where `skerry hub up` keeps its things unless told otherwise."""

HUB_FILE = "hub.json"
OPERATOR_FILE = "operator.json"

Answer = TypeVar("Answer")


def ask(hub: str | None, talk: Callable[[HubApi], Awaitable[Answer]]) -> Answer:
    """Hold one conversation with a hub.

    Args:
        hub: The hub's folder on this machine, or its URL; by default what SKERRY_HUB
            names, else the folder `skerry-hub`.
        talk: What is said.

    Raises:
        UsageError: An URL is given, and no token in SKERRY_TOKEN.
        StateError: The folder holds no hub that was started.
        The errors of the conversation.
    """
    url, token = address(hub)

    async def hold() -> Answer:
        from skerry.app.hub_api import HubApi

        async with HubApi(url, token) as api:
            return await talk(api)

    return asyncio.run(hold())


def address(hub: str | None) -> tuple[str, str]:
    """Find a hub's URL and the operator's token; the arguments are those of `ask`."""
    wanted = hub or os.environ.get(HUB_VARIABLE) or HUB_FOLDER
    token = os.environ.get(TOKEN_VARIABLE, "")
    if "://" in wanted:
        if not token:
            raise UsageError(
                f"there is no token for the hub at {wanted}",
                hint=f"Put the operator's token into {TOKEN_VARIABLE}.",
            )
        return wanted, token
    folder = Path(wanted)
    return (
        _entry(folder / HUB_FILE, "address"),
        token or _entry(folder / OPERATOR_FILE, "token"),
    )


def _entry(path: Path, key: str) -> str:
    try:
        entries = parse_object(path.read_bytes(), name=str(path))
    except OSError as error:
        raise StateError(
            f"cannot read {path}: {error.strerror or error}",
            hint="Start the hub (skerry hub up), or name its folder with --hub.",
        ) from error
    value = entries.get(key)
    if not isinstance(value, str):
        raise StateError(f"{path} has no {key!r}", hint="Start the hub again.")
    return value
