"""The plot of `compress_train`: what each part trades for what, from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from benchmarks._harness import Row
from benchmarks._train_qat import FLOAT
from benchmarks._train_tune import DEFAULT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = (15, 8)


def draw(rows: Sequence[Row], figure: Figure) -> None:
    """Each part in a field of its own."""
    figure.set_size_inches(*INCHES)
    fields = figure.subplots(2, 3).flat
    for axes, (part, drawn) in zip(fields, DRAWN.items(), strict=True):
        own = [row for row in rows if row["part"] == part]
        if not drawn(axes, own):
            axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
            axes.set_xticks([])
            axes.set_yticks([])


def _draw_pruned(
    axes: Axes, rows: Sequence[Row], *, title: str, most_lost: float, fast: float
) -> bool:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("× as fast, onnxruntime, one thread")
    axes.set_ylabel("points lost")
    found = [row for row in rows if row.get("× as fast") is not None]
    for row in found:
        what = str(row["what"]).removeprefix("points lost, ")
        colour = "tab:blue" if what == "ours" else "tab:gray"
        point = (_number(row, "× as fast"), _number(row))
        axes.plot(*point, "o", color=colour)
        axes.annotate(
            what,
            point,
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=7,
        )
    if found:
        axes.axhline(most_lost, color="tab:red", linewidth=0.8, linestyle=":")
        axes.axvline(fast, color="tab:red", linewidth=0.8, linestyle=":")
    axes.margins(x=0.5, y=0.15)
    return bool(found)


def _draw_rounded(axes: Axes, rows: Sequence[Row]) -> bool:
    axes.set_title("Weights of four bits", fontsize=10)
    axes.set_xlabel("points lost to float32, mean of the seeds")
    right: dict[str, list[float]] = {}
    for row in rows:
        if row.get("unit") == "% top-1":
            right.setdefault(str(row["what"]), []).append(_number(row))
    whole = right.pop(FLOAT, [])
    # A way that only some seeds took is set beside the same seeds' original.
    lost = {
        what: sum(whole[: len(some)]) / len(some) - sum(some) / len(some)
        for what, some in right.items()
    }
    colours = ["tab:blue" if "in training" in one else "tab:gray" for one in lost]
    axes.barh(list(lost), list(lost.values()), color=colours)
    axes.set_xscale("symlog", linthresh=1)
    if lost:
        axes.axvline(1.0, color="tab:red", linewidth=0.8, linestyle=":")
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    return bool(lost)


def _draw_distil(axes: Axes, rows: Sequence[Row]) -> bool:
    axes.set_title("A student of a fortieth of the teacher's parameters", fontsize=10)
    axes.set_xlabel("% top-1")
    found = [row for row in rows if row.get("unit") == "% top-1"]
    if found:
        figures = [_number(row) for row in found]
        names = [str(row["what"]) for row in found]
        colours = ["tab:blue" if "ours" in one else "tab:gray" for one in names]
        axes.barh(names, figures, color=colours)
        axes.tick_params(axis="y", labelsize=7)
        axes.invert_yaxis()
        axes.set_xlim(min(figures) - 2, max(figures) + 1)
    return bool(found)


def _draw_samplers(axes: Axes, rows: Sequence[Row]) -> bool:
    axes.set_title("Recipes found by each sampler in as many trials", fontsize=10)
    axes.set_ylabel("share of the budget's room covered")
    found = [
        row
        for row in rows
        if str(row["what"]).startswith("hypervolume") and row.get("figure") is not None
    ]
    if found:
        names = [str(row["what"]).rpartition(", ")[2] for row in found]
        colours = ["tab:blue" if one == DEFAULT else "tab:gray" for one in names]
        axes.bar(names, [_number(row) for row in found], color=colours)
    return bool(found)


def _draw_pixels(axes: Axes, rows: Sequence[Row]) -> bool:
    axes.set_title("YOLOX-nano at several resolutions", fontsize=10)
    axes.set_xlabel("ms, onnxruntime, one thread")
    axes.set_ylabel("mAP")
    found = [row for row in rows if row.get("ms") is not None]
    axes.plot(
        [_number(row, "ms") for row in found], [_number(row) for row in found], "o-"
    )
    for row in found:
        axes.annotate(
            str(row["net"]).rpartition(", ")[2],
            (_number(row, "ms"), _number(row)),
            xytext=(5, -10),
            textcoords="offset points",
            fontsize=8,
        )
    axes.margins(x=0.25, y=0.15)
    return bool(found)


DRAWN = {
    "qat": _draw_rounded,
    "channels": partial(
        _draw_pruned,
        title="Channels of the depthwise net",
        most_lost=0.5,
        fast=2.0,
    ),
    "layers": partial(
        _draw_pruned, title="Layers of ResNet-8", most_lost=1.0, fast=1.3
    ),
    "distil": _draw_distil,
    "tuner": _draw_samplers,
    "pixels": _draw_pixels,
}


def _number(row: Row, column: str = "figure") -> float:
    return float(row[column] or 0)
