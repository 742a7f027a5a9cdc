"""What might make a deployment faster on this machine, read from its profile.

Each remedy says what it expects: another runtime or precision, or fewer threads, the
best that a glance at it (a few inferences in turns) shows; more threads and numbers of
fewer bits what Amdahl's law leaves of the operators that are worth sharing out, or that
multiply; fixed sizes and rewrites the share of the time that they touch. An expectation
only decides what is tried first: what stays is measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from skerry.adapt.optimize.deployment import Deployment, Kind, Remedy
from skerry.adapt.profiles.conclude import type_shares
from skerry.adapt.rewrite import adapt
from skerry.core.errors import MissingExtraError, ModelError, SkerryError
from skerry.core.model import ModelFormat
from skerry.core.profile import Profile
from skerry.core.seams import LoadOptions, Precision, Runtime, Session, Tensors
from skerry.core.target import (
    Citation,
    Processor,
    ProcessorKind,
    Refusal,
    Target,
)
from skerry.graph import (
    Graph,
    read_graph,
    with_static_inputs,
    write_graph,
)
from skerry.runtimes import RUNTIMES_OF, get_runtime
from skerry.tasks.measure import measure_latency, ratio
from skerry.tasks.profiling import Subject, profile_in_turns

GLANCE_ROUNDS = 5
PROFILE_REPEATS = 12
LEAST_SHARE = 0.03
"""Operators that take a smaller share of the time are left alone."""

SPLIT_MS = 0.05
"""An operator that takes less is not worth waking another thread for."""

_SHAPE_OPERATORS = frozenset(
    {"Cast", "ConstantOfShape", "Expand", "Gather", "Range", "Shape", "Unsqueeze"}
)
"""What a model with open sizes computes its shapes with."""

_PAIRS = frozenset({"DequantizeLinear", "QuantizeLinear"})
"""They say what the operators between them compute in; no rule replaces them."""

_LAYOUT_OPERATORS = frozenset({"Transpose"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recoding:
    """Numbers of fewer bits in place of a model's floats.

    Attributes:
        name: What reports call it, such as `INT8`.
        speedup: How many times as fast as before it may make what multiplies.
        change: Makes the graph of it, for a runtime.
    """

    name: str
    speedup: float
    change: Callable[[Graph, Runtime], Graph] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What remedies are made with.

    Attributes:
        inputs: Real inputs; the first is glanced at and profiled.
        folder: Where changed model files are written.
        most_threads: Threads that one inference may have.
        runtimes: Names of those that may be tried; empty for all that take the format.
        recodings: Numbers of fewer bits that may be tried on a model of floats.
        missing: What could not be tried, and why; filled meanwhile.
    """

    inputs: Sequence[Tensors]
    folder: Path
    most_threads: int
    runtimes: tuple[str, ...] = ()
    recodings: tuple[Recoding, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)


def remedies_for(
    deployment: Deployment, workshop: Workshop
) -> tuple[Profile, list[Remedy]]:
    """Profile a deployment, and find what might make it faster.

    Raises:
        SkerryError: The deployment cannot be run.
    """
    subject = Subject(
        model=deployment.model,
        runtime=deployment.runtime,
        inputs=workshop.inputs[0],
        options=deployment.options,
    )
    (profile,) = profile_in_turns([subject], repeats=PROFILE_REPEATS)
    found = [
        *_elsewhere(deployment, workshop),
        *_threads(deployment, profile, workshop),
    ]
    if deployment.model.format is ModelFormat.ONNX:
        shares = {one.op_type: one.share for one in type_shares(profile)}
        graph = read_graph(deployment.model.path)
        found += _recodings(graph, profile, workshop)
        found += _fixed_sizes(deployment, shares, workshop)
        found += _rewrites(graph, shares, workshop)
    return profile, found


# ------------------------------------------------------------- runtime and precision


