"""`skerry experiment`: see the experiments of `skerry tune`, and go on with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from skerry.app.commands.tune import (
    DEFAULT_TRIALS,
    TuneResult,
    check_counts,
    run_experiment,
)
from skerry.app.output import Output
from skerry.app.tables import indent, plain_table
from skerry.app.tuning_view import covered, share, trials_table
from skerry.compress.search.ranking import Standing
from skerry.compress.tune.front import find_front
from skerry.compress.tune.store import Experiment, Store
from skerry.compress.tune.trial import Trial, holding
from skerry.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

DEFAULT_FOLDER = Path("experiments")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRow:
    """One experiment in a list.

    Attributes:
        store: Its folder.
        model: The source model's file.
        sampler: What proposes recipes.
        trials: Recipes that were claimed.
        finished: Those that came to something.
        holding: Those that hold the budget.
        covered: Share of the budget's room that the front covers.
        chosen: The trial to take so far; None where that is the source.
        latency: Its latency ÷ the source's.
        size: Its size ÷ the source's.
        drop: Its loss on the samples that choose.
    """

    store: Path
    model: str
    sampler: str
    trials: int
    finished: int
    holding: int
    covered: float
    chosen: int | None
    latency: float | None
    size: float | None
    drop: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One experiment, with all its trials."""

    row: ExperimentRow
    experiment: Experiment
    why: str
    front: tuple[Trial, ...]
    trials: tuple[Trial, ...]


def ls(folder: Path = DEFAULT_FOLDER, /) -> tuple[ExperimentRow, ...]:
    """List the experiments in a folder.

    Args:
        folder: The folder that their folders are in.
    """
    if not folder.is_dir():
        raise UsageError(
            f"there is no folder {folder}", hint="skerry tune begins an experiment."
        )
    stores = (Store(path) for path in sorted(folder.iterdir()))
    return tuple(_show(one).row for one in stores if one.is_there)


def show(store: Path, /) -> Shown:
    """Show an experiment: its front, what is to be taken, all trials.

    Args:
        store: Its folder.
    """
    return _show(Store(store))


def compare(stores: tuple[Path, ...], /) -> tuple[ExperimentRow, ...]:
    """Compare experiments on the same model: which covers more of the budget's room.

    Args:
        stores: Their folders, two or more.
    """
    shown = [_show(Store(one)) for one in stores]
    if len(shown) < 2:
        raise UsageError(f"got {len(shown)} experiments", hint="Name two or more.")
    first = shown[0].experiment
    for one in shown[1:]:
        if one.experiment.sha256 != first.sha256:
            raise UsageError(
                f"{one.row.store} is about another model than {shown[0].row.store}",
                hint="Compare experiments on the same model.",
            )
        if one.experiment.budget != first.budget:
            raise UsageError(
                f"{one.row.store} has another budget than {shown[0].row.store}",
                hint="Compare experiments within the same budget.",
            )
    return tuple(one.row for one in shown)


def resume(
    store: Path,
    /,
    *,
    trials: int = DEFAULT_TRIALS,
    workers: int = 1,
    out: Path = Path("out"),
    output: Annotated[Output, Parameter(parse=False)],
) -> TuneResult:
    """Go on with an experiment, after an interruption or with more trials.

    On another machine that shares the folder this joins those at work there.

    Args:
        store: Its folder.
        trials: Recipes to try in all, those that were tried included.
        workers: Processes on this machine.
        out: The folder to write the result to.
        output: Where the front is shown while it grows.
    """
    kept = Store(store)
    source = Path(kept.experiment().model)
    check_counts(trials=trials, workers=workers, out=out, source=source)
    return run_experiment(kept, trials=trials, workers=workers, out=out, output=output)


def _show(store: Store) -> Shown:
    experiment, trials = store.experiment(), tuple(store.trials())
    # Its own size does not decide: what is as fast and holds is smaller.
    source = Standing(latency=1.0, size_bytes=1 << 62, drop=0.0)
    front = find_front(trials, experiment.prefer, source)
    taken = front.chosen.outcome if front.chosen is not None else None
    row = ExperimentRow(
        store=store.folder,
        model=experiment.model,
        sampler=experiment.sampler,
        trials=len(trials),
        finished=sum(one.outcome is not None for one in trials),
        holding=len(holding(trials)),
        covered=covered(trials, experiment.budget.accuracy_drop),
        chosen=None if front.chosen is None else front.chosen.number,
        latency=taken.latency.median if taken and taken.latency else None,
        size=taken.size if taken else None,
        drop=taken.drop if taken else None,
    )
    return Shown(
        row=row,
        experiment=experiment,
        why=front.why,
        front=front.trials,
        trials=trials,
    )


def render_rows(rows: tuple[ExperimentRow, ...]) -> RenderableType:
    """One line an experiment."""
    if not rows:
        return "There are no experiments here."
    table = plain_table(
        "experiment",
        "sampler",
        "#trials",
        "#hold",
        "#room covered",
        "#chosen",
        "#lost",
        "#time",
        "#size",
    )
    for row in rows:
        table.add_row(
            str(row.store),
            row.sampler,
            f"{row.finished} of {row.trials}",
            str(row.holding),
            f"{row.covered:.1%}",
            "source" if row.chosen is None else str(row.chosen),
            "" if row.drop is None else share(row.drop),
            "" if row.latency is None else f"{row.latency:.2f} ×",
            "" if row.size is None else f"{row.size:.2f} ×",
        )
    return table


def render_shown(shown: Shown) -> RenderableType:
    """The front, why one of it is taken, and everything that was tried."""
    from rich.console import Group
    from rich.text import Text

    row = shown.row
    limits = ", ".join(
        f"{name} ≤ {limit:g}" for name, limit in shown.experiment.budget.limits.items()
    )
    return Group(
        Text(f"{row.finished} of {row.trials} trials on {row.model}", "bold"),
        indent(f"budget: {limits}; {row.covered:.1%} of its room covered"),
        indent(shown.why),
        "",
        Text("what nothing beats", "bold"),
        indent(trials_table(shown.front, row.chosen)),
        "",
        Text("everything that was tried", "bold"),
        indent(trials_table(shown.trials, row.chosen)),
    )
