"""Whether a citation can be read again, and whether its words carry its number.

A number stands in the words of the quote, or is computed from numbers that do: then
each number of the computation is in the quote, or a factor between units.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from datetime import date

from skerry.core.errors import DataError
from skerry.core.target import Citation, Figure

UNIT_FACTORS = frozenset({2, 8, 1000, 1024, 1e6, 1e9, 1e12})
"""What may stand in a computation without being quoted.

Operations a multiply-add, bits a byte, and steps between units and their multiples.
"""

LONGEST_COMPUTATION = 200
"""Most characters of a computation."""

_NUMBER = re.compile(
    r"0x[0-9a-f]+|(?<![\d.])\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", re.IGNORECASE
)
_WORDS = {
    "single": 1,
    "one": 1,
    "dual": 2,
    "two": 2,
    "three": 3,
    "quad": 4,
    "four": 4,
    "six": 6,
    "octa": 8,
    "eight": 8,
}
_WORD = re.compile(rf"\b({'|'.join(_WORDS)})\b", re.IGNORECASE)
_CALCULATIONS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def citation_faults(citation: Citation) -> list[str]:
    """Say what keeps a citation from being read again.

    Of a figure, that includes a quote which does not carry its number; of what is
    unknown, nothing need be quoted.
    """
    faults = []
    if not citation.source.strip():
        faults.append("source is empty: name the document")
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", citation.url):
        faults.append(f"url is {citation.url!r}, expected where it can be read")
    if not _is_date(citation.date):
        faults.append(f"date is {citation.date!r}, expected one such as 2026-11-21")
    if isinstance(citation, Figure) and citation.value is not None:
        faults += _quote_faults(citation, citation.value)
    return faults


def numbers_in(text: str) -> set[float]:
    """Read the numbers that stand in a text.

    A comma is read as one of thousands and as one of decimals; hexadecimal numbers
    and the words one to eight, single, dual, quad and octa count.
    """
    found: set[float] = {_WORDS[word.lower()] for word in _WORD.findall(text)}
    for word in _NUMBER.findall(text):
        if word[:2].lower() == "0x":
            found.add(_number(str(int(word[:18], 16))))
        else:
            found |= {_number(word.replace(",", "")), _number(word.replace(",", "."))}
    return {one for one in found if math.isfinite(one)}


def compute(expression: str) -> tuple[float, list[float]]:
    """Compute `128 * 2 * 500 / 1000` and the like.

    Args:
        expression: Numbers, `+ - * /` and brackets.

    Returns:
        The result, and the numbers that stand in the expression.

    Raises:
        DataError: It is anything else, longer than `LONGEST_COMPUTATION`, or divides
            by zero.
    """
    numbers: list[float] = []
    text = expression.strip()
    try:
        tree = ast.parse(text if len(text) <= LONGEST_COMPUTATION else "", mode="eval")
        return _evaluate(tree.body, numbers), numbers
    except (SyntaxError, ValueError, ArithmeticError, RecursionError) as error:
        raise DataError(
            f"{expression[:80]!r} cannot be computed: {error}",
            hint="Write numbers, + - * / and brackets, at most "
            f"{LONGEST_COMPUTATION} characters.",
        ) from error


def _evaluate(node: ast.expr, numbers: list[float]) -> float:
    if isinstance(node, ast.BinOp) and type(node.op) in _CALCULATIONS:
        calculate = _CALCULATIONS[type(node.op)]
        return calculate(_evaluate(node.left, numbers), _evaluate(node.right, numbers))
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        numbers.append(float(str(node.value)))
        return numbers[-1]
    raise ValueError(f"{type(node).__name__} is no number and no + - * /")


def _quote_faults(figure: Figure, value: float) -> list[str]:
    if not figure.quote.strip():
        return ["quote is empty: give the words that carry the number"]
    quoted = numbers_in(figure.quote)
    if not figure.computed:
        if any(_equal(value, one) for one in quoted):
            return []
        return [f"{value:.12g} is not in the quote: say how it was `computed`"]
    try:
        result, numbers = compute(figure.computed)
    except DataError as error:
        return [f"computed: {error}"]
    faults = [
        f"computed: {one:.12g} is neither in the quote nor a factor between units"
        for one in dict.fromkeys(numbers)
        if one not in UNIT_FACTORS and not any(_equal(one, each) for each in quoted)
    ]
    if not any(_equal(one, each) for one in numbers for each in quoted):
        faults.append("computed: none of its numbers is in the quote")
    if not _equal(result, value):
        faults.append(f"computed gives {result:.12g}, the value is {value:.12g}")
    return faults


def _equal(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6)


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:  # 1.2.3, a version
        return math.nan


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