def _elsewhere(deployment: Deployment, workshop: Workshop) -> Iterator[Remedy]:
    """Glance at the other runtimes and precisions, and at fewer threads."""
    with ExitStack() as opened:
        sessions: dict[str, Session] = {}
        places: dict[str, tuple[Kind, Runtime, LoadOptions]] = {}
        for name, kind, runtime, options in _places(deployment, workshop):
            there = replace(deployment, runtime=runtime, options=options)
            try:
                session = opened.enter_context(closing(there.load()))
                session.run(workshop.inputs[0])
            except SkerryError as error:
                workshop.missing[name] = error.what
                continue
            sessions[name] = session
            places[name] = kind, runtime, options
        calls = {
            name: partial(session.run, workshop.inputs[0])
            for name, session in sessions.items()
        }
        times = measure_latency(calls, repeats=GLANCE_ROUNDS)
    now = times.pop(_NOW)
    for name, latency in times.items():
        kind, runtime, options = places[name]
        # At its best: a busy machine must not hide what a real measurement would show.
        expected = ratio(latency, now).low
        yield Remedy(
            name=name,
            kind=kind,
            why=f"{expected:.2f} × the time at a glance, at best",
            expected=expected,
            change=partial(_moved, kind=kind, runtime=runtime, options=options),
        )


_NOW = ""
"""The name of the place where a deployment is already."""


def _places(
    deployment: Deployment, workshop: Workshop
) -> Iterator[tuple[str, Kind, Runtime, LoadOptions]]:
    """The places to glance at, the deployment's own first."""
    own, options = deployment.runtime, deployment.options
    yield _NOW, Kind.RUNTIME, own, options
    if options.precision != "default":
        name, precise = "default precision", replace(options, precision="default")
        yield name, Kind.PRECISION, own, precise
    if options.threads > 1:
        threads = options.threads // 2
        fewer = replace(options, threads=threads)
        yield _threads_name(threads), Kind.THREADS, own, fewer
    for runtime in _runtimes(deployment, workshop):
        for precision in _PRECISIONS:
            there = replace(options, precision=precision)
            plain = precision == "default"
            name = runtime.name if plain else f"{runtime.name}, {precision}"
            yield name, Kind.RUNTIME, runtime, there


_PRECISIONS: tuple[Precision, ...] = ("default", "float32")


def _runtimes(deployment: Deployment, workshop: Workshop) -> Iterator[Runtime]:
    for name in workshop.runtimes or RUNTIMES_OF[deployment.model.format]:
        if name == deployment.runtime.name:
            continue
        try:
            yield get_runtime(name)
        except MissingExtraError as error:
            workshop.missing[name] = f"not tried: {error.hint}"


def _moved(
    deployment: Deployment, *, kind: Kind, runtime: Runtime, options: LoadOptions
) -> Deployment:
    """Take over what a remedy of a kind changes, and no more."""
    if kind is Kind.THREADS:
        return _share_out(deployment, threads=options.threads)
    taken = replace(deployment.options, precision=options.precision)
    return replace(deployment, runtime=runtime, options=taken)


def _recodings(graph: Graph, profile: Profile, workshop: Workshop) -> Iterator[Remedy]:
    """Offer numbers of fewer bits for a model of floats."""
    if any(node.op_type == "QuantizeLinear" for node in graph.nodes):
        return
    total_ms = profile.total_ms or 1.0
    # What a runtime does not count may multiply.
    multiplying = [one for one in profile.operators if one.macs is None or one.macs]
    share = sum(one.latency_ms for one in multiplying) / total_ms
    for one in workshop.recodings:
        yield Remedy(
            name=one.name,
            kind=Kind.PRECISION,
            why=f"{share * 100:.0f} % of the time is in operators that multiply",
            expected=1 - share * (1 - 1 / one.speedup),
            change=partial(_recode, recoding=one, folder=workshop.folder),
        )


def _recode(deployment: Deployment, *, recoding: Recoding, folder: Path) -> Deployment:
    graph = recoding.change(read_graph(deployment.model.path), deployment.runtime)
    return with_graph(deployment, graph, folder, recoding.name.lower())


# --------------------------------------------------------------------------- threads


