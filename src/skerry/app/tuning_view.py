"""An experiment as people see it: the front as a table, and live while it grows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from skerry.app import figures
from skerry.app.output import Output, Progress
from skerry.app.pipelines.tune import Proved
from skerry.app.tables import plain_table
from skerry.compress.tune.front import hypervolume, nondominated
from skerry.compress.tune.space import describe
from skerry.compress.tune.trial import Trial, holding

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

MOST_ROWS = 12
"""Trials of the front that a live view shows."""


def covered(trials: Sequence[Trial], accuracy_drop: float | None) -> float:
    """The share of the budget's room that the front covers, 0 to 1.

    The room ends at the loss that is allowed (at all of the metric where none is said),
    at the source's time and at its size.
    """
    allowed = accuracy_drop or 1.0
    costs = [one.costs for one in holding(trials)]
    rows = [(max(drop, 0.0) / allowed, time, size) for drop, time, size in costs]
    kept = [rows[k] for k in nondominated(rows)]
    return hypervolume(kept, (1.0, 1.0, 1.0))


def trials_table(trials: Sequence[Trial], chosen: int | None = None) -> RenderableType:
    """Trials, one a row; the chosen one is marked."""
    table = plain_table("", "#trial", "#lost", "#time", "#size", "recipe", "")
    for one in trials:
        table.add_row(
            "→" if one.number == chosen else "",
            str(one.number),
            *_figures(one),
            describe(one.recipe),
            one.outcome.refusal if one.outcome else "under way",
        )
    return table


def _figures(trial: Trial) -> tuple[str, str, str]:
    outcome = trial.outcome
    if outcome is None:
        return "", "", ""
    return (
        figures.NOT_MEASURED if outcome.drop is None else share(outcome.drop),
        figures.NOT_MEASURED
        if outcome.latency is None
        else f"{outcome.latency.median:.2f} ×",
        figures.NOT_MEASURED if outcome.size is None else f"{outcome.size:.2f} ×",
    )


@contextmanager
def live_front(
    output: Output,
    most: int,
    read: Callable[[], Sequence[Trial]],
    accuracy_drop: float | None,
) -> Iterator[tuple[Progress, Callable[[Trial], None]]]:
    """Show the front while it grows, on a terminal; elsewhere a line a trial.

    Args:
        output: Where it is shown.
        most: Trials there are to be.
        read: Reads all trials, of other workers too.
        accuracy_drop: The largest loss allowed.

    Yields:
        What long work tells of its steps, and what is told of each trial.
    """
    if not output.console.is_terminal:
        yield _ignore, lambda trial: _say(output, trial)
        return
    from rich.live import Live

    known, step = read(), ""

    def progress(what: str, done: int, total: int) -> None:
        nonlocal step
        step = f"{what}, {done} of {total}"

    def told(_: Trial) -> None:
        nonlocal known
        known = read()

    with Live(
        console=output.console,
        transient=True,
        refresh_per_second=2,
        # Drawn while a step goes on, however long: it says how far that is.
        get_renderable=lambda: _picture(known, most, step, accuracy_drop),
    ):
        yield progress, told


def _picture(
    trials: Sequence[Trial], most: int, step: str, accuracy_drop: float | None
) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.text import Text

    done = [one for one in trials if one.outcome is not None]
    held = holding(trials)
    front = [held[k] for k in nondominated([one.costs for one in held])]
    front.sort(key=lambda one: one.costs[1])
    said = (
        f"{len(done)} of {most} trials, {len(held)} hold the budget, "
        f"{len(front)} nothing beats, {covered(trials, accuracy_drop):.0%} of its room"
    )
    return Group(
        Text(said, "bold"),
        ProgressBar(total=most, completed=len(done), width=60),
        trials_table(front[:MOST_ROWS]),
        Text(step, "dim", no_wrap=True, overflow="ellipsis"),
    )


def _say(output: Output, trial: Trial) -> None:
    """One line of a trial that has ended, for logs."""
    if trial.outcome is not None:
        drop, latency, size = _figures(trial)
        said = trial.outcome.refusal or f"{drop} lost, {latency} time, {size} size"
        output.talk(f"{trial.number}: {describe(trial.recipe)}: {said}")


def _ignore(what: str, done: int, total: int) -> None:
    """Steps are not shown where nobody watches."""


def proved_table(
    front: Sequence[Trial], proved: Sequence[Proved], chosen: int | None
) -> RenderableType:
    """The front, with what each lost on the samples that no trial saw."""
    again = {one.number: one for one in proved}
    table = plain_table(
        "", "#trial", "#lost", "#lost on unseen", "#time", "#size", "recipe"
    )
    for one in front:
        drop, latency, size = _figures(one)
        table.add_row(
            "→" if one.number == chosen else "",
            str(one.number),
            drop,
            _unseen(again.get(one.number)),
            latency,
            size,
            describe(one.recipe),
        )
    return table


def _unseen(proved: Proved | None) -> str:
    if proved is None or proved.drop is None or proved.ci95 is None:
        return figures.NOT_MEASURED
    low, high = proved.ci95
    return f"{share(proved.drop)} ({share(low)} to {share(high)})"


def share(drop: float) -> str:
    """A loss in percent; nothing lost has no sign."""
    return f"{round(drop, 4) + 0.0:.2%}"
