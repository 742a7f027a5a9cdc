"""`skerry compare`: one model on several runtimes: the same answers, and how fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.adapt.compare import Comparison, RuntimeRow
from skerry.app import figures
from skerry.app.arguments import open_shaped, parse_shapes
from skerry.app.output import Output
from skerry.app.project import complete, require_model
from skerry.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from skerry.core.model import TensorSpec
    from skerry.tasks.samples import SampleSource

MOST_SAMPLES = 32


def compare(
    model: Path | None = None,
    samples: Path | None = None,
    /,
    *,
    runtime: tuple[str, ...] = (),
    task: Path | None = None,
    shape: tuple[str, ...] = (),
    threads: int = 1,
    repeats: int = 30,
    provider: tuple[str, ...] = (),
    library: tuple[Path, ...] = (),
    output: Annotated[Output, Parameter(parse=False)],
) -> Comparison:
    """Run one model on several runtimes: the same answers, and how fast?

    Args:
        model: An ONNX or TFLite file, or ncnn's .param with its .bin beside it; that
            of skerry.toml by default.
        samples: An .npz file or a folder of pictures; those of skerry.toml by
            default, else random numbers.
        runtime: A runtime; repeat it for several; those that take the format by
            default. The first is the reference.
        task: A task file (schema skerry.task/1); the task of skerry.toml by default.
        shape: An input's shape, as NAME=1x3x48x320, for random numbers.
        threads: CPU threads for one inference.
        repeats: Rounds of measurement, all runtimes in turn.
        provider: An execution provider of onnxruntime, such as cuda; repeat it for
            several, in order of wish.
        library: A shared library with operators that the model needs; repeat it for
            several.
        output: Where progress is shown.
    """
    from skerry.adapt.compare import compare as run
    from skerry.core.seams import LoadOptions
    from skerry.runtimes import RUNTIMES_OF
    from skerry.tasks.samples import open_samples, take

    given = complete(model, samples, task, folder=Path())
    opened = open_shaped(require_model(given.model, folder=Path()), shape)
    if repeats < 1 or threads < 1:
        raise UsageError(
            f"got {repeats} repeats and {threads} threads, expected 1 or more of each",
            hint="Leave them out for the usual.",
        )
    source: SampleSource
    if shape or given.samples is None:
        shapes = parse_shapes(shape, [spec.name for spec in opened.inputs])
        source, use = _random_samples(opened.inputs, shapes), None
        output.talk("no samples given: the inputs are random numbers")
    else:
        use = given.task
        source = take(open_samples(given.samples, opened.inputs, use), MOST_SAMPLES)
    with output.progress() as progress:
        return run(
            opened,
            runtime or RUNTIMES_OF[opened.format],
            source,
            task=use,
            options=LoadOptions(threads=threads, providers=provider, libraries=library),
            repeats=repeats,
            progress=progress,
        )


def _random_samples(
    inputs: Sequence[TensorSpec], shapes: dict[str, tuple[int, ...]]
) -> SampleSource:
    """One sample: floats of a normal distribution; zeros for all other dtypes."""
    import numpy as np

    from skerry.tasks.samples import MemorySource, Sample

    chance = np.random.default_rng(0)
    arrays = {}
    for spec in inputs:
        fixed = tuple(size for size in spec.shape if isinstance(size, int))
        sizes = shapes.get(spec.name, fixed)
        if not spec.accepts(sizes):
            raise UsageError(
                f"the input {spec} needs a shape",
                hint="Give samples, or its shape: --shape NAME=1x3x48x320",
            )
        is_float = spec.dtype.startswith("float")
        values = chance.standard_normal(sizes) if is_float else np.zeros(sizes)
        arrays[spec.name] = values.astype(spec.dtype)
    return MemorySource(samples=(Sample(inputs=arrays, label=None, name="random"),))


def render_compare(found: Comparison) -> RenderableType:
    """Render one row a runtime, the reference first."""
    from rich.console import Group
    from rich.text import Text

    from skerry.app.tables import plain_table

    head = (
        f"{found.model}, {figures.show_number(found.samples, 'sample')}, "
        f"{figures.show_number(found.repeats, 'round')}, "
        f"{figures.show_number(found.options.threads, 'thread')}"
    )
    columns = ["runtime", "#latency", "", "outputs"]
    if found.metric:
        columns.append(f"#{figures.show_metric(found.metric)}")
    table = plain_table(*columns)
    for row in found.rows:
        version = row.version.partition("-")[0]  # OpenVINO adds its commit and branch
        cells = [f"{row.runtime} {version}", *_cells(row)]
        if found.metric:
            cells.append(figures.show_score(found.metric, row.score))
        table.add_row(*cells)
    told = [
        Text(f"{row.runtime}: {fallback}", "yellow")
        for row in found.rows
        for fallback in row.fallbacks
    ]
    return Group(Text(head, "bold"), table, *told)


def _cells(row: RuntimeRow) -> tuple[str, str, str]:
    if row.latency is None:
        return figures.NOT_MEASURED, f"refused: {row.refusal}", ""
    latency = figures.show_ms(row.latency.median_ms)
    if row.ratio is None or row.agreement is None:
        return latency, "reference", ""
    speed = figures.show_ratio(1, row.ratio.median, less="faster", more="slower")
    agreement = row.agreement
    words = f"at most {agreement.max_abs_diff:.2g} apart"
    if agreement.same_predictions is not None:
        words = f"{agreement.same_predictions} of {agreement.samples} the same; {words}"
    return latency, speed, words
