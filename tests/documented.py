"""What users report of RKNN and of the Edge TPU, to be asked of the audit.

The one list: `tests/unit/adapt/test_documented.py` asks each, `benchmarks.audit` counts
those that are missed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skerry.adapt.audit import Audit, audit
from skerry.adapt.target_files import load_target
from skerry.graph import Graph, make_graph, make_initializer, make_node
from skerry.graph import make_value as new_value

OPSET = 17
Layer = tuple[str, dict[str, object], tuple[int, ...]]
"""An operator of one input, its attributes, and the shape it makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Documented:
    """One reported case.

    Attributes:
        source: Where it is reported.
        what: What is reported.
        target: The target.
        graph: The smallest model that shows it.
        holds: Whether the audit says the same.
    """

    source: str
    what: str
    target: str
    graph: Graph
    holds: Callable[[Audit], bool]

    def is_reproduced(self) -> bool:
        """Audit the model, and compare."""
        return self.holds(audit(self.graph, load_target(self.target)))


def chain(shape: tuple[int, ...], *layers: Layer, quantized: bool = True) -> Graph:
    """Operators one after another, all in int8 or all in float32."""
    dtype = "int8" if quantized else "float32"
    constants = [
        make_initializer(np.array(0.1, np.float32), "scale"),
        make_initializer(np.array(0, np.int8), "zero"),
    ]
    given = value = new_value("x", dtype, shape)
    nodes = []
    for number, (op_type, attributes, made) in enumerate(layers):
        if quantized:
            opened = new_value(f"d{number}", "float32", value.shape)
            read = [value, *constants]
            nodes.append(make_node("DequantizeLinear", read, outputs=[opened]))
            value = opened
        reads = [value, value] if op_type == "Min" else [value]
        result = new_value(f"f{number}", "float32", made)
        name = f"{op_type}_{number}"
        nodes.append(make_node(op_type, reads, attributes, outputs=[result], name=name))
        value = result
        if quantized:
            value = new_value(f"q{number}", "int8", made)
            read = [result, *constants]
            nodes.append(make_node("QuantizeLinear", read, outputs=[value]))
    return make_graph(
        nodes,
        inputs=[given],
        outputs=[value],
        initializers=constants if quantized else [],
        opset=OPSET,
        name="documented",
    )


def _turned(height: int, width: int) -> Graph:
    shape = (1, 8, height, width)
    return chain(shape, ("Transpose", {"perm": (0, 2, 3, 1)}, (1, height, width, 8)))


def _mean(height: int) -> Graph:
    return chain((1, height, 128, 3), ("ReduceMean", {"axes": (1, 2)}, (1, 1, 1, 3)))


def _on(found: Audit, *places: str) -> bool:
    return tuple(one.processor for one in found.operators) == places


RKNN = "airockchip/rknn-toolkit2 issue"
EDGE = "google-coral/edgetpu issue"
_RELU: Layer = ("Relu", {}, (1, 4, 4, 8))
_AFTER: Layer = ("Relu", {}, (1, 4, 8, 4))


def _after_the_first_refused(found: Audit) -> bool:
    places = [one.processor for one in found.operators]
    ends = [one.operators for one in found.remedies if "ends the one" in one.advice]
    return (
        places[0] == "edge-tpu"
        and "edge-tpu" not in places[1:]
        and len(found.subgraphs) == 2
        and "comes after Transpose" in found.operators[2].reason
        and ends == [2]
    )


def _advises(found: Audit, words: str) -> bool:
    return words in found.remedies[0].advice


CASES = (
    Documented(
        source=f"{RKNN} 490",
        what="Transpose of 256 × 2560 falls back: the product must not pass 8192",
        target="rk3588",
        graph=_turned(256, 2560),
        holds=lambda found: (
            _on(found, "cpu")
            and "8192" in found.operators[0].reason
            and _advises(found, "Split Transpose")
        ),
    ),
    Documented(
        source=f"{RKNN} 490",
        what="a product of 8192 stays on the NPU",
        target="rk3588",
        graph=_turned(64, 128),
        holds=lambda found: _on(found, "npu"),
    ),
    Documented(
        source=f"{RKNN} 490",
        what="a product just past it falls back",
        target="rk3588",
        graph=_turned(64, 129),
        holds=lambda found: _on(found, "cpu"),
    ),
    Documented(
        source=f"{RKNN} 88",
        what="a product of 88064 falls back",
        target="rk3588",
        graph=_turned(344, 256),
        holds=lambda found: _on(found, "cpu"),
    ),
    Documented(
        source=f"{RKNN} 316",
        what="RV1106: Min does not run, and it is said before",
        target="rv1106",
        graph=chain((1, 8), ("Min", {}, (1, 8))),
        holds=lambda found: (
            not found.would_run and "No processor runs Min" in found.problems[0]
        ),
    ),
    Documented(
        source=f"{RKNN} 145",
        what="RV1106: no floats",
        target="rv1106",
        graph=chain((1, 8), ("Relu", {}, (1, 8)), quantized=False),
        holds=lambda found: not found.would_run and "float32" in found.problems[0],
    ),
    Documented(
        source=f"{EDGE} 342",
        what="all after the first unmapped operator is on the CPU, and it is named",
        target="coral-edge-tpu",
        graph=chain(
            (1, 4, 4, 8),
            _RELU,
            ("Transpose", {"perm": (0, 1, 3, 2)}, (1, 4, 8, 4)),
            _AFTER,
            _AFTER,
        ),
        holds=_after_the_first_refused,
    ),
    Documented(
        source=f"{EDGE} 461",
        what="Mean of 1×256×128×3 is not mapped; four tiles are advised",
        target="coral-edge-tpu",
        graph=_mean(256),
        holds=lambda found: (
            not _on(found, "edge-tpu") and _advises(found, "into 4 tiles")
        ),
    ),
    Documented(
        source=f"{EDGE} 461",
        what="a quarter of it is mapped",
        target="coral-edge-tpu",
        graph=_mean(64),
        holds=lambda found: _on(found, "edge-tpu"),
    ),
)
