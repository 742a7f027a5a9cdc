"""Who may come in: a bearer token of an operator or of a device.

Tokens are 256 random bits, looked up by their hash: how long that takes tells nothing
of a token. The page takes an operator's token as the password of HTTP Basic, since a
browser has no other way to ask for one.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import (
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
)

from skerry.cloud.api.answers import refused
from skerry.cloud.devices import Scope
from skerry.cloud.hub import Hub
from skerry.core.errors import UsageError

LONGEST_TOKEN = 512

_BEARER = HTTPBearer(auto_error=False, description="A token of an operator or device.")
_BASIC = HTTPBasic(auto_error=False, description="An operator's token as password.")


def get_hub(request: Request) -> Hub:
    """The hub that this API is of."""
    hub: Hub = request.app.state.hub
    return hub


HubOf = Annotated[Hub, Depends(get_hub)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
Basic = Annotated[HTTPBasicCredentials | None, Security(_BASIC)]


async def device_or_operator(hub: HubOf, bearer: Bearer) -> Scope:
    """Let in who has any token of this hub."""
    scope = await _scope(hub, bearer.credentials if bearer else "")
    if scope is None:
        raise refused(
            UsageError(
                "the token is missing, or not one of this hub's",
                hint="Send `Authorization: Bearer TOKEN`; see operator.json.",
            )
        )
    return scope


Caller = Annotated[Scope, Depends(device_or_operator)]
"""Who asks: a device or an operator."""


async def operator(hub: HubOf, bearer: Bearer) -> Scope:
    """Let in operators only."""
    scope = await device_or_operator(hub, bearer)
    if scope.kind != "operator":
        raise refused(
            UsageError(
                "this is for operators, the token is a device's",
                hint="Use the token in the hub's operator.json.",
            )
        )
    return scope


async def operator_at_browser(hub: HubOf, basic: Basic) -> Scope:
    """Let in a person with an operator's token as password."""
    scope = await _scope(hub, basic.password if basic else "")
    if scope is None or scope.kind != "operator":
        raise refused(
            UsageError(
                "this page is for operators",
                hint="Any user name; the password is the token in operator.json.",
            ),
            challenge='Basic realm="Skerry", charset="UTF-8"',
        )
    return scope


async def _scope(hub: Hub, token: str) -> Scope | None:
    if not 0 < len(token) <= LONGEST_TOKEN:
        return None
    return await hub.devices.authenticate_token(token)
