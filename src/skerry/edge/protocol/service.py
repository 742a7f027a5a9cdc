"""What the gateway's HTTP and gRPC services share: one service, two faces.

A face turns its transport's bytes into calls of `InferenceService` and the answers, or
the errors, back into bytes; who may ask, what is held at once, deadlines, priorities,
counts and the engine are here.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from skerry import __version__
from skerry.core.errors import (
    BusyError,
    ConflictError,
    DataError,
    LateError,
    MissingExtraError,
    ModelError,
    RefusedError,
    SkerryError,
    StateError,
    UsageError,
)
from skerry.core.release import ReleaseId
from skerry.edge.engine import Answer, Engine
from skerry.edge.exposition import Family, write_metrics
from skerry.edge.installed import Installed
from skerry.edge.protocol import metrics
from skerry.edge.protocol.datatypes import DATATYPES, describe, sizes_of
from skerry.edge.protocol.metrics import Counted, Metrics
from skerry.edge.protocol.regions import Regions
from skerry.edge.protocol.repository import Repository
from skerry.edge.protocol.tensors import InferRequest

if TYPE_CHECKING:
    from skerry.edge.protocol.predict import Predictor

LARGEST_BODY_BYTES = 16 << 20
"""Most bytes of a request's body, unless told otherwise."""

MOST_BODIES = 4
"""As many of the largest bodies are held at once, or as many bytes of smaller ones."""

TIMEOUT_S = 10.0
"""Until when an answer is of use, unless the request says so; and a body's own time."""

LONGEST_TIMEOUT_MS = 600_000.0
"""Most milliseconds that a request may ask for."""

EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "model_versions",
    "schedule_policy",
    "statistics",
    "system_shared_memory",
)
"""The extensions of the protocol that are spoken; the two of shared memory and of the
repository only where the service was given one."""

STATUSES: tuple[tuple[type[SkerryError], int, str], ...] = (
    (DataError, 400, "INVALID_ARGUMENT"),
    (UsageError, 404, "NOT_FOUND"),
    (BusyError, 429, "RESOURCE_EXHAUSTED"),
    (LateError, 504, "DEADLINE_EXCEEDED"),
    (ConflictError, 409, "ABORTED"),
    (StateError, 503, "UNAVAILABLE"),
    (RefusedError, 422, "FAILED_PRECONDITION"),
    (ModelError, 500, "INTERNAL"),
    (MissingExtraError, 501, "UNIMPLEMENTED"),
)
"""The status of each kind of error, of HTTP and of gRPC."""

