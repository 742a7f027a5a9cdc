"""`skerry profile`: what each operator takes, and how near that is to what could be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app.output import Output
from skerry.app.profiling.view import ProfileView, render_view
from skerry.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from skerry.adapt.profiles.roofline import Peaks
    from skerry.app.output import Progress
    from skerry.app.profiling.device import Shipped
    from skerry.core.profile import Profile


_GATEWAY = "device://"


def profile(
    model: Path | None = None,
    /,
    *,
    runtime: tuple[str, ...] = (),
    compare: Path | None = None,
    on: str = "",
    hub: str | None = None,
    read: tuple[Path, ...] = (),
    target: str = "",
    shape: tuple[str, ...] = (),
    threads: int = 1,
    repeats: int = 30,
    trace: Path | None = None,
    out: Path | None = None,
    output: Annotated[Output, Parameter(parse=False)],
) -> ProfileView:
    """Measure what each operator takes, and how near that is to what could be.

    Args:
        model: An ONNX or TFLite file, or ncnn's .param with its .bin beside it; that
            of skerry.toml by default, unless profiles of files are read.
        runtime: A runtime; repeat it for several, which take turns. The usual one of
            the format by default.
        compare: Another model, measured in turns with the first.
        on: Where to measure: ssh://[USER@]HOST, adb://SERIAL, or device://ID for an
            idle gateway of the fleet that serves the model; this machine by default.
        hub: The hub's folder or URL, for device://; SKERRY_HUB, else ./skerry-hub, by
            default.
        read: A profile that another tool wrote; repeat it for several.
        target: A target whose file states the peaks of the roofline; they are measured
            by default.
        shape: An input's shape, as NAME=1x3x48x320; inputs are random numbers.
        threads: CPU threads for one inference.
        repeats: Inferences of each model on each runtime.
        trace: Write all profiles as one trace for Perfetto to this file (.json).
        out: Write a page with the roofline to this file (.html).
        output: Where progress is shown.
    """
    from skerry.adapt.profiles import read_profiles
    from skerry.adapt.profiles.conclude import compare as hold_against
    from skerry.adapt.profiles.conclude import refusal_of
    from skerry.adapt.profiles.roofline import roofline

    _check(repeats, threads, trace, out)
    foreign = [found for path in read for found in read_profiles(path)]
    measured: Sequence[Profile] = ()
    peaks: Peaks | None = None
    if model is not None or compare is not None or not read:
        shipped = _shipped(model, compare, runtime, shape, threads)
        with output.progress() as progress:
            if on.startswith(_GATEWAY):
                measured = _ask_gateway(shipped, runtime, on, hub, repeats)
            else:
                measured, peaks = _measure(shipped, on, repeats, progress)
    if target:
        peaks = _stated(target)
    profiles = (*measured, *foreign)
    view = ProfileView(
        profiles=profiles,
        peaks=peaks,
        roofs=tuple(roofline(one, peaks) for one in profiles) if peaks else (),
        compared=hold_against(profiles),
        refusal=refusal_of(profiles),
        trace=trace,
        page=out,
    )
    _write(view)
    return view


def render_profile(view: ProfileView) -> RenderableType:
    """Render each profile, then what they allow to say."""
    return render_view(view)


def _check(repeats: int, threads: int, trace: Path | None, out: Path | None) -> None:
    if repeats < 1 or threads < 1:
        raise UsageError(
            f"got {repeats} repeats and {threads} threads, expected 1 or more of each",
            hint="Leave them out for the usual.",
        )
    for path in (trace, out):
        if path is not None and not path.resolve().parent.is_dir():
            raise UsageError(
                f"the folder of {path} is not there", hint="Make it, or take another."
            )


def _shipped(
    model: Path | None,
    other: Path | None,
    runtimes: tuple[str, ...],
    shape: tuple[str, ...],
    threads: int,
) -> list[Shipped]:
    """Each model on each runtime that was named, with inputs of random numbers."""
    from skerry.app.arguments import open_shaped, parse_shapes
    from skerry.app.profiling.device import Shipped
    from skerry.app.project import require_model
    from skerry.runtimes import DEFAULT_RUNTIMES
    from skerry.tasks.made_up import made_up_inputs

    paths = [require_model(model, folder=Path()), *([other] if other else [])]
    subjects = []
    for path in paths:
        opened = open_shaped(path, shape)
        shapes = parse_shapes(shape, [spec.name for spec in opened.inputs])
        inputs = made_up_inputs(opened.inputs, shapes=shapes)
        subjects += [
            Shipped(model=opened, runtime=name, inputs=inputs, threads=threads)
            for name in runtimes or (DEFAULT_RUNTIMES[opened.format],)
        ]
    return subjects


def _measure(
    shipped: Sequence[Shipped], on: str, repeats: int, progress: Progress
) -> tuple[Sequence[Profile], Peaks | None]:
    from skerry.app.profiling.device import parse_place, profile_on
    from skerry.app.profiling.peaks import best_peaks, measure_peaks
    from skerry.core.seams import LoadOptions
    from skerry.runtimes import get_runtime
    from skerry.tasks.profiling import Subject, profile_in_turns

    if on:
        return profile_on(parse_place(on), shipped, repeats=repeats)
    threads = shipped[0].threads
    subjects = [
        Subject(
            model=one.model,
            runtime=get_runtime(one.runtime),
            inputs=one.inputs,
            options=LoadOptions(threads=threads),
        )
        for one in shipped
    ]
    before = measure_peaks(threads=threads)
    found = profile_in_turns(subjects, repeats=repeats, progress=progress)
    return found, best_peaks(before, measure_peaks(threads=threads))


def _ask_gateway(
    shipped: Sequence[Shipped],
    runtimes: tuple[str, ...],
    on: str,
    hub: str | None,
    repeats: int,
) -> tuple[Profile, ...]:
    """Have a gateway profile releases of these models, which it serves."""
    import hashlib

    from skerry.app.connection import ask
    from skerry.app.hub_api import HubApi
    from skerry.core.names import check_name
    from skerry.runtimes import model_content

    name = check_name(on.removeprefix(_GATEWAY), kind="device")
    if runtimes:
        raise UsageError(
            f"{on} runs a model on the runtime of its release",
            hint="Leave --runtime out.",
        )
    hashes = [hashlib.sha256(model_content(each.model)).hexdigest() for each in shipped]
    threads = shipped[0].threads

    async def talk(api: HubApi) -> tuple[Profile, ...]:
        found = []
        for sha256 in hashes:
            one = await api.profile(name, sha256, repeats=repeats, threads=threads)
            found.append(replace(one, device=on))
        return tuple(found)

    return ask(hub, talk)


def _stated(target: str) -> Peaks | None:
    """The roofs that a target's file states.

    Raises:
        UsageError: The target is not known, or its file does not state them.
    """
    from skerry.adapt.profiles.roofline import DTYPES, peaks_of
    from skerry.adapt.target_files import load_target

    found = load_target(target)
    for dtype in DTYPES:
        if peaks := peaks_of(found, dtype):
            return peaks
    raise UsageError(
        f"the target {found.name} states no peak rate and bandwidth of its first "
        "processor",
        hint="Leave --target out: the peaks are measured then.",
    )


def _write(view: ProfileView) -> None:
    """Put the trace and the page in place, where they are asked for."""
    import msgspec

    from skerry.app.profiling.page import profile_page
    from skerry.core.durable import write_file
    from skerry.core.profile import join_profiles

    if view.trace is not None:
        write_file(view.trace, msgspec.json.encode(join_profiles(view.profiles)))
    if view.page is not None:
        write_file(view.page, profile_page(view).encode())
