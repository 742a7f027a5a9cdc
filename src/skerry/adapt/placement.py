"""Which processor of a target runs an operator, and why another does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from skerry.adapt.operators import Operator, Tensor
from skerry.core.target import Limit, OperatorRule, Processor, Take, Target

Quantity = tuple[float | str, ...]

NOWHERE = ""
"""Stands for the processor of an operator that none can run."""

UNKNOWN = "unknown"
"""Stands for the processor of an operator of which no public document says it."""


def place(operator: Operator, target: Target) -> tuple[str, str]:
    """Choose the processor that runs an operator.

    Args:
        operator: What is to be run.
        target: The hardware, its processors most wanted first.

    Returns:
        The name of the first processor that can, `NOWHERE`, or `UNKNOWN` where one
        that is wanted more might; and why the most wanted one cannot, or an empty text
        if it can.
    """
    refused = ""
    for processor in target.processors:
        if is_unknown(operator, processor):
            reason = f"no public operator table of {processor.name} names it"
            return UNKNOWN, refused or reason
        reason = refusal(operator, processor)
        if not reason:
            return processor.name, refused
        refused = refused or reason
    return NOWHERE, refused


def is_unknown(operator: Operator, processor: Processor) -> bool:
    """Whether no public document says if a processor runs an operator."""
    return (
        not processor.rules_complete
        and not processor.runs_everything
        and operator.is_standard
        and not any(operator.op_type in rule.operators for rule in processor.rules)
        and not any(operator.op_type in one.operators for one in processor.refusals)
    )


def refusal(operator: Operator, processor: Processor) -> str:
    """Say why a processor cannot run an operator; an empty text if it can.

    Of several rules that all refuse, the one that comes nearest speaks.
    """
    if not operator.is_standard:
        return f"of {operator.domain}, not of ONNX itself"
    if processor.runs_everything:
        return ""
    if any(operator.op_type in one.operators for one in processor.refusals):
        return "known to be refused"
    rules = [one for one in processor.rules if operator.op_type in one.operators]
    if not rules:
        return "not in the operator table"
    if any(tensor.shape is None for tensor in operator.activations):
        return "a shape is known only when the model runs"
    breaches = sorted((_breaches(operator, rule) for rule in rules), key=len)
    return "; ".join(breaches[0])


def accepting_rule(operator: Operator, processor: Processor) -> OperatorRule | None:
    """Find the rule of a processor's table that lets it run an operator."""
    shapes = [one.shape for one in operator.activations]
    if not operator.is_standard or None in shapes:
        return None
    for rule in processor.rules:
        if operator.op_type in rule.operators and not _breaches(operator, rule):
            return rule
    return None


def _breaches(operator: Operator, rule: OperatorRule) -> list[str]:
    """Say what of a rule does not hold."""
    strange = {one.dtype for one in operator.activations} - rule.dtypes
    breaches = [
        f"{dtype or 'unknown'} activations (takes {_list(rule.dtypes)})"
        for dtype in sorted(strange)
    ]
    breaches += _weight_breaches(operator, rule, strange)
    rank = max((len(one.shape or ()) for one in operator.activations), default=0)
    if rule.max_rank is not None and rank > rule.max_rank:
        breaches.append(f"{rank} dimensions > {rule.max_rank}")
    for limit in rule.limits:
        breaches += _limit_breaches(operator, limit)
    return breaches


def _weight_breaches(
    operator: Operator, rule: OperatorRule, strange: set[str]
) -> list[str]:
    second = operator.inputs[1] if len(operator.inputs) > 1 else None
    if second is None:
        return []
    if not second.is_constant:
        return ["second input is no constant"] if rule.constant_weights else []
    allowed = rule.weight_dtypes
    if allowed is None or second.dtype in allowed | strange:
        return []  # said already of the activations, if strange
    return [f"{second.dtype} weights (takes {_list(allowed)})"]


def _limit_breaches(operator: Operator, limit: Limit) -> list[str]:
    shown = _TAKEN[limit.take].format(limit.quantity)
    for value in take_values(operator, limit.quantity, limit.take):
        if limit.one_of is not None and value not in limit.one_of:
            allowed = ", ".join(_show(one) for one in limit.one_of)
            return [f"{shown} {_show(value)} (takes {allowed})"]
        if isinstance(value, str):
            continue
        if limit.at_most is not None and value > limit.at_most:
            return [f"{shown} {_show(value)} > {_show(limit.at_most)}"]
        if limit.at_least is not None and value < limit.at_least:
            return [f"{shown} {_show(value)} < {_show(limit.at_least)}"]
    return []


_TAKEN = {
    Take.EACH: "{}",
    Take.FIRST: "{}[0]",
    Take.PRODUCT: "product of {}",
}