Read = Callable[[Installed, Regions | None], InferRequest]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One inference that a client asks for.

    Attributes:
        name: The model.
        version: Its version, or None.
        size_bytes: How large the request is.
        timeout_ms: What the transport says of its deadline, or None.
        priority: What the transport says of its priority.
        is_local: Whether the client is on this machine.
    """

    name: str
    version: int | None = None
    size_bytes: int = 0
    timeout_ms: float | None = None
    priority: int = 0
    is_local: bool = False


class _Counting:
    """Counts one request, from when it is whole to its answer or its error.

    Args:
        of: Where it counts until it is known which release it is for.
    """

    __slots__ = ("_began_s", "of")

    def __init__(self, of: Counted) -> None:
        self.of = of
        self._began_s = perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        took_s = perf_counter() - self._began_s
        if error is None:
            self.of.requests += 1
            self.of.count_answer(took_s)
        elif isinstance(error, SkerryError):
            self.of.requests += 1
            self.of.count_failure(error, took_s)


class InferenceService:
    """Answers what clients ask of an engine; on the event loop's thread.

    Args:
        engine: What answers.
        token: What every request must show but one that asks whether the process is
            alive; None: everybody who reaches it is served.
        facts: What it tells of this gateway, JSON values.
        families: More metrics than its own.
        timeout_s: The deadline of a request that names none.
        largest_body_bytes: Most bytes of a request.
        repository: What clients may load and unload; None: nothing.
        regions: The shared memory of clients on this machine; None: not offered.
        probation_s: How long a release that a client loads in the place of another one
            serves before it is accepted.

    Attributes:
        timeout_s: As given.
        largest_body_bytes: As given.
        metrics: What was counted.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        token: str | None = None,
        facts: Callable[[], Mapping[str, object]] = dict,
        families: Callable[[], Iterable[Family]] = tuple,
        timeout_s: float = TIMEOUT_S,
        largest_body_bytes: int = LARGEST_BODY_BYTES,
        repository: Repository | None = None,
        regions: Regions | None = None,
        probation_s: float = 5.0,
    ) -> None:
        self.timeout_s = timeout_s
        self.largest_body_bytes = largest_body_bytes
        self.metrics = Metrics()
        self._engine = engine
        self._token = token.encode() if token is not None else None
        self._facts = facts
        self._families = families
        self._repository = repository
        self._regions = regions
        self._held_bytes = 0
        self._is_stopping = False
        self._probation_s = probation_s
        self._watching: set[asyncio.Task[Any]] = set()
        self._predictor: Predictor | None = None

    def may_pass(self, authorization: bytes) -> bool:
        """Whether what a client shows, `Bearer TOKEN`, is enough."""
        if self._token is None:
            return True
        scheme, _, given = authorization.partition(b" ")
        is_right = hmac.compare_digest(given.strip(), self._token)
        return is_right and scheme.lower() == b"bearer"

    def stop(self) -> None:
        """Turn requests away from now on: those in flight are still answered."""
        self._is_stopping = True

    # ------------------------------------------------------------------ inference

    async def infer(
        self, call: Call, read: Read, write: Callable[[Answer, InferRequest], T]
    ) -> T:
        """Answer one request, and count it.

        Args:
            call: What is asked.
            read: Reads the request, given the release that is to answer and the
                shared memory that the client may name.
            write: Writes the answer.

        Raises:
            UsageError: No such release is loaded.
            DataError: The request is none, or does not fit the model.
            BusyError: As many requests wait as may.
            LateError: The deadline has passed.
            StateError: The service is stopping.
            RuntimeFailure: The runtime failed.
        """
        with _Counting(self.metrics.unknown) as counting:
            self._check_open()
            # From here to the engine nothing waits: what is found now answers, unless
            # the engine shares requests out.
            installed = self._engine.find(call.name, version=call.version)
            counting.of = self.metrics.of(installed.id)
            request = read(installed, self.regions_for(call))
            counting.of.count_bytes(
                size_bytes=call.size_bytes, tail_bytes=request.tail_bytes
            )
            answer = await self._ask(call, request)
            if answer.release != installed.id:
                counting.of = self.metrics.of(answer.release)
            return write(answer, request)

    async def predict(
        self, call: Call, content: bytes, media_type: str
    ) -> dict[str, Any]:
        """Answer a picture, a recording or a window of a signal, and count it.

        Args:
            call: What is asked.
            content: The bytes.
            media_type: What they are.

        Raises:
            The errors of `Predictor.predict`; StateError where the service is stopping.
        """
        with _Counting(self.metrics.unknown) as counting:
            self._check_open()
            counting.of = self.metrics.of(self.find(call.name, call.version).id)
            counting.of.count_bytes(size_bytes=len(content), tail_bytes=len(content))
            if self._predictor is None:
                from skerry.edge.protocol.predict import Predictor

                self._predictor = Predictor(self._engine)
            return await self._predictor.predict(
                call.name,
                content,
                media_type,
                version=call.version,
                deadline_s=self.deadline_s(call.timeout_ms),
                priority=call.priority,
            )

    async def _ask(self, call: Call, request: InferRequest) -> Answer:
        timeout_ms = request.timeout_ms
        deadline_s = self.deadline_s(
            call.timeout_ms if timeout_ms is None else timeout_ms
        )
        return await self._engine.infer(
            call.name,
            request.inputs,
            version=call.version,
            deadline_s=deadline_s,
            priority=request.priority or call.priority,
        )

    def deadline_s(self, timeout_ms: float | None) -> float:
        """How long an answer is of use.

        Args:
            timeout_ms: What the request says, or None.

        Raises:
            DataError: That makes no sense.
        """
        if timeout_ms is None:
            return self.timeout_s
        if not 0 < timeout_ms <= LONGEST_TIMEOUT_MS:
            raise DataError(
                f"the timeout is {timeout_ms} ms, expected more than 0 and at most "
                f"{LONGEST_TIMEOUT_MS:g}",
                hint="Give a number of milliseconds.",
            )
        return timeout_ms / 1000

    def regions_for(self, call: Call) -> Regions | None:
        """The shared memory that a client may name."""
        return self._regions if call.is_local else None

    def hold(self, size_bytes: int) -> None:
        """Count bytes of a request, if there is room for them beside those of others.

        Raises:
            BusyError: There is none.
        """
        most_bytes = MOST_BODIES * self.largest_body_bytes
        if self._held_bytes + size_bytes > most_bytes:
            raise BusyError(
                f"{self._held_bytes} bytes of requests are being answered, expected "
                f"fewer than {most_bytes}",
                hint="Ask again in a second, or send smaller batches.",
            )
        self._held_bytes += size_bytes

    def release(self, size_bytes: int) -> None:
        """Take bytes of a request off the count."""
        self._held_bytes -= size_bytes

    @contextmanager
    def holding(self, size_bytes: int) -> Iterator[None]:
        """Count bytes of a request for as long as the context is open.

        Raises:
            BusyError: There is no room for them.
        """
        self.hold(size_bytes)
        try:
            yield
        finally:
            self.release(size_bytes)

    # ------------------------------------------------------------- what it tells

    @property
    def is_ready(self) -> bool:
        """Whether a release is loaded."""
        return bool(self._engine.names()) and not self._is_stopping

    def describe_server(self) -> dict[str, Any]:
        """Who serves, as the protocol's server metadata."""
        missing = set()
        if self._repository is None:
            missing.add("model_repository")
        if self._regions is None:
            missing.add("system_shared_memory")
        return {
            "name": "skerry",
            "version": __version__,
            "extensions": [each for each in EXTENSIONS if each not in missing],
            "parameters": dict(self._facts()),
        }

    def find(self, name: str, version: int | None) -> Installed:
        """The release that answers.

        Raises:
            UsageError: No such release is loaded.
        """
        return self._engine.find(name, version=version)

    def describe_model(self, name: str, version: int | None) -> dict[str, Any]:
        """What a model takes and gives, as the protocol's model metadata.

        Raises:
            UsageError: No such release is loaded.
        """
        installed = self.find(name, version)
        told = {
            **name_release(installed.id, installed.model.blob.sha256),
            "versions": [str(v) for v in self._engine.versions(name)],
            "platform": installed.model.runtime,
            "inputs": describe(installed.inputs),
            "outputs": describe(installed.outputs),
        }
        told["name"] = told.pop("model_name")
        return told

    def configure_model(self, name: str, version: int | None) -> dict[str, Any]:
        """The part of Triton's model configuration that there is here.

        Raises:
            UsageError: No such release is loaded.
        """
        installed = self.find(name, version)
        runtime = installed.model.runtime
        return {
            "name": name,
            "platform": runtime,
            "backend": runtime,
            "max_batch_size": 0,
            "input": [_configure(spec) for spec in installed.inputs],
            "output": [_configure(spec) for spec in installed.outputs],
        }

    def count_model(self, name: str, version: int | None) -> dict[str, Any]:
        """Statistics of a model, or of all of them; the name is empty for all.

        Raises:
            UsageError: No such release is loaded.
        """
        wanted = {self.find(name, version).id} if name else None
        if name and version is None:
            versions = self._engine.versions(name)
            wanted = {ReleaseId(name=name, version=each) for each in versions}
        counts = dict(self.metrics.counts())
        chosen = counts if wanted is None else sorted(wanted)
        return {
            "model_stats": [
                _statistics(release, counts.get(release) or Counted())
                for release in chosen
            ]
        }

    def write_metrics(self) -> bytes:
        """All that was counted, in Prometheus's text format."""
        engine = self._engine
        loaded = [
            (name, version)
            for name in engine.names()
            for version in engine.versions(name)
        ]
        of = {which: metrics.labels(*which) for which in loaded}
        served = [(of[w], engine.figures(w[0], version=w[1])) for w in loaded]
        workers = [(of[w], engine.session_figures(*w)) for w in loaded]
        names = [((("model", n),), engine.swap_figures(n)) for n in engine.names()]
        return write_metrics(
            chain(
                metrics.families_of(self.metrics),
                metrics.figures_families(served, prefix="skerry_release"),
                metrics.figures_families(workers, prefix="skerry_session"),
                metrics.figures_families(names, prefix="skerry_model"),
                metrics.own_families(),
                self._families(),
            )
        )

    # -------------------------------------------------------- models and memory

    def index(self) -> list[dict[str, str]]:
        """The releases on this machine, with whether they serve.

        Raises:
            UsageError: There is no repository.
        """
        repository = self._get_repository()
        loaded = {
            ReleaseId(name=name, version=version)
            for name in self._engine.names()
            for version in self._engine.versions(name)
        }
        known = {installed.id for installed in repository.index()}
        return [
            {
                "name": release.name,
                "version": str(release.version),
                "state": "READY" if release in loaded else "UNAVAILABLE",
                "reason": "" if release in loaded else "unloaded",
            }
            for release in sorted(known | loaded)
        ]

    async def load(self, name: str, parameters: Mapping[str, object]) -> None:
        """Load a release, check it, and let it serve.

        Where it takes the place of another one, that one stands behind it for the
        probation. One that serves already is left as it is.

        Args:
            name: The release's name.
            parameters: Triton's; none of them is taken, for what serves is signed.

        Raises:
            UsageError: There is no such release, or no repository.
            DataError: There are parameters.
            ConflictError: Another load of this name is under way.
            RefusedError: It does not hold here what it promises.
        """
        if parameters:
            raise DataError(
                f"loading takes no parameters, got {', '.join(parameters)[:80]}",
                hint="A release is signed as a whole: publish another one.",
            )
        self._check_open()
        repository = self._get_repository()
        installed = await asyncio.to_thread(repository.find, name)
        active = self._engine.active(name)
        if active is not None and active.manifest == installed.manifest:
            return
        self._engine.switch(await asyncio.to_thread(self._engine.prepare, installed))
        if active is not None:
            watching = asyncio.create_task(
                self._engine.watch(name, probation_s=self._probation_s)
            )
            self._watching.add(watching)
            watching.add_done_callback(self._watching.discard)

    def unload(self, name: str) -> None:
        """Stop serving a name; requests in flight are still answered.

        Raises:
            UsageError: It does not serve, or there is no repository.
        """
        self._get_repository()
        self.find(name, None)
        self._engine.remove(name)

    def regions_of(self, *, is_local: bool) -> Regions:
        """The shared memory of clients, for one that asks for it.

        Raises:
            UsageError: It is not offered, or not to this client.
        """
        if self._regions is None or not is_local:
            raise UsageError(
                "shared memory is not offered here",
                hint="It is for clients on this machine, where the gateway allows it.",
            )
        return self._regions

    def _get_repository(self) -> Repository:
        if self._repository is None:
            raise UsageError(
                "this service has no repository of models",
                hint="What it serves is decided where it is started.",
            )
        return self._repository

    def _check_open(self) -> None:
        if self._is_stopping:
            raise StateError(
                "the gateway is stopping", hint="Ask again in a few seconds."
            )


