"""From a toolchain's answers to operator rules.

Each line of a sweep is explored by a coroutine that asks for cases and is sent the
answers; all of them are driven together, so that one question to the toolchain carries
what every line wants to know next. Where the answers turn from yes to no along a line,
the place is found exactly, by bisection. What was found in one dtype is looked for in
the others at the same place first.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace

from skerry.adapt.placement import take_values
from skerry.adapt.probe.cases import Case, case_operator
from skerry.adapt.probe.costs import fit_cost
from skerry.adapt.probe.sweep import Line, Setting, Sweep
from skerry.adapt.probe.sweeps import work_bytes
from skerry.core.target import Limit, OperatorCost, OperatorRule

_MAX_RANK = "rank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a toolchain says of a case.

    Attributes:
        runs: Whether the processor that is asked about runs it.
        reason: Why not, in the toolchain's words.
        time_us: What it takes there; None where the toolchain does not say.
    """

    runs: bool
    reason: str = ""
    time_us: float | None = None


Ask = Callable[[Sequence[Case]], Sequence[Answer]]
"""A toolchain: answers a number of cases at once."""

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A case and its answer.

    Attributes:
        case: What was asked about.
        answer: What was said.
        is_usual: Whether nothing in it is stretched to find a border, so that what it
            costs says what others cost.
    """

    case: Case
    answer: Answer
    is_usual: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What came out of a probe.

    Attributes:
        rules: The operator table.
        asked: Every case, in the order it was asked.
    """

    rules: tuple[OperatorRule, ...]
    asked: tuple[Asked, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Border:
    """What was found along one line.

    Attributes:
        limits: What must be kept; none if all values were accepted.
        values: Those that show it: on either side of the border, or all of a list.
        runs: What was answered for each of them.
    """

    limits: tuple[Limit, ...] = ()
    values: tuple[Setting, ...] = ()
    runs: tuple[bool, ...] = ()


Explorer = Generator[Sequence[Case], Sequence[Answer], _Border]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Situation:
    """One sweep in one dtype, and what is known of it; both lists grow."""

    sweep: Sweep
    dtype: str
    borders: list[_Border] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    @property
    def limits(self) -> list[Limit]:
        """The limits along all of its lines."""
        return [limit for border in self.borders for limit in border.limits]

    def case(self, line: Line, value: Setting) -> Case:
        """A case along one of its lines."""
        changed = {**line.settings, line.parameter: value}
        return self.sweep.case(self.dtype, **changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exploring:
    """A line of a situation, and the coroutine that explores it."""

    situation: _Situation
    line: Line
    explorer: Explorer


def learn(
    sweeps: Iterable[Sweep],
    dtypes: Sequence[str],
    ask: Ask,
    *,
    told: Told | None = None,
) -> Learnt:
    """Ask about sweeps in some dtypes, and make rules of the answers.

    Args:
        sweeps: What to ask about.
        dtypes: The dtypes each is tried in.
        ask: The toolchain.
        told: Told of each round.

    Raises:
        What `ask` raises.
    """
    say = told or (lambda _: None)
    situations = [
        _Situation(sweep=sweep, dtype=dtype) for sweep in sweeps for dtype in dtypes
    ]
    say(f"{len(situations)} operators, situations and dtypes")
    answers = ask([one.sweep.case(one.dtype) for one in situations])
    for situation, answer in zip(situations, answers, strict=True):
        case = situation.sweep.case(situation.dtype)
        situation.asked.append(Asked(case=case, answer=answer))
    alive = [one for one in situations if one.asked[0].answer.runs]
    leaders: dict[int, _Situation] = {}
    for one in alive:
        leaders.setdefault(id(one.sweep), one)
    first = [
        _Exploring(situation=one, line=line, explorer=_explore(one, line))
        for one in leaders.values()
        for line in one.sweep.lines
    ]
    _drive(first, ask, say)
    others = [
        _Exploring(situation=one, line=line, explorer=_confirm(one, line, border))
        for one in alive
        if (leader := leaders[id(one.sweep)]) is not one
        for line, border in zip(one.sweep.lines, leader.borders, strict=True)
    ]
    _drive(others, ask, say)
    return Learnt(
        rules=_rules(alive),
        asked=tuple(asked for one in situations for asked in one.asked),
    )


def _drive(explorers: Sequence[_Exploring], ask: Ask, say: Told) -> None:
    """Ask what all explorers want to know and send the answers, until none asks."""
    waiting = [(one, next(one.explorer)) for one in explorers]
    ended: dict[int, _Border] = {}
    while waiting:
        cases = [case for _, wanted in waiting for case in wanted]
        say(f"{len(cases)} cases along {len(waiting)} lines")
        answers = list(ask(cases))
        still = []
        for one, wanted in waiting:
            given, answers = answers[: len(wanted)], answers[len(wanted) :]
            one.situation.asked.extend(
                Asked(case=case, answer=answer, is_usual=not one.line.settings)
                for case, answer in zip(wanted, given, strict=True)
            )
            try:
                still.append((one, one.explorer.send(given)))
            except StopIteration as end:
                ended[id(one)] = end.value
        waiting = still
    for one in explorers:  # in the order of the lines
        one.situation.borders.append(ended[id(one)])


def _explore(situation: _Situation, line: Line) -> Explorer:
    """Find the limits along one line."""
    answers = yield [situation.case(line, value) for value in line.values]
    runs = tuple(answer.runs for answer in answers)
    accepted = [value for value, does in zip(line.values, runs, strict=True) if does]
    if all(runs) or not accepted:
        return _Border(values=line.values[-1:], runs=runs[-1:])
    low, high = line.values[runs.index(False) - 1], line.values[runs.index(False)]
    is_prefix = list(runs) == sorted(runs, reverse=True)
    if not is_prefix or isinstance(low, str) or isinstance(high, str):
        values = {
            one
            for value in accepted
            for one in _values(situation.case(line, value), line)
        }
        ordered = tuple(sorted(values, key=lambda one: (isinstance(one, str), one)))
        limit = Limit(quantity=line.quantity, take=line.take, one_of=ordered)
        return _Border(limits=(limit,), values=line.values, runs=runs)
    while high - low > 1:
        middle = (low + high) // 2
        (answer,) = yield [situation.case(line, middle)]
        low, high = (middle, high) if answer.runs else (low, middle)
    found = _values(situation.case(line, low), line)
    highest = max(one for one in found if not isinstance(one, str))
    limit = Limit(quantity=line.quantity, take=line.take, at_most=highest)
    return _Border(limits=(limit,), values=(low, high), runs=(True, False))


def _confirm(situation: _Situation, line: Line, border: _Border) -> Explorer:
    """See whether what holds in another dtype holds in this one; if not, explore."""
    answers = yield [situation.case(line, value) for value in border.values]
    if tuple(answer.runs for answer in answers) == border.runs:
        return border
    return (yield from _explore(situation, line))


def _values(case: Case, line: Line) -> tuple[float | str, ...]:
    return take_values(case_operator(case), line.quantity, line.take)


def _rules(situations: Sequence[_Situation]) -> tuple[OperatorRule, ...]:
    """One rule of each situation, then those that say nearly the same in one."""
    found: list[tuple[OperatorRule, list[Asked]]] = []
    for one in situations:
        rule = _rule(one)
        found.append((rule, list(one.asked)))
    joined = _join_all(found)
    needed = [
        (rule, asked)
        for rule, asked in joined
        if not any(_covers(other, rule) for other, _ in joined if other is not rule)
    ]
    return tuple(replace(rule, cost=_cost(asked)) for rule, asked in needed)


def _join_all(
    found: list[tuple[OperatorRule, list[Asked]]],
) -> list[tuple[OperatorRule, list[Asked]]]:
    """Join rules two by two, until no two can be."""
    joined: list[tuple[OperatorRule, list[Asked]]] = []
    for rule, asked in found:
        for place, (other, others) in enumerate(joined):
            if (both := _join(other, rule)) is not None:
                joined[place] = (both, others + asked)
                break
        else:
            joined.append((rule, asked))
    return joined if len(joined) == len(found) else _join_all(joined)


def _rule(situation: _Situation) -> OperatorRule:
    sweep = situation.sweep
    ranks = [one for one in situation.limits if one.quantity == _MAX_RANK]
    limits = [one for one in situation.limits if one.quantity != _MAX_RANK]
    return OperatorRule(
        operators=frozenset({sweep.op_type}),
        dtypes=frozenset({situation.dtype}),
        constant_weights=sweep.constant_weights,
        max_rank=int(ranks[0].at_most) if ranks and ranks[0].at_most else None,
        limits=(*sweep.where, *limits),
    )


def _join(first: OperatorRule, second: OperatorRule) -> OperatorRule | None:
    """One rule that says what two do of one operator: of dtypes, or of words."""
    if first.operators != second.operators:
        return None
    if replace(first, dtypes=second.dtypes) == second:
        return replace(first, dtypes=first.dtypes | second.dtypes)
    if replace(first, limits=second.limits) != second:
        return None
    limits = _join_limits(first.limits, second.limits)
    return None if limits is None else replace(first, limits=limits)


def _join_limits(
    first: tuple[Limit, ...], second: tuple[Limit, ...]
) -> tuple[Limit, ...] | None:
    """Limits that differ in the words of one situation alone, with both its words."""
    if len(first) != len(second):
        return None
    pairs = list(zip(first, second, strict=True))
    differing = [place for place, (one, other) in enumerate(pairs) if one != other]
    if len(differing) != 1:
        return None
    one, other = pairs[differing[0]]
    if replace(one, one_of=other.one_of) != other or not _is_situation(one):
        return None
    words = tuple(dict.fromkeys((*(one.one_of or ()), *(other.one_of or ()))))
    both = replace(one, one_of=words)
    return tuple(both if limit is one else limit for limit in first)


def _is_situation(limit: Limit) -> bool:
    words = limit.one_of or ()
    return bool(words) and all(isinstance(one, str) for one in words)


def _covers(wider: OperatorRule, rule: OperatorRule) -> bool:
    """Whether one rule allows all that another does."""
    return (
        rule.operators <= wider.operators
        and rule.dtypes <= wider.dtypes
        and not wider.constant_weights
        and wider.max_rank in {None, rule.max_rank}
        and set(wider.limits) <= set(rule.limits)
    )


def _cost(asked: Sequence[Asked]) -> OperatorCost | None:
    return fit_cost(
        [
            (case_operator(one.case).macs, work_bytes(one.case), one.answer.time_us)
            for one in asked
            if one.is_usual and one.answer.runs and one.answer.time_us
        ]
    )
