"""The plot of `compress_train`: what each part trades for what, from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks._harness import Row
from benchmarks._train_tune import DEFAULT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = (11, 8)


def draw(rows: Sequence[Row], figure: Figure) -> None:
    """Pruning, distillation, samplers and resolutions, each in a field of its own."""
    figure.set_size_inches(*INCHES)
    fields = figure.subplots(2, 2).flat
    for axes, (part, drawn) in zip(fields, DRAWN.items(), strict=True):
        own = [row for row in rows if row["part"] == part]
        if not drawn(axes, own):
            axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
            axes.set_xticks([])
            axes.set_yticks([])


def _draw_channels(axes: Axes, rows: Sequence[Row]) -> bool:
    axes.set_title("Channels of the depthwise net", fontsize=10)
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
    axes.axhline(0.5, color="tab:red", linewidth=0.8, linestyle=":")
    axes.axvline(2.0, color="tab:red", linewidth=0.8, linestyle=":")
    axes.margins(x=0.5, y=0.15)
    return bool(found)


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
    "channels": _draw_channels,
    "distil": _draw_distil,
    "tuner": _draw_samplers,
    "pixels": _draw_pixels,
}


def _number(row: Row, column: str = "figure") -> float:
    return float(row[column] or 0)
