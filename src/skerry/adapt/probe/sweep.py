"""What is asked of a toolchain: an operator, and the quantities that are varied.

A sweep is one operator in one situation (padded as `SAME`, say, and depthwise): a case
that most hardware runs, and lines along which one parameter of it grows. What is found
along a line becomes a limit of the operator table, in the words that
`skerry.adapt.placement.quantity` reads from any model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from skerry.adapt.probe.cases import Case
from skerry.core.target import Limit, Take

Setting = int | str
Settings = Mapping[str, Setting]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One parameter that is varied while the others stay as they are.

    Attributes:
        parameter: Its name among the sweep's settings.
        values: What it is set to, ascending where they are numbers.
        quantity: What a limit on it is about.
        take: Which part of that quantity.
        settings: What else is set along this line.
    """

    parameter: str
    values: tuple[Setting, ...]
    quantity: str
    take: Take = Take.EACH
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One operator in one situation.

    Attributes:
        op_type: The ONNX operator.
        make: Builds the case of some settings in some dtype.
        settings: The settings to start from.
        lines: What is varied.
        where: What tells the situation from others of the same operator.
        constant_weights: Whether the second input is a constant here.
    """

    op_type: str
    make: Callable[[Settings, str], Case]
    settings: Settings = field(default_factory=dict)
    lines: tuple[Line, ...] = ()
    where: tuple[Limit, ...] = ()
    constant_weights: bool = False

    def case(self, dtype: str, **changed: Setting) -> Case:
        """The case of the settings, some of them changed."""
        return self.make({**self.settings, **changed}, dtype)


RANK = Line(parameter="rank", values=(1, 2, 3, 4, 5, 6, 7, 8), quantity="rank")
BATCH = Line(parameter="batch", values=(1, 2, 3), quantity="batch")


def word(quantity: str, *words: str) -> Limit:
    """What tells a situation from others by a word."""
    return Limit(quantity=quantity, one_of=words)