def take_values(operator: Operator, name: str, take: Take) -> Quantity:
    """Read the part of an operator's quantity that a limit looks at."""
    values = quantity(operator, name)
    if take is Take.FIRST:
        return values[:1]
    if take is Take.PRODUCT and values:
        return (math.prod(one for one in values if not isinstance(one, str)),)
    return values


def _list(dtypes: Iterable[str]) -> str:
    return ", ".join(sorted(dtypes, key=lambda dtype: (len(dtype), dtype)))


def _show(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.12g}"


def quantity(operator: Operator, name: str) -> Quantity:
    """Read what a limit is about from an operator.

    Args:
        operator: An operator whose shapes are known.
        name: One of these, or the name of an attribute:

            - `kernel_shape`: sizes of the kernel, of the weights where not given;
            - `kernel_span`: sizes that the dilated kernel covers;
            - `steps`: the strides, 1 where the output has one place alone;
            - `strides`, `dilations`, `pads`, `group`: with ONNX's defaults; automatic
              padding counts as a padding of 1;
            - `padding`: `none`; `same` where the paddings are those that make the
              output the input's size ÷ the stride, the odd one last; else `other`;
            - `dilation`: `none` or `some`;
            - `grouping`: `one` group, `depthwise` (a channel a group) or `grouped`;
            - `permutation`: where a Transpose takes dimensions from, such as `0231`;
            - `plane`: the largest product of all sizes but two of the first input;
            - `rank`: most dimensions of an activation;
            - `channels`, `filters`: second size of the first input, and of the first
              output;
            - `batch`: size of the first dimension of the first input;
            - `reduced`: sizes of the dimensions that are reduced;
            - `rows`: product of the sizes of all dimensions but that of `axis`;
            - `scales`: output ÷ input size of the dimensions past the second; none
              where the input has one place alone;
            - `scale_ratio`: the first of the scales ÷ the last;
            - `order`: places of a Transpose's dimensions, such as `0231`;
            - `outer`: product of all sizes but the last three of the first input;
            - `sizes`: those of all dimensions of the first input;
            - `spatial`: sizes of the last two dimensions of the first input;
            - `weight_scales`: how many scales quantize a constant second input;
            - `mode`, `coordinate_transformation_mode`: with ONNX's defaults.

    Returns:
        Its values; none where the operator has no such thing.
    """
    if name in _DERIVED:
        return _DERIVED[name](operator)
    if name in _DEFAULTS and name not in operator.attributes:
        return (_DEFAULTS[name],)
    value = operator.attributes.get(name, ())
    return value if isinstance(value, tuple) else (value,)


def _first(operator: Operator) -> tuple[int, ...]:
    first = next(iter(operator.inputs), None)
    return () if first is None or first.shape is None else first.shape


def _numbers(operator: Operator, name: str) -> list[float]:
    values = operator.attributes.get(name, ())
    entries = values if isinstance(values, tuple) else (values,)
    return [one for one in entries if not isinstance(one, str)]


def _kernel_shape(operator: Operator) -> Quantity:
    given = _numbers(operator, "kernel_shape")
    weights: Sequence[Tensor | None] = operator.inputs[1:2]
    if given or not weights or weights[0] is None:
        return tuple(given)
    return (weights[0].shape or ())[2:]


def _kernel_span(operator: Operator) -> Quantity:
    kernel = [size for size in _kernel_shape(operator) if not isinstance(size, str)]
    dilations = _numbers(operator, "dilations") or [1] * len(kernel)
    return tuple(
        (size - 1) * dilation + 1
        for size, dilation in zip(kernel, dilations, strict=False)
    )


def _pads(operator: Operator) -> Quantity:
    if str(operator.attributes.get("auto_pad", "")).startswith("SAME"):
        return (1,)
    return tuple(_numbers(operator, "pads"))


def _steps(operator: Operator) -> Quantity:
    made = (operator.outputs[0].shape or ())[2:] if operator.outputs else ()
    strides = _numbers(operator, "strides") or [1] * len(made)
    return tuple(
        stride if size > 1 else 1 for size, stride in zip(made, strides, strict=False)
    )


def _padding(operator: Operator) -> Quantity:
    word = str(operator.attributes.get("auto_pad", "NOTSET"))
    pads = _numbers(operator, "pads")
    if word == "VALID" or (word == "NOTSET" and not any(pads)):
        return ("none",)
    if word != "NOTSET":
        return ("same" if word == "SAME_UPPER" else "other",)
    return ("same" if pads == _same_pads(operator) else "other",)


