"""Pages are safe by construction and ask for nothing from outside."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.app import html
from skerry.app.html import Card, Column, Html, Reading, el

PNG = b"\x89PNG\r\n\x1a\n"


class Reader(HTMLParser):
    """Collects the text and the attributes of a page, as a browser reads them."""

    def __init__(self, page: str) -> None:
        """Read the page."""
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.values: list[str | None] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data: str) -> None:
        """Note the text."""
        self.texts.append(data)


@given(st.text(), st.text())
def test_no_text_becomes_markup(text: str, value: str) -> None:
    """Whatever a text or an attribute holds, a browser reads one element."""
    reader = Reader(el("p", text, title=value))
    assert reader.tags == ["p"]
    seen = "".join(reader.texts)
    assert seen == html_text(text)
    assert reader.values == [html_text(value)]


def html_text(text: str) -> str:
    """What is left of a text: all that an HTML document may hold."""
    whole = text.encode("utf-8", "replace").decode()
    unwanted = [*range(9), 11, 12, *range(14, 32), 127, 0xFFFE, 0xFFFF]
    return whole.translate(dict.fromkeys(unwanted))


def test_attributes() -> None:
    """Names are Python's with hyphens; None and False leave one out."""
    made = el("a", class_="x", stroke_width=2, hidden=True, title=None, id=False)
    assert made == '<a class="x" stroke-width="2" hidden></a>'
    assert el("br") == "<br>"


@pytest.mark.parametrize("name", ["a b", "a>", ""])
def test_a_name_cannot_carry_markup(name: str) -> None:
    """A name that could not be one is a bug that is found at once."""
    with pytest.raises(ValueError, match="not the name"):
        el(name)
    with pytest.raises(ValueError, match="not the name"):
        el("a", **{name: "x"})


def test_markup_is_kept_and_nothing_else() -> None:
    """Markup made here is kept, lists are flattened, None is nothing."""
    inner = el("b", "x<")
    assert isinstance(inner, Html)
    assert el("p", inner, None, ["<", [1, inner]]) == (
        "<p><b>x&lt;</b>&lt;1<b>x&lt;</b></p>"
    )


def test_a_page_asks_for_nothing() -> None:
    """A page forbids everything from outside, and names no address."""
    page = html.page("T<", el("p", "x"), lead="L", kicker="K")
    assert page.startswith("<!doctype html>\n<html lang=")
    assert "default-src 'none'" in page
    assert "<title>T&lt;</title>" in page
    assert "prefers-color-scheme: dark" in page
    for word in ("http://", "https://", "<script", "@import", "url("):
        assert word not in page


def test_table_says_what_its_cells_are() -> None:
    """The first cell of a row is its heading; the chosen row is marked."""
    columns = [Column(title="name"), Column(title="n", is_number=True)]
    made = html.table(columns, [("a", "1"), ("b", "2")], caption="C", chosen=1)
    assert '<th scope="row">a</th><td class="number">1</td>' in made
    assert '<tr class="chosen"><th scope="row">b</th>' in made
    assert "<caption>C</caption>" in made
    with pytest.raises(ValueError, match="zip"):
        html.table(columns, [("a", "1", "2")])


def test_cards() -> None:
    """A figure that misses what was demanded is marked."""
    made = html.cards(
        [Card(label="l", value="v"), Card(label="m", value="w", is_bad=True)]
    )
    assert made.count('class="card"') == 1
    assert made.count('class="card bad"') == 1


def test_reading_card_shows_truth_and_mistakes() -> None:
    """What a model misread is marked, what it read right is not."""
    made = html.reading_card(
        PNG,
        "kWh 12",
        [Reading(model="a", text="kWh 12"), Reading(model="b", text="kWb 1")],
    )
    assert "data:image/png;base64,iVBORw0KGgo=" in made
    assert made.count('class="right"') == made.count('class="wrong"') == 1
    assert "<mark>b</mark>" in made
    assert 'title="missing"' in made
    spaced = html.reading_card(PNG, "40.6 V", [Reading(model="a", text="40.6V")])
    assert 'class="right"' in spaced
    assert "<mark" not in spaced
    empty = html.reading_card(PNG, "x", [Reading(model="c", text="")])
    assert "nothing" in empty


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])), st.text("ab "))
def test_marks_leave_the_text_as_it_is(truth: str, text: str) -> None:
    """Marking changes no character of what was read."""
    pieces = "".join(html.mark_differences(truth, text))
    assert "".join(Reader(pieces).texts).replace("␣", "") == text
