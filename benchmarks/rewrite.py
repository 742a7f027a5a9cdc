"""Rewrites: do their bounds hold, and is anything left for the CPU of an Ethos-U?

    python -m benchmarks.rewrite --json rewrite.json [--quick] [--work FOLDER]

Each rule is searched for models and inputs that break its stated equivalence or bound.
Then nets are fitted to an Ethos-U: adapted, quantized, written as TFLite and compiled
by Vela, which says what it leaves on the CPU. EfficientNet-Lite0 and YOLOX-nano are the
cases that `python -m benchmarks.nets` makes, read from the folder of `--work`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._harness import Measured, Outcome, Row, command_line, publish
from benchmarks._rewrite_compile import Fitted, fit
from benchmarks._rewrite_nets import Net, mobilevit_block, swish_net
from benchmarks._rewrite_search import Searched, search
from benchmarks.nets.case import Case
from skerry.adapt.target_files import load_target
from skerry.app.pipelines.vela import VelaToolchain
from skerry.core.errors import SkerryError
from skerry.graph import Graph, read_graph, with_static_inputs
from tests.rewriting import CASES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "rewrite"
TARGET = "ethos-u55-128"
WORK = Path("build/bench")
SEED = 0
SAMPLES = 8
MODELS, QUICK_MODELS = 16, 2
"""Random models of each kind that a rule is tried on."""

STORED = {
    "EfficientNet-Lite0": "efficientnet_lite0-seed0",
    "YOLOX-nano": "yolox_nano-seed0",
}
"""Nets that are read, by the folder of their case."""

BUILT = {"Swish-β net": swish_net, "MobileViT block": mobilevit_block}


def measure(*, quick: bool, work: Path) -> Outcome:
    """Search each rule, fit each net."""
    models = QUICK_MODELS if quick else MODELS
    searched = [search(rule, models) for rule in CASES]
    fitted: list[Fitted] = []
    rows = [_rule_row(one) for one in searched]
    for name in (*BUILT, *STORED):
        try:
            net = _net(name, work, samples=2 if quick else SAMPLES)
            fitted.append(fit(net, load_target(TARGET), VelaToolchain()))
            rows.append(_net_row(fitted[-1]))
        except SkerryError as error:
            rows.append({"kind": "net", "name": name, "missing": str(error)})
    wanted = len(BUILT) + len(STORED)
    is_whole = len(fitted) == wanted
    return Outcome(
        rows=rows,
        measured=(
            Measured(
                id="rewrite.rules",
                figure=float(sum(not one.is_broken for one in searched)),
                n=len(searched),
            ),
            Measured(
                id="rewrite.bound_broken",
                figure=float(sum(one.is_broken for one in searched)),
                n=sum(one.tried for one in searched),
            ),
            Measured(
                id="rewrite.fallback_left",
                figure=float(sum(one.on_cpu for one in fitted)) if is_whole else None,
                n=len(fitted),
                peer=_version(),
            ),
        ),
        draw=lambda figure: _draw(searched, fitted, figure),
    )


def _net(name: str, work: Path, *, samples: int) -> Net:
    if name in BUILT:
        rng = np.random.default_rng(SEED)
        graph = BUILT[name](rng)
        (spec,) = graph.inputs
        shape = tuple(size for size in spec.shape if isinstance(size, int))
        drawn = (rng.normal(size=shape).astype(np.float32) for _ in range(samples))
        return Net(
            name=name, graph=graph, inputs=tuple({spec.name: one} for one in drawn)
        )
    case = Case.read(work / STORED[name])
    taken = (
        one.inputs for one, _ in zip(case.calibration, range(samples), strict=False)
    )
    return Net(
        name=name, graph=_static(read_graph(case.model.path)), inputs=tuple(taken)
    )


def _static(graph: Graph) -> Graph:
    """One picture at a time."""
    shapes = {
        spec.name: tuple(size if isinstance(size, int) else 1 for size in spec.shape)
        for spec in graph.inputs
    }
    return with_static_inputs(graph, shapes)


def _version() -> str:
    try:
        return VelaToolchain().version
    except SkerryError:
        return "vela (missing)"


def _rule_row(one: Searched) -> Row:
    return {
        "kind": "rule",
        "name": one.rule,
        "tried": one.tried,
        "worst error ÷ bound": one.worst,
        "bound": one.bounds[0] if one.bounds else "",
    }


def _net_row(one: Fitted) -> Row:
    return {
        "kind": "net",
        "name": one.net,
        "operators": one.operators,
        "refused": one.refused,
        "replaced": one.replaced,
        "left by audit": one.left,
        "compiled": one.compiled,
        "left on CPU by Vela": one.on_cpu,
        "time_ms": one.time_ms,
        "adapt_s": one.adapt_s,
        "rules": ", ".join(one.rules),
    }


def _draw(searched: list[Searched], fitted: list[Fitted], figure: Figure) -> None:
    """How near each rule comes to its bound, and what each net leaves to the CPU."""
    figure.set_size_inches(11, 9)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_rules(left, searched)
    _draw_nets(right, fitted)


def _draw_rules(axes: Axes, searched: list[Searched]) -> None:
    least = 1e-5
    ordered = sorted(searched, key=lambda one: one.worst)
    places = range(len(ordered))
    axes.plot([max(one.worst, least) for one in ordered], places, "o", markersize=4)
    axes.axvline(1, color="tab:red", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(least / 1.5, 2)
    axes.set_yticks(places, [one.rule for one in ordered], fontsize=6)
    axes.set_xlabel("worst error found ÷ stated bound (left edge: the same bits)")
    axes.set_title("Rules: bounds under random search", fontsize=10)


def _draw_nets(axes: Axes, fitted: list[Fitted]) -> None:
    places = np.arange(len(fitted))
    series = (
        ("refused before", [one.refused for one in fitted], "tab:gray"),
        ("left on the CPU after (Vela)", [one.on_cpu for one in fitted], "tab:red"),
    )
    for shift, (label, counts, colour) in enumerate(series):
        bars = axes.bar(places + 0.4 * shift, counts, 0.4, label=label, color=colour)
        axes.bar_label(bars, fontsize=8)
    axes.set_xticks(
        places + 0.2, [one.net.replace(" ", "\n").replace("-", "-\n") for one in fitted]
    )
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylabel("operators")
    axes.set_title(f"Nets on {TARGET}", fontsize=10)
    axes.legend(fontsize=8)


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = command_line(NAME)
    parser.add_argument("--work", type=Path, default=WORK, help="where cases are")
    chosen = parser.parse_args(arguments)
    publish(NAME, measure(quick=chosen.quick, work=chosen.work), chosen.json)


if __name__ == "__main__":
    main()
