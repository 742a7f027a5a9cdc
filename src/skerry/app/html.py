"""Pages that stand alone: HTML elements that escape by construction, and page parts.

A page asks for nothing from outside: its style and its charts are inline, its pictures
are data URIs, and there is no script. Its Content-Security-Policy says so too.
"""

from __future__ import annotations

import base64
import difflib
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

_VOID = frozenset({"br", "col", "hr", "img", "meta"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_CONTROL = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127, 0xFFFE, 0xFFFF])
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Html(str):
    """Markup that is safe to put on a page as it is; only this module makes it."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]
"""What an element may hold: text (escaped), `Html` (kept), nothing, or several."""


def el(tag: str, *children: Child, **attributes: str | float | bool | None) -> Html:
    """Make an element; text and attribute values are escaped.

    Args:
        tag: The element's name.
        children: What it holds.
        attributes: `class_` becomes `class` and `stroke_width` `stroke-width`; None
            and False leave an attribute out, True gives it no value.

    Raises:
        ValueError: A name could not be one: a bug of the caller's.

    Example:
        >>> el("td", "a < b", class_="number")
        '<td class="number">a &lt; b</td>'
    """
    written = [tag]
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if not _NAME.fullmatch(name):
            raise ValueError(f"not the name of an attribute: {name!r}")
        if value is True:
            written.append(name)
        elif value is not None and value is not False:
            written.append(f'{name}="{escape(str(value))}"')
    if not _NAME.fullmatch(tag):
        raise ValueError(f"not the name of an element: {tag!r}")
    start = f"<{' '.join(written)}>"
    return Html(start if tag in _VOID else f"{start}{join(*children)}</{tag}>")


def join(*children: Child) -> Html:
    """Put pieces one after another, escaping what is not `Html` yet."""
    pieces = []
    for child in children:
        if isinstance(child, Html):
            pieces.append(child)
        elif isinstance(child, str | int | float):
            pieces.append(escape(str(child)))
        elif child is not None:
            pieces.append(join(*child))
    return Html("".join(pieces))


def escape(text: str) -> Html:
    """Make text safe; what no HTML document may hold becomes nothing or a mark."""
    whole = text.encode("utf-8", "replace").decode()  # a lone surrogate becomes "?"
    return Html(html.escape(whole.translate(_CONTROL)))


def page(title: str, *children: Child, lead: Child = None, kicker: str = "") -> str:
    """Make a whole page.

    Args:
        title: Its heading, and the name of the browser's tab.
        children: What it shows, usually sections.
        lead: One or two sentences under the heading.
        kicker: A few words above the heading.
    """
    style = resources.files("skerry.app").joinpath("page.css").read_text("utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        Html(f"<style>\n{style}</style>"),
    )
    top = el(
        "header",
        el("p", kicker, class_="kicker") if kicker else None,
        el("h1", title),
        el("p", lead, class_="lead") if lead else None,
    )
    body = el("body", top, el("main", *children))
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def section(title: str, *children: Child, lead: Child = None) -> Html:
    """Make a section with a heading and, under it, a sentence or two."""
    start = el("p", lead, class_="lead") if lead else None
    return el("section", el("h2", title), start, *children)


def figure(content: Child, caption: Child) -> Html:
    """Make a chart or picture with words under it."""
    body = el("div", content, class_="scroll")
    return el("figure", body, el("figcaption", caption))


def folded(summary: str, *children: Child) -> Html:
    """Make a part that is closed until the reader opens it."""
    return el("details", el("summary", summary), *children)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table; numbers stand to the right."""

    title: str
    is_number: bool = False


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Child]],
    *,
    caption: str = "",
    chosen: int | None = None,
) -> Html:
    """Make a table; the first cell of a row is its heading.

    Args:
        columns: One a cell of a row.
        rows: The cells of each row.
        caption: What the table shows.
        chosen: The index of the row to point out.
    """
    kinds = ["number" if column.is_number else None for column in columns]
    heads = [
        el("th", column.title, scope="col", class_=kind)
        for column, kind in zip(columns, kinds, strict=True)
    ]
    lines = []
    for index, row in enumerate(rows):
        cells = [el("th", row[0], scope="row", class_=kinds[0])]
        for cell, kind in zip(row[1:], kinds[1:], strict=True):
            cells.append(el("td", cell, class_=kind))
        lines.append(el("tr", cells, class_="chosen" if index == chosen else None))
    content = el(
        "table",
        el("caption", caption) if caption else None,
        el("thead", el("tr", heads)),
        el("tbody", lines),
    )
    name = caption or columns[0].title
    return el(
        "div",
        content,
        class_="scroll rows",
        role="region",
        aria_label=name,
        tabindex=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A headline figure.

    Attributes:
        label: What it is.
        value: The figure with its unit.
        detail: A few words under it.
        is_bad: Whether it misses what was demanded.
    """

    label: str
    value: str
    detail: str = ""
    is_bad: bool = False


def cards(items: Iterable[Card]) -> Html:
    """Make a row of headline figures."""
    made = [
        el(
            "div",
            el("dt", item.label),
            el("dd", item.value, class_="value"),
            el("dd", item.detail, class_="detail") if item.detail else None,
            class_="card bad" if item.is_bad else "card",
        )
        for item in items
    ]
    return el("dl", made, class_="cards")


def picture(png: bytes, *, alt: str) -> Html:
    """Make a picture from the bytes of a PNG file."""
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return el("img", src=source, alt=alt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one model read in a picture."""

    model: str
    text: str


def reading_card(png: bytes, truth: str, readings: Iterable[Reading]) -> Html:
    """Make a picture of text with the truth and what each model read.

    Args:
        png: The bytes of a PNG file.
        truth: The text that is really there.
        readings: One a model; characters that differ from the truth are marked.
            Spaces do not count, as they do not in the metric `lines_right`.
    """
    lines = [el("dt", "truth"), el("dd", truth)]
    for reading in readings:
        is_right = reading.text.replace(" ", "") == truth.replace(" ", "")
        text: Child = reading.text or "nothing"
        if reading.text and not is_right:
            text = mark_differences(truth, reading.text)
        verdict = el(
            "span",
            "✓" if is_right else "✗",
            role="img",
            aria_label="right" if is_right else "wrong",
        )
        kind = "right" if is_right else "wrong"
        lines += [el("dt", reading.model), el("dd", verdict, " ", text, class_=kind)]
    shown = picture(png, alt=f"A line of text that says: {truth}")
    return el("article", shown, el("dl", lines), class_="reading")


def mark_differences(truth: str, text: str) -> list[Html]:
    """Mark the characters of `text` that `truth` does not have in that place."""
    matcher = difflib.SequenceMatcher(None, truth, text, autojunk=False)
    pieces = []
    for kind, _, _, start, stop in matcher.get_opcodes():
        piece = text[start:stop]
        if kind == "delete":
            pieces.append(el("mark", "\N{OPEN BOX}", title="missing"))
        else:
            pieces.append(escape(piece) if kind == "equal" else el("mark", piece))
    return pieces


def gallery(items: Iterable[Html]) -> Html:
    """Lay cards out in as many columns as fit."""
    return el("div", items, class_="gallery")
