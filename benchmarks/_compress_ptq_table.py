"""Benchmark `compress_ptq`: the entries, the rows and the plot made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks._compress_ptq_make import Made
from benchmarks._compress_ptq_plan import (
    COMPRESS,
    FLOAT,
    OPENVINO,
    ORT,
    QUANTIZERS,
    Net,
)
from benchmarks._compress_ptq_score import Scored
from skerry.tasks.measure import ChildCost, Ratio
from skerry.tasks.metrics import PairedDelta, compare_tallies

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOOLS = {
    "skerry": ("tab:red", "D"),
    "onnxruntime": ("tab:blue", "o"),
    "nncf": ("tab:green", "s"),
    "aimet": ("tab:purple", "^"),
    "onnx-neural-compressor": ("tab:brown", "v"),
}
"""Colour and marker of each tool's points."""

PANELS_IN_A_ROW = 4
PANEL_INCHES = (3.6, 3.0)
GAVE_UP = "nothing held the budget: the source model"
HEADS = {ORT: "onnxruntime", OPENVINO: "OpenVINO"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One model of a net, as far as it was measured.

    Attributes:
        by: Who made it; `FLOAT` for the source.
        made: What came of that.
        scores: By runtime.
        ratios: Its time ÷ that of float32, by runtime.
        failures: Why it could not be timed, by runtime.
        int8_share: Share of the source's weight layers with INT8 weights; None where
            the file's form does not tell.
    """

    by: str
    made: Made
    scores: Mapping[str, Scored] = field(default_factory=dict)
    ratios: Mapping[str, Ratio] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    int8_share: float | None = None

    @property
    def home(self) -> str:
        """The runtime that its model is meant for."""
        return QUANTIZERS[self.by].runtimes[0] if self.by in QUANTIZERS else ORT

    @property
    def score(self) -> Scored:
        """The score on that runtime."""
        return self.scores.get(self.home, Scored(key="", note="not scored yet"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """All that is known of one net with one seed.

    Attributes:
        net: Which.
        entries: float32 first; one a quantizer.
        costs: CPU time and memory measured in turns, by quantizer; see `costs`.
        missing: Why there is no such net; the entries are empty then.
    """

    net: Net
    entries: tuple[Entry, ...] = ()
    costs: Mapping[str, ChildCost] = field(default_factory=dict)
    missing: str = ""

    def entry(self, by: str) -> Entry | None:
        """One quantizer's entry, if its model was scored."""
        found = (one for one in self.entries if one.by == by and one.score.tally)
        return next(found, None)

    def cost(self, by: str) -> ChildCost | None:
        """What making a model used; measured in turns where it was."""
        made = next((one.made for one in self.entries if one.by == by), None)
        return self.costs.get(by) or (made.cost if made else None)

    def lost(self, entry: Entry) -> tuple[float, float, float] | None:
        """Points lost against float32, with the ends of their 95 % interval."""
        source = self.entry(FLOAT)
        if source is None or entry.score.tally is None:
            return None
        return points(source.score, entry.score)


def compare(before: Scored, after: Scored) -> PairedDelta:
    """Compare two models' scores on the same samples.

    Raises:
        ValueError: One of them has no score.
    """
    if before.tally is None or after.tally is None:
        raise ValueError(f"no scores: {before.note or after.note}")
    return compare_tallies(before.tally, after.tally)


def points(before: Scored, after: Scored) -> tuple[float, float, float]:
    """Points lost from one model to another, and their 95 % interval's two ends."""
    change = compare(before, after)
    ends = sorted(before.points(end) for end in (change.low, change.high))
    return before.points(change.delta), ends[0], ends[1]


def rows(board: Board) -> list[dict[str, str | int | float | None]]:
    """Write a net's part of the table: what is missing has a row that says so."""
    if board.missing:
        return [{"net": board.net.label, "by": "all", "note": board.missing}]
    return [_row(board, entry) for entry in board.entries]


def _row(board: Board, entry: Entry) -> dict[str, str | int | float | None]:
    row: dict[str, str | int | float | None] = {
        "net": board.net.label,
        "by": entry.by,
    }
    notes = [entry.made.note, *entry.made.notes]
    score, source = entry.score, board.entry(FLOAT)
    if entry.made.model:
        row["scored on"] = HEADS[entry.home]
        notes.append(score.note)
    if score.tally is not None:
        row[f"{score.metric}, %"] = 100 * score.value
        row["n"] = score.n
    if entry.made.model:
        row["KB"] = entry.made.size_bytes / 1000
    if (lost := board.lost(entry)) is not None and entry.by != FLOAT:
        row["points lost"] = lost[0]
        row["lost, 95 %"] = f"{lost[1]:.2f} … {lost[2]:.2f}"
    ours = board.entry(COMPRESS)
    if (
        ours is not None
        and score.tally is not None
        and entry.by not in (FLOAT, COMPRESS)
    ):
        behind = points(entry.score, ours.score)
        row["ours loses more, 95 %"] = f"{behind[1]:.2f} … {behind[2]:.2f}"
    if entry.int8_share is not None:
        row["INT8 layers, %"] = 100 * entry.int8_share
    for runtime, head in HEADS.items():
        if runtime in entry.ratios:
            row[f"time on {head}"] = entry.ratios[runtime].median
        elif runtime in entry.failures:
            row[f"time on {head}"] = "fails"
    if (cost := board.cost(entry.by)) is not None:
        row["CPU s"] = cost.cpu_s
        row["peak MB"] = cost.peak_rss_bytes / 1e6
    if source is not None and entry.made.sha256 == source.made.sha256 != "":
        notes = [*notes, GAVE_UP] if entry.by != FLOAT else notes
    row["note"] = "; ".join(filter(None, notes)) or None
    return row


def draw(boards: Sequence[Board], figure: Figure) -> None:
    """Draw accuracy lost against time, one panel a net; up and left is better.

    A model is drawn by its time on the runtime that it is meant for ÷ float32 there.
    Seeds share the panel of their net.
    """
    names = list(dict.fromkeys(board.net.name for board in boards if board.entries))
    columns = min(PANELS_IN_A_ROW, max(1, len(names)))
    lines = -(-max(1, len(names)) // columns)
    width, height = PANEL_INCHES
    figure.set_size_inches(width * columns, height * lines + 0.9)
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for panel in list(panels)[len(names) :]:
        panel.axis("off")
    for panel, name in zip(figure.axes, names, strict=False):
        for board in boards:
            if board.net.name == name:
                _draw_points(board, panel)
        # Losses range from a hundredth of a point to all that float32 gets right.
        panel.set_yscale("symlog", linthresh=1)
        panel.yaxis.set_major_formatter("{x:g}")
        panel.invert_yaxis()
        panel.axhline(0, color="0.8", linewidth=1, zorder=0)
        panel.axvline(1, color="0.8", linewidth=1, zorder=0)
        panel.set_title(name)
    figure.supxlabel(
        "time ÷ float32 on the same runtime, 1 thread "
        "(filled: onnxruntime, hollow: OpenVINO, large: skerry compress)"
    )
    figure.supylabel("points lost")
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], color=color, marker=marker, linestyle="", label=tool)
        for tool, (color, marker) in TOOLS.items()
    ]
    figure.legend(handles=keys, loc="outside upper center", ncols=len(keys))


def _draw_points(board: Board, panel: object) -> None:
    for entry in board.entries:
        lost, ratio = board.lost(entry), entry.ratios.get(entry.home)
        if entry.by not in QUANTIZERS or lost is None or ratio is None:
            continue
        color, marker = TOOLS[QUANTIZERS[entry.by].tool]
        panel.scatter(  # type: ignore[attr-defined]
            ratio.median,
            lost[0],
            s=60 if entry.by == COMPRESS else 28,
            marker=marker,
            edgecolors=color,
            facecolors=color if entry.home == ORT else "none",
            zorder=3 if entry.by == COMPRESS else 2,
        )
