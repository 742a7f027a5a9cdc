"""The hub's own MQTT 5.0 broker: small, bounded, and every packet checked by a grant.

It runs in the hub's event loop (docs/adr/0007), takes QoS 0 and 1, and forgets what it
holds when it stops: who publishes retained messages publishes them again.
"""

from __future__ import annotations

import asyncio
import logging
import ssl

from skerry.comms._mqtt5 import Reason
from skerry.comms.connection import Authenticate, Connection
from skerry.comms.ports import listen
from skerry.comms.router import Router
from skerry.comms.sessions import Limits

log = logging.getLogger(__name__)

_GOODBYE_S = 1.0
"""How long clients may take to read why the broker stops, in seconds."""


class Broker:
    """A broker that listens on one port.

    Args:
        authenticate: Says what a client may do; it is asked at each connection.
        host: Where to listen; only this machine unless told otherwise.
        port: The port, or 0 for any free one.
        tls: With it, connections are encrypted.
        limits: How much it takes on.

    Attributes:
        port: The port; once chosen it is kept for the next start.
    """

    def __init__(
        self,
        authenticate: Authenticate,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._limits = limits or Limits()
        self._authenticate = authenticate
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._router = Router(self._limits)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen.

        Raises:
            StateError: The port is in use or not permitted.
        """
        listener = listen(self.host, self.port)
        self.port = listener.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._connection, sock=listener, ssl=self._tls
        )

    async def stop(self) -> None:
        """Close every connection and forget everything; no last will is sent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self._connections):
            connection.end(Reason.SERVER_SHUTTING_DOWN)
        self._router.close()
        self._router = Router(self._limits)
        lost = [asyncio.create_task(one.wait_lost()) for one in self._connections]
        if lost:
            await asyncio.wait(lost, timeout=_GOODBYE_S)
        for connection in list(self._connections):
            connection.abort()
        if lost:
            await asyncio.wait(lost)
        await server.wait_closed()

    async def disconnect(self, username: str) -> None:
        """End a user's connections and forget its sessions, as for one revoked."""
        self._router.forget_user(username)

    def _connection(self) -> Connection:
        return Connection(
            self._router,
            self._authenticate,
            admit=self._admit,
            left=self._connections.discard,
        )

    def _admit(self, connection: Connection) -> bool:
        if self._server is None or self.connections >= self._limits.connections:
            log.warning("broker.full", extra={"connections": self.connections})
            return False
        self._connections.add(connection)
        return True
