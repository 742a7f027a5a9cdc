"""Serve models on this machine, without a hub, until told to stop."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skerry.app.serving.repository import SourceRepository
from skerry.app.serving.sources import Source
from skerry.core.clock import SystemClock
from skerry.core.documents import to_json
from skerry.core.durable import write_file
from skerry.core.errors import UsageError
from skerry.edge.engine import Engine
from skerry.edge.faces import (
    Addresses,
    Faces,
    Isolation,
    check_reach,
    open_engine,
    open_faces,
    stop_signals,
)
from skerry.edge.installed import Installed
from skerry.edge.protocol.regions import Regions
from skerry.edge.protocol.service import InferenceService

SERVING_SCHEMA = "skerry.serving/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """How models are served.

    Attributes:
        faces: Where.
        token: What those who ask must show; needed beyond this machine.
        threads: How many inferences of one model run at once.
        shared_memory: Whether clients on this machine may register shared memory.
        isolation: Where models run.
        providers: Execution providers of onnxruntime, in order of wish.
        probation_s: How long a changed model serves before it is accepted for good.
        announce: A file to write the addresses to once it serves, or None.
    """

    faces: Faces = field(default_factory=Faces)
    token: str | None = field(default=None, repr=False)
    threads: int = 1
    shared_memory: bool = False
    isolation: Isolation = "process"
    providers: tuple[str, ...] = ()
    probation_s: float = 5.0
    announce: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What serves, and where.

    Attributes:
        address: The URL of HTTP.
        others: Those of gRPC (`grpc`) and the local socket (`local`).
        models: What serves, in the order that was given.
    """

    address: str
    others: dict[str, str]
    models: tuple[Installed, ...]


async def serve_models(
    sources: Sequence[Source],
    settings: ServeSettings,
    *,
    ready: Callable[[Serving], None],
) -> dict[str, int]:
    """Serve until SIGTERM, SIGINT or cancellation.

    Args:
        sources: What is served.
        settings: How.
        ready: Told once all of it serves.

    Returns:
        How many requests of each model were answered.

    Raises:
        UsageError: The settings contradict each other, or a model is none.
        RefusedError: A model does not run here, or not within its budget.
        StateError: A port is in use.
    """
    check_reach(settings.faces.host, settings.token)
    if settings.threads < 1:
        raise UsageError(
            f"{settings.threads} threads serve nobody", hint="Give at least 1."
        )
    stop = asyncio.Event()
    with (
        tempfile.TemporaryDirectory(prefix="skerry-serve-") as folder,
        stop_signals(stop),
        open_engine(
            clock=SystemClock(),
            threads=settings.threads,
            isolation=settings.isolation,
            providers=settings.providers,
        ) as engine,
    ):
        repository = SourceRepository(sources, Path(folder), loaded=engine.versions)
        facts: dict[str, object] = {"pid": os.getpid()}
        service = InferenceService(
            engine,
            token=settings.token,
            facts=lambda: facts,
            repository=repository,
            regions=Regions() if settings.shared_memory else None,
            probation_s=settings.probation_s,
        )
        # The port first: one that is in use is known before a model is loaded.
        async with open_faces(service, settings.faces) as addresses:
            facts.update(addresses.others)
            loading = asyncio.create_task(_load(engine, repository))
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait(
                    {loading, stopping}, return_when=asyncio.FIRST_COMPLETED
                )
                if not stop.is_set():
                    models = await loading
                    await _announce(settings, addresses, models)
                    ready(
                        Serving(
                            address=addresses.http,
                            others=addresses.others,
                            models=models,
                        )
                    )
                    await stop.wait()
                service.stop()
            finally:
                for task in (loading, stopping):
                    task.cancel()
                await asyncio.gather(loading, stopping, return_exceptions=True)
        return _count(service)


async def _load(engine: Engine, repository: SourceRepository) -> tuple[Installed, ...]:
    models = []
    for name in repository.names:
        installed = await asyncio.to_thread(repository.find, name)
        engine.switch(await asyncio.to_thread(engine.prepare, installed))
        models.append(installed)
    return tuple(models)


async def _announce(
    settings: ServeSettings, addresses: Addresses, models: Sequence[Installed]
) -> None:
    if settings.announce is None:
        return
    fields = {
        "address": addresses.http,
        "pid": os.getpid(),
        "models": [str(installed.id) for installed in models],
        **addresses.others,
    }
    content = to_json(fields, schema=SERVING_SCHEMA)
    await asyncio.to_thread(write_file, settings.announce, content)


def _count(service: InferenceService) -> dict[str, int]:
    answered: dict[str, int] = {}
    for release, counted in service.metrics.counts():
        answered[release.name] = answered.get(release.name, 0) + counted.answered
    return answered