def status_of(error: SkerryError) -> tuple[int, str]:
    """The status of an error, of HTTP and of gRPC."""
    for kind, status, code in STATUSES:
        if isinstance(error, kind):
            return status, code
    return 500, "INTERNAL"


def retry_after_s(error: SkerryError) -> int | None:
    """After how many whole seconds it may be worth asking again, or None: never."""
    if isinstance(error, BusyError) or status_of(error)[0] == 503:
        return max(1, round(getattr(error, "retry_after_s", 1)))
    return None


def name_release(release: ReleaseId, blob: str) -> dict[str, Any]:
    """What each answer says of the release that gave it."""
    return {
        "model_name": release.name,
        "model_version": str(release.version),
        "parameters": {"release": str(release), "blob": blob},
    }


def read_version(text: str) -> int | None:
    """The version in a request: None for an empty text, 0 for what is none.

    There is no version 0, as there is none that is not a number.
    """
    if not text:
        return None
    is_number = text.isascii() and text.isdigit() and len(text) < 10
    return int(text) if is_number else 0


def _configure(spec: Any) -> dict[str, Any]:
    datatype = DATATYPES.get(spec.dtype, "")
    kind = "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
    return {"name": spec.name, "data_type": kind, "dims": sizes_of(spec)}


def _statistics(release: ReleaseId, counted: Counted) -> dict[str, Any]:
    """Triton's statistics of a model; what is not taken apart here is left at 0."""
    failed = sum(counted.failures.values())
    success = {"count": counted.answered, "ns": int(counted.seconds * 1e9)}
    return {
        "name": release.name,
        "version": str(release.version),
        "last_inference": counted.last_ms,
        "inference_count": counted.answered,
        "execution_count": counted.answered,
        "inference_stats": {
            "success": success,
            "fail": {"count": failed, "ns": int(counted.failed_seconds * 1e9)},
        },
    }
