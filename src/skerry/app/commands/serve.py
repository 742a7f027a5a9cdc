"""`skerry serve`: serve models on this machine, without a hub."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skerry.app import figures
from skerry.app.logs import LogFormat, set_up
from skerry.app.output import Output
from skerry.core.budget import Budget

if TYPE_CHECKING:
    from rich.console import RenderableType

    from skerry.app.serving.server import Serving
    from skerry.edge.installed import Installed


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeStopped:
    """A server that ran and was stopped in good order.

    Attributes:
        answered: How many requests of each model were answered.
    """

    answered: Mapping[str, int]


def serve(
    *models: str,
    task: tuple[str, ...] = (),
    runtime: tuple[str, ...] = (),
    gallery: tuple[str, ...] = (),
    golden: tuple[str, ...] = (),
    shape: tuple[str, ...] = (),
    latency_ms: float | None = None,
    memory_bytes: int | None = None,
    size_bytes: int | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    serve_token: str | None = None,
    grpc_port: int | None = None,
    shared_memory: bool = False,
    local: Path | None = None,
    threads: int = 1,
    isolation: Literal["process", "thread"] = "process",
    provider: tuple[str, ...] = (),
    probation_s: float = 5.0,
    announce: Path | None = None,
    log: LogFormat = LogFormat.TEXT,
    output: Annotated[Output, Parameter(parse=False)],
) -> ServeStopped:
    """Serve models on this machine until it is stopped (Ctrl-C, SIGTERM); no hub.

    A model's file that has changed is loaded as the next version by a POST to
    /v2/repository/models/NAME/load: it is checked beside what serves, and goes back by
    itself if it does worse. What was never released has no golden samples: whether it
    answers rightly is not known to the server.

    Args:
        models: Files (ONNX, TFLite, ncnn's .param), folders that skerry compress wrote,
            a gateway's folder or one of its slots; NAME=PATH gives one its name. The
            model of skerry.toml by default.
        task: A task file (schema skerry.task/1), so that pictures and recordings are
            answered; the task of skerry.toml for its model by default. With several
            models NAME=FILE, as for the next four.
        runtime: What runs the model; what is usual for its format by default.
        gallery: Whom a task that matches embeddings knows, an .npz; gallery.npz beside
            the task by default.
        golden: Golden samples (skerry.golden/1) that the model must give.
        shape: An input's shape, as INPUT=1x3x48x320, where a single model's file leaves
            it open.
        latency_ms: Most milliseconds of one inference here.
        memory_bytes: Most memory that a model may take here.
        size_bytes: Most bytes of a model's file.
        host: The address to serve at; this machine alone by default.
        port: The port to serve at; 0 takes a free one.
        serve_token: What those who ask must show; needed beyond this machine.
        grpc_port: The port to serve at over gRPC, too (0 takes a free one); needs the
            extra grpc.
        shared_memory: Let clients on this machine name shared memory of their own.
        local: Serve programs of the same user through shared memory, at this socket.
        threads: How many inferences of one model run at once.
        isolation: Where models run: each in a process of its own, which may crash or
            hang, or as threads of the server's, which takes less memory.
        provider: An execution provider of onnxruntime, such as cuda; repeat it for
            several, in order of wish.
        probation_s: How long a changed model serves before it is accepted for good.
        announce: A file to write the addresses to, as JSON, once it serves.
        log: How its events are logged on standard error.
        output: Where to say that it is up.
    """
    from skerry.app.serving.given import Given, find_sources
    from skerry.app.serving.server import ServeSettings, serve_models
    from skerry.edge.faces import Faces

    set_up(log)
    given = Given(
        options={
            "task": task,
            "runtime": runtime,
            "gallery": gallery,
            "golden": golden,
        },
        shapes=shape,
        budget=Budget(
            latency_ms=latency_ms, memory_bytes=memory_bytes, size_bytes=size_bytes
        ),
    )
    settings = ServeSettings(
        faces=Faces(host=host, port=port, grpc_port=grpc_port, local=local),
        token=serve_token,
        threads=threads,
        shared_memory=shared_memory,
        isolation=isolation,
        providers=provider,
        probation_s=probation_s,
        announce=announce,
    )

    def tell(serving: Serving) -> None:
        output.talk(welcome(serving))
        output.talk(example(serving, has_token=serve_token is not None))

    sources = find_sources(models, given)
    return ServeStopped(
        answered=asyncio.run(serve_models(sources, settings, ready=tell))
    )


def render_serve(stopped: ServeStopped) -> str:
    """Say that it has stopped, and what it did."""
    told = [
        f"{figures.show_number(count, 'request')} of {name}"
        for name, count in stopped.answered.items()
    ]
    return f"The server has stopped. It answered {' and '.join(told) or 'nobody'}."


def welcome(serving: Serving) -> RenderableType:
    """Say what serves, and where."""
    from rich.console import Group
    from rich.text import Text

    from skerry.app.tables import plain_table

    table = plain_table("model", "runtime", "takes", "gives")
    for installed in serving.models:
        table.add_row(
            str(installed.id),
            installed.model.runtime,
            ", ".join(map(str, installed.model.inputs)),
            ", ".join(map(str, installed.model.outputs)),
        )
    where = [f"{face} {address}" for face, address in serving.others.items()]
    head = " · ".join([f"Serving at {serving.address}", *where])
    notes = [note for each in serving.models for note in _notes(each)]
    return Group(Text(f"{head} (Ctrl-C stops it)", "bold"), table, *notes)


def _notes(installed: Installed) -> list[str]:
    """What a model that was never released lacks."""
    from skerry.core.release import NOTHING

    manifest, told = installed.manifest, []
    if manifest.golden == NOTHING:
        told.append(f"{manifest.name} has no golden samples: its answers are unproven.")
    if manifest.task == NOTHING:
        told.append(f"{manifest.name} has no task: it answers tensors alone.")
    return told


def example(serving: Serving, *, has_token: bool) -> RenderableType:
    """Say how to ask the first model, on one line that can be copied."""
    from rich.text import Text

    from skerry.core.release import NOTHING

    first = serving.models[0]
    words = ["curl -s"]
    if has_token:
        words.append('-H "Authorization: Bearer $TOKEN"')
    url = f"{serving.address}/v2/models/{first.id.name}"
    if first.manifest.task != NOTHING:
        kind = _media_type(first)
        words += [f"--data-binary @FILE -H 'Content-Type: {kind}'"]
        url += "/predict"
    return Text(f"  {' '.join(words)} {url}", no_wrap=True)


def _media_type(installed: Installed) -> str:
    """What a client of its task is likely to have."""
    from skerry.tasks.task import load_task

    task = load_task(installed.files["task"])
    if task.takes_series:
        return "audio/wav"
    return "image/png" if task.pre else "application/json"
