"""The operators of a report as one table: error, its sources, time, range, remedy.

It is sorted by whoever reads it, without a script: each row knows its place in each
order, and the style puts it there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from skerry.app import charts, figures
from skerry.app.html import Child, Html, el, join
from skerry.core.report import LayerRow, ValueHistogram

MOST_ROWS = 2000
"""Rows that are shown, those with the largest error or time first; a browser would
stall on more."""

LEAST_SHARE = 1e-6
"""Shares below it are shown as that."""

_HISTOGRAM_WIDTH, _HISTOGRAM_HEIGHT = 128.0, 40.0
_TITLES = ("operator", "ran as", "error alone", "its sources", "time", "values", "")


def _time_lost(row: LayerRow) -> float | None:
    if row.latency_ms is None or row.latency_before_ms is None:
        return None
    return row.latency_ms - row.latency_before_ms


_Key = Callable[[LayerRow], float | None]
_ORDERS: tuple[tuple[str, str, _Key], ...] = (
    ("error", "largest error", lambda row: row.error),
    ("time", "most time", lambda row: row.latency_ms),
    ("slower", "most time lost", _time_lost),
    ("graph", "order of the graph", lambda _: None),
)


def operator_table(layers: Sequence[LayerRow], *, mark: str) -> Html:
    """Make the table, with buttons for its order.

    Args:
        layers: The rows, in the order of the graph.
        mark: Tells this table from others on the page.
    """
    shown = _most_important(layers)
    places = [_places(shown, key) for _, _, key in _ORDERS]
    rows = [
        _row(layer, [places_of[index] for places_of in places])
        for index, layer in enumerate(shown)
    ]
    head = el("tr", (el("th", title, scope="col") for title in _TITLES))
    table = el("table", el("thead", head), el("tbody", rows), class_="operators")
    region = el(
        "div",
        table,
        class_="scroll rows",
        role="region",
        aria_label="operators",
        tabindex=0,
    )
    left = len(layers) - len(shown)
    rest = el("p", f"{left:,} more are in report.json.") if left else None
    return el("div", _buttons(mark), region, rest, class_="sorted")


def draw_histogram(histogram: ValueHistogram) -> Html:
    """Draw a histogram, logarithmic in height, over the range that was chosen."""
    low = min(histogram.low, histogram.range_low)
    high = max(histogram.high, histogram.range_high)
    span = high - low
    if not 0 < span < charts.FAR or not histogram.counts:
        return el("span", figures.NOT_MEASURED)

    def across(value: float) -> float:
        return (value - low) / span * _HISTOGRAM_WIDTH

    left, right = across(histogram.range_low), across(histogram.range_high)
    said = (
        f"values {histogram.low:.3g} to {histogram.high:.3g}, "
        f"range {histogram.range_low:.3g} to {histogram.range_high:.3g}"
    )
    floor = _HISTOGRAM_HEIGHT
    band = el(
        "rect", x=_n(left), y=0, width=_n(right - left), height=floor, class_="range"
    )
    ends = el("path", d=f"M{_n(left)},0V{floor:.0f}M{_n(right)},0V{floor:.0f}")
    bars = el("path", d=_outline(histogram, across), class_="counts")
    return el(
        "svg",
        el("title", said),
        band,
        bars,
        ends,
        viewBox=f"0 0 {_HISTOGRAM_WIDTH:.0f} {floor:.0f}",
        preserveAspectRatio="none",
        role="img",
        aria_label=said,
        class_="histogram",
    )


def _outline(histogram: ValueHistogram, across: Callable[[float], float]) -> str:
    """The bars' outline as an SVG path: flat over each bin, from the floor up."""
    most = max(histogram.counts)
    full = max(most, 1).bit_length()
    width = (histogram.high - histogram.low) / len(histogram.counts)
    drawn = [f"M{_n(across(histogram.low))},{_HISTOGRAM_HEIGHT:.0f}"]
    for index, count in enumerate(histogram.counts):
        # Powers of two are height enough: tails of one in a million are to be seen.
        share = count.bit_length() / full
        end = across(histogram.low + (index + 1) * width)
        drawn.append(f"V{_n(_HISTOGRAM_HEIGHT * (1 - 0.95 * share))}H{_n(end)}")
    return "".join([*drawn, f"V{_HISTOGRAM_HEIGHT:.0f}Z"])


