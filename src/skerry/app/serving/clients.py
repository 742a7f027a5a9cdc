"""Clients that put load on a server: over HTTP, gRPC or shared memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Literal

from skerry.app.serving.asking import TENSORS, find_face, read_input, read_tensors
from skerry.app.serving.load import BlockingClient, Client
from skerry.app.serving.wire import (
    Connection,
    Described,
    Request,
    ask_json,
    choose_model,
    describe_model,
    error_of,
    failure_of,
    infer_request,
    predict_request,
)
from skerry.core.errors import LinkError, SkerryError, UsageError
from skerry.core.seams import Tensors
from skerry.edge.faces import is_loopback
from skerry.edge.protocol.client import LocalClient
from skerry.tasks.made_up import made_up_inputs

if TYPE_CHECKING:
    from skerry.edge.protocol.grpc import GrpcClient

Face = Literal["http", "grpc", "local"]

GRACE_S = 1.0
"""How long a client waits for an answer beyond its deadline: the server's refusal."""

PAUSE_S = 0.05
"""How long a client waits before it looks again for a server that has gone."""

MOST_INPUTS = 64
"""Most inputs of a file that are sent, in turn."""


class HttpLoad:
    """Sends requests, in turn, over a kept connection."""

    def __init__(
        self, connection: Connection, requests: Sequence[Request], timeout_ms: float
    ) -> None:
        self._connection = connection
        self._requests = itertools.cycle(requests)
        self._timeout_s = timeout_ms / 1000 + GRACE_S

    async def ask(self) -> str:
        """Send the next one."""
        try:
            reply = await self._connection.ask(
                next(self._requests), timeout_s=self._timeout_s
            )
        except LinkError as error:
            await asyncio.sleep(PAUSE_S)
            return error.code
        except SkerryError as error:
            return error.code
        return "" if reply.status == 200 else failure_of(reply)

    async def close(self) -> None:
        """End the connection."""
        self._connection.close()


class GrpcLoad:
    """Sends requests, in turn, over a channel of its own."""

    def __init__(
        self, client: GrpcClient, requests: Sequence[bytes], timeout_ms: float
    ) -> None:
        self._client = client
        self._requests = itertools.cycle(requests)
        self._timeout_s = timeout_ms / 1000 + GRACE_S

    async def ask(self) -> str:
        """Send the next one."""
        return await self._client.ask(next(self._requests), timeout_s=self._timeout_s)

    async def close(self) -> None:
        """End the channel."""
        await self._client.close()