def _same_pads(operator: Operator) -> list[float]:
    """The paddings of `SAME_UPPER`, the odd one at the end."""
    spans = [size for size in _kernel_span(operator) if not isinstance(size, str)]
    strides = _numbers(operator, "strides") or [1] * len(spans)
    sizes: Sequence[float] = _first(operator)[2:]
    if operator.op_type == "ConvTranspose":
        totals = [span - stride for span, stride in zip(spans, strides, strict=False)]
    else:
        totals = [
            (math.ceil(size / stride) - 1) * stride + span - size
            for size, stride, span in zip(sizes, strides, spans, strict=False)
        ]
    totals = [max(0, total) for total in totals]
    return [total // 2 for total in totals] + [total - total // 2 for total in totals]


def _dilation(operator: Operator) -> Quantity:
    is_dilated = any(one > 1 for one in _numbers(operator, "dilations"))
    return ("some" if is_dilated else "none",)


def _grouping(operator: Operator) -> Quantity:
    groups = (_numbers(operator, "group") or [1])[0]
    channels = (*_first(operator), 0, 0)[1]
    if groups == 1:
        return ("one",)
    return ("depthwise" if groups == channels else "grouped",)


def _permutation(operator: Operator) -> Quantity:
    rank = len(_first(operator))
    perm = _numbers(operator, "perm") or list(range(rank))[::-1]
    return ("".join(str(int(place)) for place in perm),)


def _plane(operator: Operator) -> Quantity:
    sizes = sorted(_first(operator))
    return (math.prod(sizes[2:]),) if sizes else ()


def _channels(operator: Operator) -> Quantity:
    return _first(operator)[1:2]


def _filters(operator: Operator) -> Quantity:
    return (operator.outputs[0].shape or ())[1:2] if operator.outputs else ()


def _rank(operator: Operator) -> Quantity:
    return (max((len(one.shape or ()) for one in operator.activations), default=0),)


def _batch(operator: Operator) -> Quantity:
    return _first(operator)[:1]


def _axes(operator: Operator) -> list[int]:
    """The dimensions that are reduced, counted from the front."""
    rank = len(_first(operator))
    if operator.op_type.startswith("Global"):
        return list(range(2, rank))
    if operator.op_type.startswith("Arg"):
        given = _numbers(operator, "axis") or [0]
    else:
        given = _numbers(operator, "axes") or list(range(rank))
    return [int(axis) % rank for axis in given] if rank else []


def _reduced(operator: Operator) -> Quantity:
    shape = _first(operator)
    return tuple(shape[axis] for axis in _axes(operator))


def _rows(operator: Operator) -> Quantity:
    shape = _first(operator)
    if not shape:
        return ()
    axis = int((_numbers(operator, "axis") or [-1])[0]) % len(shape)
    return (math.prod(shape[:axis]) * math.prod(shape[axis + 1 :]),)


def _scales(operator: Operator) -> tuple[float, ...]:
    before = _first(operator)[2:]
    if all(size == 1 for size in before):
        return ()  # a single place is repeated, not scaled
    after = (operator.outputs[0].shape or ())[2:] if operator.outputs else ()
    return tuple(new / old for new, old in zip(after, before, strict=False) if old)


def _scale_ratio(operator: Operator) -> Quantity:
    scales = _scales(operator)
    return (scales[0] / scales[-1],) if scales and scales[-1] else ()


def _order(operator: Operator) -> Quantity:
    turned = tuple(reversed(range(len(_first(operator)))))
    places = quantity(operator, "perm") or turned
    return ("".join(_show(place) for place in places),)


def _outer(operator: Operator) -> Quantity:
    return (math.prod(_first(operator)[:-3]),)


def _spatial(operator: Operator) -> Quantity:
    return _first(operator)[-2:]


def _weight_scales(operator: Operator) -> Quantity:
    second = operator.inputs[1] if len(operator.inputs) > 1 else None
    return () if second is None or not second.scales else (second.scales,)


_DERIVED: Mapping[str, Callable[[Operator], Quantity]] = {
    "batch": _batch,
    "channels": _channels,
    "dilation": _dilation,
    "filters": _filters,
    "grouping": _grouping,
    "kernel_shape": _kernel_shape,
    "kernel_span": _kernel_span,
    "padding": _padding,
    "pads": _pads,
    "permutation": _permutation,
    "plane": _plane,
    "rank": _rank,
    "reduced": _reduced,
    "rows": _rows,
    "scale_ratio": _scale_ratio,
    "scales": _scales,
    "order": _order,
    "outer": _outer,
    "sizes": _first,
    "spatial": _spatial,
    "steps": _steps,
    "weight_scales": _weight_scales,
}
_DEFAULTS: Mapping[str, float | str] = {
    "coordinate_transformation_mode": "half_pixel",
    "count_include_pad": 0,
    "dilations": 1,
    "group": 1,
    "mode": "nearest",
    "strides": 1,
}
