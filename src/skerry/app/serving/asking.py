"""Ask a model for what is in a file: in this process, or over a server's faces."""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, Protocol

import numpy as np

from skerry.app.serving.wire import (
    Connection,
    ask_json,
    choose_model,
    describe_model,
    error_of,
    infer_request,
    predict_request,
    read_outputs,
)
from skerry.core.documents import parse_object
from skerry.core.errors import DataError, UsageError
from skerry.core.files import read_file
from skerry.core.model import TensorSpec
from skerry.core.seams import Array, Session, Tensors
from skerry.edge.protocol.client import LocalClient
from skerry.tasks._content import read_series
from skerry.tasks.pipeline import Pipeline, Reading
from skerry.tasks.samples import open_samples
from skerry.tasks.task import Task

LARGEST_INPUT_BYTES = 1 << 26
TENSORS = ".npz"
"""What the name of a file of tensors ends with; each row of it is one inference."""

_ARRAY = ".npy"
_SHOWN_VALUES = 1000
"""Most values of an output that are told; all of them are written to a file."""

Face = Literal["http", "local"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One output of the model.

    Attributes:
        name: Its name.
        dtype: A numpy dtype name.
        shape: Its sizes.
        least: The least value; None where it holds no finite numbers.
        most: The greatest value; None likewise.
        values: All values in row order; none where there are more than a thousand.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    least: float | None
    most: float | None
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was said of one input.

    Attributes:
        input: The file, and the row of it where it has several.
        release: `NAME/VERSION` of what answered, or the model's file.
        latency_ms: From the whole input to the whole answer.
        answer: As `skerry.tasks.pipeline.Pipeline.tell` gives it; None without a task.
        outputs: The model's outputs; none where a server has read them by its task.
    """

    input: str
    release: str
    latency_ms: float
    answer: Mapping[str, Any] | None
    outputs: tuple[Output, ...]


class Asker(Protocol):
    """Somebody who answers."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What is taken."""
        ...

    async def infer(self, inputs: Tensors) -> tuple[str, Tensors]:
        """Answer tensors with tensors, and say who did."""
        ...

    async def predict(
        self, content: bytes, media_type: str
    ) -> tuple[str, Mapping[str, Any]]:
        """Answer a picture, a recording or a window, and say who did."""
        ...


class LoadedHere:
    """A model that was loaded here.

    Args:
        session: The model.
        name: Who it is said to be.
        pipeline: What its task says, or None.
    """

    def __init__(self, session: Session, name: str, pipeline: Pipeline | None) -> None:
        self.inputs = session.inputs
        self._session = session
        self._name = name
        self._pipeline = pipeline

    async def infer(self, inputs: Tensors) -> tuple[str, Tensors]:
        """Run it."""
        return self._name, self._session.run(inputs)

    async def predict(
        self, content: bytes, media_type: str
    ) -> tuple[str, Mapping[str, Any]]:
        """Read, run it, and tell.

        Raises:
            UsageError: There is no task.
        """
        if self._pipeline is None:
            raise UsageError(
                "there is no task that says how the input is read",
                hint="Give --task FILE: skerry init writes one. Or give tensors, .npz.",
            )
        reading = self._pipeline.read(content, media_type)
        outputs = self._session.run(reading.inputs)
        return self._name, self._pipeline.tell(outputs, reading)


class Remote:
    """A model that a server runs."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        inputs: Sequence[TensorSpec],
        *,
        version: int | None,
        timeout_ms: float | None,
        local: LocalClient | None,
    ) -> None:
        self.inputs = inputs
        self._connection = connection
        self._name = name
        self._version = version
        self._timeout_ms = timeout_ms
        self._local = local

    async def infer(self, inputs: Tensors) -> tuple[str, Tensors]:
        """Send the tensors.

        Raises:
            SkerryError: What the server refused with.
        """
        if self._local is not None:
            timeout_s = None if self._timeout_ms is None else self._timeout_ms / 1000
            told = self._local.infer(
                self._name, inputs, version=self._version, timeout_s=timeout_s
            )
            return told.release, told.outputs
        reply = await self._connection.ask(
            infer_request(
                self._name, inputs, version=self._version, timeout_ms=self._timeout_ms
            )
        )
        if reply.status != 200:
            raise error_of(reply)
        return read_outputs(reply)

    async def predict(
        self, content: bytes, media_type: str
    ) -> tuple[str, Mapping[str, Any]]:
        """Send the bytes.

        Raises:
            UsageError: The face is that of shared memory, which carries tensors alone.
            SkerryError: What the server refused with.
        """
        if self._local is not None:
            raise UsageError(
                "the local socket carries tensors alone",
                hint=f"Give tensors ({TENSORS}), or --face http.",
            )
        reply = await self._connection.ask(
            predict_request(
                self._name,
                content,
                media_type,
                version=self._version,
                timeout_ms=self._timeout_ms,
            )
        )
        if reply.status != 200:
            raise error_of(reply)
        told = parse_object(reply.body, name="the answer")
        parameters, answer = told.get("parameters"), told.get("answer")
        if not isinstance(parameters, dict) or not isinstance(answer, dict):
            raise DataError(
                "the answer has no answer in it", hint="Is it a server of Skerry's?"
            )
        return str(parameters.get("release", "")), answer


@contextlib.asynccontextmanager
async def open_remote(
    url: str,
    *,
    model: str = "",
    version: int | None = None,
    token: str | None = None,
    timeout_ms: float | None = None,
    face: Face = "http",
) -> AsyncIterator[Remote]:
    """Reach a model of a server.

    Args:
        url: The server's.
        model: Its name; the only one by default.
        version: One that is loaded; whichever the server says by default.
        token: What to show the server.
        timeout_ms: After how long an answer is of no more use; the server's by default.
        face: Over HTTP, or through shared memory on this machine.

    Raises:
        UsageError: There is no such model, or no local socket.
        LinkError: Nobody answers.
    """
    connection = Connection(url, token=token)
    with contextlib.ExitStack() as opened:
        opened.callback(connection.close)
        name = await choose_model(connection, model)
        told = await describe_model(connection, name, version)
        local = None
        if face == "local":
            path = await find_face(connection, "local")
            local = opened.enter_context(LocalClient(Path(path)))
        yield Remote(
            connection,
            name,
            told.inputs,
            version=version,
            timeout_ms=timeout_ms,
            local=local,
        )


async def find_face(connection: Connection, face: str) -> str:
    """Where a server says that another face of it is.

    Raises:
        UsageError: It has none.
        The errors of `ask_json`.
    """
    told = await ask_json(connection, "/v2")
    parameters = told.get("parameters") if isinstance(told, dict) else None
    where = parameters.get(face) if isinstance(parameters, dict) else None
    if not isinstance(where, str) or not where:
        flag = {"local": "--local", "grpc": "--grpc-port"}.get(face, face)
        raise UsageError(
            f"the server is not reached by {face}", hint=f"Start it with {flag}."
        )
    return where


async def ask_all(
    asker: Asker, paths: Sequence[Path], *, task: Task | None
) -> AsyncIterator[tuple[Asked, Tensors]]:
    """Ask for each input, one after the other.

    Args:
        asker: Who answers.
        paths: Files; of tensors, each row is an input of its own.
        task: Reads the outputs of tensors, or None.

    Yields:
        What was said, and the outputs as arrays.

    Raises:
        DataError: A file is none that is taken.
        The errors of who answers.
    """
    for path in paths:
        suffix = path.suffix.lower()
        if suffix == TENSORS:
            rows = read_tensors(path, asker.inputs)
        elif suffix == _ARRAY and task is None:
            rows = iter([(str(path), _read_array(path, asker.inputs))])
        else:
            content, media_type = read_input(path)
            began_s = perf_counter()
            who, answer = await asker.predict(content, media_type)
            yield _told(str(path), who, began_s, answer, {}), {}
            continue
        for name, inputs in rows:
            began_s = perf_counter()
            who, outputs = await asker.infer(inputs)
            told = _tell(task, asker.inputs, inputs, outputs)
            yield _told(name, who, began_s, told, outputs), outputs


def read_tensors(
    path: Path, inputs: Sequence[TensorSpec]
) -> Iterator[tuple[str, Tensors]]:
    """Read a file of tensors: each row with its name.

    Raises:
        DataError: It is no such file, or does not fit the model.
    """
    for sample in open_samples(path, inputs, None):
        yield sample.name, sample.inputs


def read_input(path: Path) -> tuple[bytes, str]:
    """Read a file that a pipeline takes, and what it is.

    Raises:
        DataError: It cannot be read, or is too large.
    """
    content = read_file(path, largest_bytes=LARGEST_INPUT_BYTES, error=DataError)
    kind = mimetypes.guess_type(path.name)[0]
    if path.suffix.lower() == _ARRAY:
        kind = "application/x-npy"
    return content, kind or "application/octet-stream"


def _read_array(path: Path, inputs: Sequence[TensorSpec]) -> Tensors:
    """Read a `.npy` as the model's only input, as it is."""
    if len(inputs) != 1:
        raise UsageError(
            f"one array feeds one input, the model has {len(inputs)}",
            hint="Give an .npz with an array for each.",
        )
    return {inputs[0].name: read_series(path).array}


def _tell(
    task: Task | None,
    specs: Sequence[TensorSpec],
    inputs: Tensors,
    outputs: Tensors,
) -> Mapping[str, Any] | None:
    if task is None:
        return None
    pipeline = Pipeline(task=task, inputs=specs)
    return pipeline.tell(outputs, Reading(inputs=dict(inputs)))


def _told(
    name: str,
    who: str,
    began_s: float,
    answer: Mapping[str, Any] | None,
    outputs: Tensors,
) -> Asked:
    return Asked(
        input=name,
        release=who,
        latency_ms=(perf_counter() - began_s) * 1000,
        answer=answer,
        outputs=tuple(_describe(key, array) for key, array in outputs.items()),
    )


def _describe(name: str, array: Array) -> Output:
    numbers = array[np.isfinite(array)] if array.dtype.kind in "fiu" else array[:0]
    is_told = array.size <= _SHOWN_VALUES
    return Output(
        name=name,
        dtype=array.dtype.name,
        shape=array.shape,
        least=float(numbers.min()) if numbers.size else None,
        most=float(numbers.max()) if numbers.size else None,
        values=tuple(array.reshape(-1).tolist()) if is_told else (),
    )
