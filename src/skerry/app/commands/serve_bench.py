"""`skerry serve bench`: put load on a server, and see how long answers take."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from skerry.app.output import Output
from skerry.app.serving.bench import BenchPlan, BenchResult, run_bench
from skerry.app.serving.load import LoadPlan
from skerry.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType


def bench(
    target: str,
    /,
    *,
    model: str = "",
    clients: int = 8,
    rate: float | None = None,
    duration_s: float = 10.0,
    timeout_ms: float = 1000.0,
    face: Literal["http", "grpc", "local"] = "http",
    input: Path | None = None,  # noqa: A002 (the name of the flag)
    shape: tuple[str, ...] = (),
    seed: int = 0,
    token: str | None = None,
    task: Path | None = None,
    runtime: str = "",
    threads: int = 1,
    isolation: Literal["process", "thread"] = "process",
    out: Path | None = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> BenchResult:
    """Put load on a server, or on a model that is served for it, and time its answers.

    Without --rate each client asks again as soon as it has its answer: that shows how
    much the server can take. With it, requests are due at moments of their own, and
    their latency counts from then on, whether or not a client was free to send them:
    that shows how long people wait.

    Args:
        target: The URL of a server, or a model's file, which is served by a process of
            its own for as long.
        model: Which of the server's models; the only one by default.
        clients: How many connections; each has one request at a time.
        rate: How many requests are due each second, at moments drawn by the seed.
        duration_s: For how long requests are sent.
        timeout_ms: After how long an answer is of no more use.
        face: How the server is reached: over http, over grpc, or, on its own machine,
            through shared memory.
        input: What is sent: an .npz of tensors, a row a request, or a picture, a
            recording, a window; made up from the model's signature by default.
        shape: An input's shape, as INPUT=1x3x48x320, where the signature leaves it
            open.
        seed: What the moments are drawn by.
        token: What to show the server.
        task: A task file (schema skerry.task/1) for a model's file.
        runtime: What runs the model's file; what is usual for its format by default.
        threads: How many inferences of the model's file run at once.
        isolation: Where the model's file runs: in a process of its own, or as threads
            of the server's.
        out: Write a page with the histogram to this file (.html).
        output: Where the load is shown while it runs.
    """
    from skerry.app.arguments import parse_shapes
    from skerry.app.serving.load_page import load_page
    from skerry.app.serving.load_view import live_view
    from skerry.core.durable import write_file

    load = LoadPlan(
        clients=clients,
        rate_per_s=rate,
        duration_s=duration_s,
        timeout_ms=timeout_ms,
        seed=seed,
    )
    is_remote = "://" in target
    if is_remote and (task or runtime):
        raise UsageError(
            "--task and --runtime are for a model's file",
            hint="The server has its own.",
        )
    words = [
        *([f"--task={task}"] if task else []),
        *([f"--runtime={runtime}"] if runtime else []),
        *(["--grpc-port=0"] if face == "grpc" else []),
        *(f"--shape={text}" for text in shape),
        f"--threads={threads}",
        f"--isolation={isolation}",
    ]
    serving = (
        contextlib.nullcontext(target) if is_remote else _serve(target, face, words)
    )
    with serving as url, live_view(output, load) as show:
        plan = BenchPlan(
            url=url,
            model=model,
            face=face,
            load=load,
            input_file=input,
            shapes=parse_shapes(shape, []),
            token=token,
        )
        found = asyncio.run(run_bench(plan, target=target, on_tick=show))
    if out is None:
        return found
    found = replace(found, files=(out,))
    write_file(out, load_page(found).encode())
    return found


@contextlib.contextmanager
def _serve(target: str, face: str, words: list[str]) -> Iterator[str]:
    """Serve a model's file for as long as the context is open."""
    import tempfile

    from skerry.app.serving.child import serving_child

    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
        if face == "local":
            words = [*words, f"--local={Path(folder) / 'local.sock'}"]
        with serving_child([target, *words]) as url:
            yield url


def render_bench(found: BenchResult) -> RenderableType:
    """Render the percentiles and a histogram."""
    from skerry.app.serving.load_view import show_result

    return show_result(found)