def _buttons(mark: str) -> Html:
    labels = [
        el(
            "label",
            el(
                "input",
                type="radio",
                name=f"sort-{mark}",
                class_=f"by-{name}",
                checked=index == 0,
            ),
            " ",
            words,
        )
        for index, (name, words, _) in enumerate(_ORDERS)
    ]
    return el("fieldset", el("legend", "Sort by"), labels, class_="sort")


def _most_important(layers: Sequence[LayerRow]) -> list[LayerRow]:
    if len(layers) <= MOST_ROWS:
        return list(layers)
    order = sorted(
        range(len(layers)),
        key=lambda i: (-(layers[i].error or 0.0), -(layers[i].latency_ms or 0.0)),
    )
    return [layers[index] for index in sorted(order[:MOST_ROWS])]


def _places(layers: Sequence[LayerRow], key: _Key) -> list[int]:
    """The place of each row when the largest come first, and those without last."""

    def rank(index: int) -> tuple[float, float]:
        value = key(layers[index])
        return (float("inf") if value is None else -value), index

    places = [0] * len(layers)
    for place, index in enumerate(sorted(range(len(layers)), key=rank)):
        places[index] = place
    return places


def _row(layer: LayerRow, places: Sequence[int]) -> Html:
    style = ";".join(
        f"--{name}:{place + 1}"
        for (name, _, _), place in zip(_ORDERS, places, strict=True)
    )
    cells: list[Child] = [
        _ran_as(layer),
        el("span", _share(layer.error)),
        _sources(layer),
        _times(layer),
        draw_histogram(layer.histogram) if layer.histogram else None,
        _words(layer),
    ]
    head = el("th", layer.name, _small(_facts(layer)), scope="row")
    named = zip(_TITLES[1:], cells, strict=True)
    made = [
        el("td", cell, data_title=title, class_="number" if at in _NUMBERS else None)
        if cell is not None
        else el("td", class_="nothing")
        for at, (title, cell) in enumerate(named)
    ]
    kind = "fell-back" if layer.fell_back else None
    return el("tr", head, made, style=style, class_=kind)


_NUMBERS = frozenset({1, 2, 3})


def _facts(layer: LayerRow) -> str:
    facts = [layer.op_type]
    if layer.macs:
        facts.append(f"{figures.show_count(layer.macs)} MACs")
    if layer.weight_bytes:
        facts.append(figures.show_bytes(layer.weight_bytes))
    return " · ".join(facts)


def _ran_as(layer: LayerRow) -> Html:
    kernel = layer.kernel if layer.kernel != layer.op_type else ""
    notes = [kernel] if kernel else []
    if layer.fell_back:
        notes.append("fell back to float")
    return join(layer.dtype, _small(" · ".join(notes)))


def _sources(layer: LayerRow) -> Html | None:
    if layer.rounding is None and layer.clipping is None and layer.wasted is None:
        return None
    named = (
        ("rounding", layer.rounding),
        ("clipping", layer.clipping),
        ("codes unused", layer.wasted),
    )
    return el(
        "dl",
        (
            el("div", el("dt", words), el("dd", _share(value)))
            for words, value in named
            if value is not None
        ),
        class_="sources",
    )


def _times(layer: LayerRow) -> Html | None:
    if layer.latency_ms is None and layer.latency_before_ms is None:
        return None
    was = ""
    if layer.latency_before_ms is not None:
        was = f"was {figures.show_ms(layer.latency_before_ms)}"
    return join(figures.show_ms(layer.latency_ms), _small(was))


def _words(layer: LayerRow) -> Html | None:
    said = " ".join(words for words in (layer.fix, layer.why) if words)
    return el("span", said) if said else None


def _small(words: str) -> Html | None:
    return el("small", words) if words else None


def _share(value: float | None) -> str:
    """A share with two digits, however small: `5.4 %`, `0.014 %`."""
    if value is None:
        return figures.NOT_MEASURED
    if 0 < value < LEAST_SHARE:
        return f"< {LEAST_SHARE * 100:g} %"
    return f"{value * 100:.2g} %" if value < 1 else f"{value * 100:,.0f} %"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