class LocalLoad:
    """Sends tensors, in turn, through shared memory; from a thread of its own."""

    def __init__(
        self, path: Path, name: str, inputs: Sequence[Tensors], timeout_ms: float
    ) -> None:
        self._path = path
        self._name = name
        self._inputs = itertools.cycle(inputs)
        self._timeout_s = timeout_ms / 1000
        self._client: LocalClient | None = LocalClient(path)

    def ask_and_wait(self) -> str:
        """Send the next."""
        try:
            if self._client is None:
                self._client = LocalClient(self._path)
            self._client.infer(
                self._name, next(self._inputs), timeout_s=self._timeout_s
            )
        except LinkError as error:
            self.hang_up()
            sleep(PAUSE_S)
            return error.code
        except SkerryError as error:
            return error.code
        return ""

    def hang_up(self) -> None:
        """End the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None


class Target:
    """A model of a server that load is put on.

    Args:
        url: The server's.
        token: What to show it, or None.
        timeout_ms: After how long an answer is of no more use.
    """

    def __init__(self, url: str, *, token: str | None, timeout_ms: float) -> None:
        self._url = url
        self._token = token
        self._timeout_ms = timeout_ms
        self._connection = Connection(url, token=token)
        self._model: Described | None = None
        self._tensors: list[Tensors] = []
        self._requests: list[Request] = []

    async def prepare(
        self, name: str, input_file: Path | None, shapes: dict[str, tuple[int, ...]]
    ) -> str:
        """Make the requests, and send one of them to see that it is answered.

        Args:
            name: The model; the only one where empty.
            input_file: What is sent; numbers made up from the metadata where None.
            shapes: Shapes of inputs that the metadata leaves open.

        Returns:
            The model's name.

        Raises:
            UsageError: There is no such model, or its inputs cannot be made up.
            SkerryError: What the server refused with.
        """
        chosen = await choose_model(self._connection, name)
        model = await describe_model(self._connection, chosen)
        self._model = model
        if input_file is not None and input_file.suffix.lower() != TENSORS:
            content, media_type = read_input(input_file)
            self._requests = [
                predict_request(
                    model.name, content, media_type, timeout_ms=self._timeout_ms
                )
            ]
        else:
            if input_file is not None:
                rows = read_tensors(input_file, model.inputs)
                self._tensors = [row for _, row in itertools.islice(rows, MOST_INPUTS)]
            else:
                self._tensors = [made_up_inputs(model.inputs, shapes=shapes)]
            self._requests = [
                infer_request(model.name, tensors, timeout_ms=self._timeout_ms)
                for tensors in self._tensors
            ]
        reply = await self._connection.ask(self._requests[0])
        if reply.status != 200:
            raise error_of(reply)
        return chosen

    async def clients(
        self, face: Face, count: int
    ) -> Sequence[Client | BlockingClient]:
        """Open connections.

        Raises:
            UsageError: The server is not reached this way, or not with this input.
            MissingExtraError: gRPC is asked for, and grpcio is not installed.
            LinkError: It takes no more connections.
        """
        model = self._model
        if model is None:
            raise UsageError("nothing is prepared", hint="Call prepare first.")
        if face == "http":
            return [
                HttpLoad(
                    Connection(self._url, token=self._token),
                    self._requests,
                    self._timeout_ms,
                )
                for _ in range(count)
            ]
        if not self._tensors:
            raise UsageError(
                f"{face} carries tensors alone", hint=f"Give tensors ({TENSORS})."
            )
        where = await find_face(self._connection, face)
        if face == "grpc":
            from skerry.edge.protocol.grpc import GrpcClient, write_request

            messages = [
                write_request(model.name, tensors, timeout_ms=self._timeout_ms)
                for tensors in self._tensors
            ]
            return [
                GrpcLoad(
                    GrpcClient(where, token=self._token), messages, self._timeout_ms
                )
                for _ in range(count)
            ]
        return [
            LocalLoad(Path(where), model.name, self._tensors, self._timeout_ms)
            for _ in range(count)
        ]

    async def pids(self) -> set[int]:
        """The processes of the server, where it is on this machine and says so."""
        if not is_loopback(self._connection.host):
            return set()
        told = await ask_json(self._connection, "/v2")
        parameters = told.get("parameters") if isinstance(told, dict) else None
        pid = parameters.get("pid") if isinstance(parameters, dict) else None
        if not isinstance(pid, int):
            return set()
        reply = await self._connection.ask(
            Request(path="/metrics", headers={}, body=b""), method="GET"
        )
        return {pid, *_session_pids(reply.body.decode("utf-8", "replace"))}

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


@contextlib.asynccontextmanager
async def closing_all(
    clients: Sequence[Client | BlockingClient],
) -> AsyncIterator[None]:
    """Close clients at the end."""
    try:
        yield
    finally:
        for client in clients:
            if isinstance(client, BlockingClient):
                client.hang_up()
            else:
                await client.close()


def _session_pids(text: str) -> set[int]:
    """The processes of models, as the metrics tell of them."""
    found = set()
    for line in text.splitlines():
        if line.startswith("skerry_session_pid{"):
            with contextlib.suppress(ValueError, OverflowError):
                found.add(int(float(line.rpartition(" ")[2])))
    return found