def _threads(
    deployment: Deployment, profile: Profile, workshop: Workshop
) -> Iterator[Remedy]:
    total_ms = profile.total_ms or 1.0
    long_ms = sum(
        one.latency_ms for one in profile.operators if one.latency_ms >= SPLIT_MS
    )
    share = long_ms / total_ms
    now = deployment.options.threads
    threads = now * 2
    while threads <= workshop.most_threads:
        yield Remedy(
            name=_threads_name(threads),
            kind=Kind.THREADS,
            why=f"{share * 100:.0f} % of the time is in operators that are worth "
            "sharing out",
            expected=1 - share + share * now / threads,
            change=partial(_share_out, threads=threads),
        )
        threads *= 2


def _threads_name(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def _share_out(deployment: Deployment, *, threads: int) -> Deployment:
    options = replace(deployment.options, threads=threads)
    return replace(deployment, options=options)


# ----------------------------------------------------------------- sizes and rewrites


def _fixed_sizes(
    deployment: Deployment, shares: Mapping[str, float], workshop: Workshop
) -> Iterator[Remedy]:
    model = deployment.model
    shapes = {name: array.shape for name, array in workshop.inputs[0].items()}
    is_one = all(
        {name: array.shape for name, array in one.items()} == shapes
        for one in workshop.inputs
    )
    if not is_one or all(spec.is_static for spec in model.inputs):
        return
    share = sum(shares.get(name, 0.0) for name in _SHAPE_OPERATORS)
    yield Remedy(
        name="fixed input sizes",
        kind=Kind.LAYOUT,
        why=f"{share * 100:.0f} % of the time computes sizes that never change",
        expected=1 - max(share, LEAST_SHARE),
        change=partial(_fix_sizes, shapes=shapes, folder=workshop.folder),
    )


def _fix_sizes(
    deployment: Deployment, *, shapes: Mapping[str, tuple[int, ...]], folder: Path
) -> Deployment:
    graph = read_graph(deployment.model.path)
    fixed = with_static_inputs(graph, shapes)
    return with_graph(deployment, fixed, folder, "fixed")


def _rewrites(
    graph: Graph, shares: Mapping[str, float], workshop: Workshop
) -> Iterator[Remedy]:
    """Offer to do without each kind of operator that takes much of the time."""
    kinds = {node.op_type for node in graph.nodes}
    shapes = {name: array.shape for name, array in workshop.inputs[0].items()}
    for op_type, share in shares.items():
        if share < LEAST_SHARE or op_type not in kinds or op_type in _PAIRS:
            continue
        yield Remedy(
            name=f"without {op_type}",
            kind=Kind.LAYOUT if op_type in _LAYOUT_OPERATORS else Kind.REWRITE,
            why=f"{op_type} takes {share * 100:.0f} % of the time",
            # Whatever stands in for it takes time, too.
            expected=1 - share / 2,
            change=partial(
                _rewrite_kind, op_type=op_type, shapes=shapes, folder=workshop.folder
            ),
        )


def _rewrite_kind(
    deployment: Deployment,
    *,
    op_type: str,
    shapes: Mapping[str, tuple[int, ...]],
    folder: Path,
) -> Deployment:
    """Rewrite a model as if the processor did not run one kind of operator."""
    graph = with_static_inputs(read_graph(deployment.model.path), shapes)
    done = adapt(graph, _cpu_without(op_type), max_error=0.0)
    if not done.applied:
        raise ModelError(
            f"no rule replaces {op_type} here", hint="skerry adapt says what rules do."
        )
    return with_graph(deployment, done.graph, folder, f"without-{op_type.lower()}")


def _cpu_without(op_type: str) -> Target:
    never = Citation(source="imagined, to see what a model gains without it")
    cpu = Processor(
        name="cpu",
        kind=ProcessorKind.CPU,
        runs_everything=True,
        refusals=(Refusal(operators=frozenset({op_type}), evidence=never),),
    )
    return Target(name="cpu", title="a CPU", processors=(cpu,))


def with_graph(
    deployment: Deployment, graph: Graph, folder: Path, word: str
) -> Deployment:
    """Write a changed graph to a folder, under the model's name and a word more."""
    stem = re.sub(r"[^\w.-]", "-", deployment.model.path.stem)
    written = write_graph(graph, folder / f"{stem}.{word}.onnx")
    return replace(deployment, model=written)
