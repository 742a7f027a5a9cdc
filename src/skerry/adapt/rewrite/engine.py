"""Choose and apply rewrite rules until a processor runs all it can be made to run.

For each operator that the most wanted processor refuses, the rules that name it draw
replacements, best first. A replacement is a small graph; it is taken if the processor
runs all of its operators, or if those it does not run can themselves be replaced, by
other rules. What is taken goes into the model, the rest leaves no trace.

An operator that runs only once quantized counts as running: the usual order is to
rewrite, then to quantize. In a model that is quantized already, a replacement has no
scales for what it makes on the way: there it may compute one operator, and otherwise
only move bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice

from skerry.adapt.operators import (
    FUSED_ACTIVATIONS,
    VIEWS,
    Operator,
    read_workload,
)
from skerry.adapt.placement import is_unknown, refusal
from skerry.adapt.rewrite.catalogue import RULES
from skerry.adapt.rewrite.rule import Draft, Replacement, Rule, Site
from skerry.core.errors import ModelError
from skerry.core.target import Processor, Target
from skerry.graph import (
    Graph,
    Node,
    Value,
    constants_to_initializers,
    infer_shapes,
    make_initializer,
    make_node,
    name_all_nodes,
    remove_dead,
    replace_all_uses,
    upgrade_opset,
)

OLDEST_OPSET = 13
"""Replacements are drawn in the operators of this opset, or a newer one."""

DEFAULT_MAX_ERROR = 0.05
"""Largest absolute error of an activation function that is replaced by another."""

_SCALE_KEEPERS = VIEWS | FUSED_ACTIVATIONS | {"Slice", "Split", "Transpose"}
"""What they make has the scale of what they read."""

MAX_ROUNDS = 4
"""What is replaced can bring new neighbours together; real models need one or two."""

MAX_DEPTH = 4
"""Rules within rules: Mish needs two, a grouped normalization three."""

MAX_DRAWN = 96
"""Replacements that are looked at for one operator of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A replacement that was made.

    Attributes:
        node: The node that was replaced.
        op_type: Its operator.
        reason: Why the most wanted processor does not run it.
        rules: The rules that were used, the first one and those for what it drew.
        by: The operators that stand in for it, the most frequent first.
        bounds: One a rule: how far the new result may be from the old one.
        is_approximation: Whether another function is computed somewhere.
    """

    node: str
    op_type: str
    reason: str
    rules: tuple[str, ...]
    by: tuple[str, ...]
    bounds: tuple[str, ...]
    is_approximation: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """An operator that the most wanted processor still does not run.

    Attributes:
        node: Its name.
        op_type: Its operator.
        shape: Of its first result, such as `1×64×8×8`; empty if unknown.
        reason: Why it does not run.
        advice: What to try.
    """

    node: str
    op_type: str
    shape: str
    reason: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """A model after its rewrites.

    Attributes:
        graph: The model; the one that was given where nothing was replaced.
        applied: What was replaced, in topological order.
        left: What could not be.
    """

    graph: Graph
    applied: tuple[Applied, ...]
    left: tuple[Left, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """What stays the same while rules are tried."""

    processor: Processor
    rules: tuple[Rule, ...]
    max_error: float
    is_quantized: bool
    only: frozenset[str] | None
    hopeless: set[tuple[object, ...]] = field(default_factory=set)

    @property
    def native(self) -> set[str]:
        """The operators that the processor runs in some form."""
        listed = {name for one in self.processor.rules for name in one.operators}
        return listed - {n for one in self.processor.refusals for n in one.operators}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Path:
    """The rules within which an operator is to be replaced.

    Attributes:
        rules: From the outermost on; none of them is used again within.
        missing: Operators that run in no form and are being replaced: what is drawn
            in their stead does not hold them.
        drawn: Counts the replacements that were looked at for one operator.
    """

    rules: tuple[Rule, ...] = ()
    missing: frozenset[str] = frozenset()
    drawn: Iterator[int] = field(default_factory=lambda: count(1))

    def into(self, rule: Rule) -> _Path:
        """The path within one rule more."""
        return replace(self, rules=(*self.rules, rule))

    def without(self, op_type: str, search: _Search) -> _Path:
        """The path to replacements of an operator."""
        if op_type in search.native or search.processor.runs_everything:
            return self
        return replace(self, missing=self.missing | {op_type})


def adapt(
    graph: Graph,
    target: Target,
    *,
    rules: Sequence[Rule] = RULES,
    max_error: float = DEFAULT_MAX_ERROR,
    only: frozenset[str] | None = None,
) -> Adapted:
    """Replace operators that a target's most wanted processor does not run.

    Args:
        graph: The model, with inputs of fixed sizes; left as it was.
        target: The hardware.
        rules: The rules to choose from.
        max_error: The largest absolute error of an activation function that may be
            replaced by another one; 0 allows equal functions alone.
        only: The operators of the model that may be replaced; None for all.

    Raises:
        ModelError: The shapes in the graph do not fit together.
    """
    search = _Search(
        processor=target.processors[0],
        rules=tuple(rules),
        max_error=max_error,
        is_quantized=any(one.op_type == "QuantizeLinear" for one in graph.nodes),
        only=only,
    )
    work = _prepare(graph, search)
    applied: list[Applied] = []
    for _ in range(MAX_ROUNDS):
        made = _round(work, search)
        applied += made
        if not made:
            break
        work = infer_shapes(remove_dead(work))
    left = tuple(
        _left(site, reason, search) for site, reason in _refused(work, search.processor)
    )
    return Adapted(graph=work if applied else graph, applied=tuple(applied), left=left)


def drawn_whole(
    graph: Graph, target: Target, rule: Rule
) -> Iterator[tuple[str, Graph]]:
    """Say what one rule would draw for each operator that is refused.

    Args:
        graph: The model, with inputs of fixed sizes; left as it was. If it is
            quantized, scales for what is drawn are taken for granted.
        target: The hardware.
        rule: Tried alone, and only with equal functions.

    Yields:
        A node's name, and the first replacement of which its most wanted processor
        runs all operators.

    Raises:
        ModelError: The shapes in the graph do not fit together.
    """
    search = _Search(
        processor=target.processors[0],
        rules=(rule,),
        max_error=0.0,
        is_quantized=False,
        only=None,
    )
    work = _prepare(graph, search)
    for site, _ in _refused(work, search.processor):
        if site.node.op_type not in rule.replaces or work.opset < rule.opset:
            continue
        for replacement in islice(rule.draw(site), MAX_DRAWN):
            small = finish(replacement)
            if runs_whole(small, site.operator, search):
                yield site.node.name or "", small
                break


def _prepare(graph: Graph, search: _Search) -> Graph:
    """Give the graph names, shapes, and an opset that has what rules may draw."""
    wanted = OLDEST_OPSET
    static = infer_shapes(name_all_nodes(constants_to_initializers(graph)))
    refused = [site.operator for site, _ in _refused(static, search.processor)]
    for rule in search.rules:
        if any(rule.names(operator) for operator in refused):
            wanted = max(wanted, rule.opset)
    for opset in (wanted, OLDEST_OPSET):
        if graph.opset >= opset:
            return static
        try:
            return infer_shapes(name_all_nodes(upgrade_opset(static, opset)))
        except ModelError:
            if opset == OLDEST_OPSET:
                raise
    return static


def _refused(graph: Graph, processor: Processor) -> list[tuple[Site, str]]:
    """The operators that a processor runs neither as they are nor once quantized."""
    nodes = {node.name: node for node in graph.nodes}
    return [
        (Site(graph=graph, node=nodes[one.name], operator=one), reason)
        for one in read_workload(graph).operators
        if (reason := refusal_at_best(one, processor))
    ]


def refusal_at_best(operator: Operator, processor: Processor) -> str:
    """Why a processor runs an operator neither as it is nor once quantized."""
    if not refusal(operator, processor):
        return ""
    return refusal(operator.as_int8(), processor)


def _round(graph: Graph, search: _Search) -> list[Applied]:
    """Replace what can be in a model, in place; each refused operator is tried once."""
    applied = []
    for site, reason in _refused(graph, search.processor):
        if site.node.graph is None:
            continue  # part of what was replaced meanwhile
        if search.only is not None and site.node.op_type not in search.only:
            continue
        if site.operator.is_standard and not site.is_static:
            continue  # sizes may be known once what is before it is replaced
        if is_unknown(site.operator, search.processor):
            continue  # it may run: nobody has said
        kind = _kind(site)
        if kind in search.hopeless:
            continue
        found = _replace(site, reason, search, _Path())
        if found is None:
            search.hopeless.add(kind)
        else:
            applied.append(found)
    return applied


def _kind(site: Site) -> tuple[object, ...]:
    """What decides whether a site can be replaced: two alike are tried once."""
    operator, node = site.operator, site.node
    makers = [one.producer() for one in node.inputs if one is not None]
    readers = [use[0] for value in node.outputs for use in value.uses()]
    return (
        node.op_identifier(),
        tuple(sorted(operator.attributes.items())),
        tuple(one and replace(one, name="") for one in operator.inputs),
        tuple(one and one.op_identifier() for one in makers),
        tuple(one.op_identifier() for one in readers),
    )


def _replace(
    site: Site,
    reason: str,
    search: _Search,
    path: _Path,
) -> Applied | None:
    """Put the first replacement that runs whole in place of a site."""
    found = next(_taken(site, search, path), None)
    if found is None:
        return None
    rule, replacement, small, inner = found
    _splice(site.graph, replacement, small)
    bound = replacement.bound
    return Applied(
        node=site.node.name or "",
        op_type=site.node.op_type,
        reason=reason,
        rules=(rule.name, *(name for one in inner for name in one.rules)),
        by=_operators(small),
        bounds=(bound.text, *(text for one in inner for text in one.bounds)),
        is_approximation=bound.is_approximation
        or any(one.is_approximation for one in inner),
    )


def _operators(graph: Graph) -> tuple[str, ...]:
    counts = Counter(node.op_type for node in graph.nodes)
    return tuple(op_type for op_type, _ in counts.most_common())


Taken = tuple[Rule, Replacement, Graph, list[Applied]]


def _taken(site: Site, search: _Search, path: _Path) -> Iterator[Taken]:
    """Replacements that the processor runs whole, with what was replaced in them."""
    path = path.without(site.node.op_type, search)
    for rule in search.rules:
        is_able = rule.names(site.operator) and site.graph.opset >= rule.opset
        if not is_able or rule in path.rules:
            continue
        for replacement in rule.draw(site):
            if next(path.drawn) > MAX_DRAWN:
                return
            bound = replacement.bound
            if bound.is_approximation and bound.error > search.max_error:
                continue
            nodes = replacement.draft.graph.nodes
            if any(node.op_type in path.missing for node in nodes):
                continue
            small = finish(replacement)
            inner = _adapt_small(small, search, path.into(rule))
            if inner:
                small = infer_shapes(remove_dead(small))
            if inner is not None and runs_whole(small, site.operator, search):
                yield rule, replacement, small, inner


def _adapt_small(small: Graph, search: _Search, path: _Path) -> list[Applied] | None:
    """Replace what a replacement has that does not run; None where that fails."""
    applied = []
    for site, reason in _refused(small, search.processor):
        if site.node.graph is None:
            continue
        found = None
        if len(path.rules) < MAX_DEPTH:
            found = _replace(site, reason, search, path)
        if found is None:
            return None
        applied.append(found)
    return applied


def finish(replacement: Replacement) -> Graph:
    """The replacement as a graph of its own, with shapes."""
    draft: Draft = replacement.draft
    for value in replacement.results:
        if value.producer() is not None and value not in draft.graph.output_values:
            draft.graph.add_output(value)
    return infer_shapes(draft.graph) if draft.graph.nodes else draft.graph


def runs_whole(small: Graph, replaced: Operator, search: _Search) -> bool:
    """Whether a processor runs all operators of a replacement."""
    operators = read_workload(small).operators
    if any(refusal_at_best(one, search.processor) for one in operators):
        return False
    if not search.is_quantized or "int" not in replaced.dtype:
        return True
    floats = [one for one in operators if any(x.is_float for x in one.outputs)]
    return sum(one.op_type not in _SCALE_KEEPERS for one in floats) <= 1


def _splice(graph: Graph, replacement: Replacement, small: Graph) -> None:
    """Put a replacement in place of the nodes that it stands in for."""
    root = replacement.root
    known: dict[Value, Value] = {}
    for value in small.input_values:
        known[value] = replacement.draft.reads[value.name or ""]
    for value in small.initializers:
        array = small.constant(value)
        if array is not None:
            name = graph.unique_name(f"{root.name}/{value.name}")
            known[value] = graph.add_initializer(make_initializer(array, name))
    nodes = [_copy(node, known, graph, root) for node in small.nodes]
    graph.ir.graph.insert_before(root, nodes)
    named = {value.name: value for value in small.values()}
    for old, drawn in zip(root.outputs, replacement.results, strict=False):
        reads = replacement.draft.reads
        source = reads.get(drawn.name or "") if drawn.producer() is None else None
        new = known[named[drawn.name]] if source is None else source
        replace_all_uses(graph, old, new)
    _remove(root)


def _copy(node: Node, known: dict[Value, Value], graph: Graph, root: Node) -> Node:
    attributes = {name: one.value for name, one in node.attributes.items()}
    names = [graph.unique_name(f"{root.name}/{one.name}") for one in node.outputs]
    made = make_node(
        node.op_type,
        [None if one is None else known[one] for one in node.inputs],
        attributes,
        outputs=names,
        name=graph.unique_name(f"{root.name}/{node.op_type}"),
    )
    for old, new in zip(node.outputs, made.outputs, strict=True):
        new.type, new.shape = old.type, old.shape
        known[old] = new
    return made


def _remove(node: Node) -> None:
    """Take a node out, and what only it needed."""
    if any(value.uses() or value.is_graph_output() for value in node.outputs):
        return
    owner = node.graph
    if owner is None:
        return
    makers = [value.producer() for value in node.inputs if value is not None]
    owner.remove(node, safe=True)
    for maker in makers:
        if maker is not None:
            _remove(maker)


def _left(site: Site, reason: str, search: _Search) -> Left:
    shape = site.result_shape()
    return Left(
        node=site.node.name or "",
        op_type=site.node.op_type,
        shape="×".join(str(size) for size in shape or ()),
        reason=reason,
        advice=_advice(site, search),
    )


def _advice(site: Site, search: _Search) -> str:
    """Say what to try with an operator that no rule could replace."""
    if not site.is_static:
        return "Fix the sizes of the model's inputs."
    if is_unknown(site.operator, search.processor):
        return (
            f"No public document says whether {search.processor.name} runs it: ask its "
            "vendor's compiler."
        )
    tried = [one.name for one in search.rules if one.names(site.operator)]
    if not tried:
        return (
            f"No rule replaces {site.node.op_type}. Train the model with an operator "
            "that the target runs, or let another processor run the part behind it."
        )
    return (
        f"Tried: {', '.join(tried)}; none applies here with operators that "
        f"{search.processor.name} runs. Allow a larger error, or change the layer."
    )


def rules_for(
    operator: Operator, processor: Processor, rules: Sequence[Rule] = RULES
) -> tuple[Rule, ...]:
    """Name the rules that may replace an operator which a processor does not run.

    Returns:
        None of them where the processor runs it as it is, or once quantized.
    """
    if not refusal_at_best(operator, processor):
        return ()
    return tuple(one for one in rules if one.names(operator))
