"""What each runtime computes in integers, and what it fuses: one table a runtime.

Observed, not read from feature lists: a small graph with QuantizeLinear and
DequantizeLinear pairs around each operator was loaded, and the kernels looked at that
the runtime made of it (onnxruntime 1.31: the optimized model it saves; OpenVINO 2026.4:
its runtime model). `tests/unit/compress/ptq/test_patterns.py` asks the installed
runtimes again.

What the tables hold against: an operator between pairs that is not listed is computed
in float, and the pairs then cost two passes over its values for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean

DEFAULT_RUNTIME = "onnxruntime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """What a runtime does with operators that stand between pairs.

    Attributes:
        layers: Operators with constant weights that have integer kernels.
        float_results: Those of them whose integer kernels may write floats: they need
            no pair behind them. A convolution that must have one, but whose result is
            read in float, is computed in float without it.
        arithmetic: Operators on activations that read and write integers, with scales
            of their own for each.
        carries: Operators that only move integers, which keep the scale; Resize where
            it takes the nearest.
        activations: By operator, the activations that vanish into it where it alone
            feeds them: the range that it writes does their work.
    """

    layers: frozenset[str]
    float_results: frozenset[str]
    arithmetic: frozenset[str]
    carries: frozenset[str]
    activations: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def all_activations(self) -> frozenset[str]:
        """Operators that vanish into others."""
        return frozenset[str]().union(*self.activations.values())


_LIMITS = frozenset({"Clip", "Relu"})
_MOVES = frozenset(
    {
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "MaxPool",
        "Reshape",
        "Resize",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)

ONNXRUNTIME = Patterns(
    # ConvTranspose is computed in float, its weights dequantized on every inference.
    layers=frozenset({"Conv", "Gemm", "MatMul"}),
    float_results=frozenset({"Gemm", "MatMul"}),
    # QLinear… kernels, each two to four times faster than its operator in float with
    # the pairs around it. AveragePool and Softmax have them too, but are four and two
    # times slower in integers, and small probabilities are lost; HardSigmoid,
    # HardSwish, Sub, Div, ReduceMean, Pad and linear Resize have none.
    arithmetic=frozenset(
        {
            "Add",
            "Concat",
            "GlobalAveragePool",
            "LeakyRelu",
            "Mul",
            "Sigmoid",
        }
    ),
    carries=_MOVES,
    # A limit vanishes where the codes reach no further than it does.
    activations=dict.fromkeys(
        ("Add", "Concat", "Conv", "Gemm", "MatMul", "Mul"), _LIMITS
    ),
)
"""onnxruntime on the CPU."""

OPENVINO = Patterns(
    layers=frozenset({"Conv", "Gemm", "MatMul"}),
    float_results=frozenset({"Conv", "Gemm", "MatMul"}),
    # Its Add and Mul are parts of fused float subgraphs, which quantize on the way out.
    arithmetic=frozenset(
        {"Add", "AveragePool", "Concat", "GlobalAveragePool", "ReduceMean"}
    ),
    carries=_MOVES,
    activations={
        "Conv": _LIMITS
        | {"HardSwish", "LeakyRelu", "PRelu", "Sigmoid", "Elu", "Tanh", "Gelu"},
        "Gemm": _LIMITS,
        "MatMul": _LIMITS,
        "Add": _LIMITS,
    },
)
"""OpenVINO on the CPU."""

LITERT = Patterns(
    layers=frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"}),
    float_results=frozenset(),
    arithmetic=frozenset(
        {
            "Add",
            "AveragePool",
            "Concat",
            "GlobalAveragePool",
            "HardSwish",
            "LeakyRelu",
            "Mul",
            "ReduceMean",
            "Sigmoid",
            "Softmax",
            "Sub",
            "Tanh",
        }
    ),
    carries=_MOVES | {"Pad"},
    activations=dict.fromkeys(("Add", "Conv", "Gemm", "MatMul", "Mul"), _LIMITS),
)
"""LiteRT: the operators of TFLite's 8-bit quantization specification, all with integer
results."""

PATTERNS: Mapping[str, Patterns] = {
    "onnxruntime": ONNXRUNTIME,
    "openvino": OPENVINO,
    "litert": LITERT,
}
"""By name of runtime."""


def patterns_of(runtime: str) -> Patterns:
    """The patterns of a runtime.

    Raises:
        UsageError: There are none of that name.
    """
    if runtime not in PATTERNS:
        raise UsageError(
            f"what {runtime!r} computes in integers is not known",
            hint=did_you_mean(runtime, PATTERNS),
        )
    return PATTERNS[runtime]
