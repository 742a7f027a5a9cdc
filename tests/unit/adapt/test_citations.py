"""Citations: which can be read again, and whose words carry their number."""

from __future__ import annotations

import pytest

from skerry.adapt.citations import citation_faults, compute, numbers_in
from skerry.core.errors import DataError
from skerry.core.target import Citation, Figure


def cited(value: float | None, quote: str, computed: str = "") -> Figure:
    """A figure that can be read again."""
    return Figure(
        value=value,
        source="a data sheet",
        url="https://example.com/sheet.pdf",
        quote=quote,
        computed=computed,
        date="2026-11-21",
    )


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("4 TOPS, 2 W", {4, 2}),
        ("25.6 GB/s", {25.6}),
        ("1,024 cores", {1024, 1.024}),
        ("2,5 W", {25, 2.5}),
        ("ISRAM0_SIZE (0x00200000)", {0, 2097152}),
        ("core_clock=500e6", {500e6}),
        ("quad-core, eight threads, a dual", {4, 8, 2}),
        ("可实现最大22TOPS(INT8)", {22, 8}),
        ("version 3.10.2", set()),
        ("nothing", set()),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, numbers: set[float]) -> None:
    """Thousands, decimals of either kind, hexadecimals, exponents and words count."""
    assert numbers <= numbers_in(text)
    assert numbers_in("nothing") == set()


@pytest.mark.parametrize(
    ("expression", "result", "numbers"),
    [
        ("128 * 2 * 500e6 / 1e9", 128, [128, 2, 500e6, 1e9]),
        ("(6.5 + 1.5) * 1024", 8192, [6.5, 1.5, 1024]),
        ("5 - 3 / 4", 4.25, [5, 3, 4]),
    ],
)
def test_a_computation_gives_its_result_and_its_numbers(
    expression: str, result: float, numbers: list[float]
) -> None:
    """The four operations and brackets, as anybody reads them."""
    assert compute(expression) == (result, numbers)


@pytest.mark.parametrize(
    "expression",
    ["", "1 / 0", "2 ** 9", "x", "f(1)", "1 +", "-1", "'a'", "True", "9" * 300, "1\0"],
)
def test_what_is_no_computation_is_refused(expression: str) -> None:
    """Names, calls, powers and nonsense are a DataError that says what to write."""
    with pytest.raises(DataError, match="cannot be computed") as caught:
        compute(expression)
    assert "+ - * /" in caught.value.hint


@pytest.mark.parametrize(
    "figure",
    [
        cited(4, "4 TOPS"),
        cited(4000, "4 TOPS", "4 * 1000"),
        cited(0.48, "32-bit core at 120 MHz", "32 / 8 * 120 / 1000"),
        cited(4, "four 8-bit elements"),
        cited(None, ""),
    ],
)
def test_a_figure_whose_words_carry_it_has_no_fault(figure: Figure) -> None:
    """The number stands in the quote, or follows from it; or is unknown."""
    assert citation_faults(figure) == []


@pytest.mark.parametrize(
    ("figure", "fault"),
    [
        (cited(5, "4 TOPS"), "5 is not in the quote"),
        (cited(4, " "), "quote is empty"),
        (cited(4000, "4 TOPS", "4 * 999"), "999 is neither in the quote nor a factor"),
        (cited(4000, "4 TOPS", "5 * 1000 - 1000"), "5 is neither in the quote"),
        (cited(4000, "4 TOPS", "4 * 1024"), "computed gives 4096, the value is 4000"),
        (cited(1000, "4 TOPS", "1000 * 2 / 2"), "none of its numbers is in the quote"),
        (cited(4, "4 TOPS", "import os"), "cannot be computed"),
        (Figure(value=4, source=""), "source is empty"),
        (Figure(value=4, source="s", url="page 3"), "url is 'page 3'"),
        (Citation(source="s", url="https://a.b", date="21.11.2026"), "date is"),
        (Citation(source="s", url="https://a.b", date="20261121"), "date is"),
    ],
)
def test_a_figure_whose_words_do_not_carry_it_is_named(
    figure: Citation, fault: str
) -> None:
    """Each fault says what is wrong in the figure's own numbers."""
    assert any(fault in one for one in citation_faults(figure))
