"""The recipe step `quantize`: static post-training quantization of a whole graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from skerry.compress.calibrate import Progress, calibrate
from skerry.compress.operators import Operators
from skerry.compress.plan import observable, plan_quantization
from skerry.compress.qdq import DEFAULT_SCHEMES, Schemes, insert_qdq
from skerry.compress.ranges import Range
from skerry.compress.schemes import Method
from skerry.core.recipe import ParamValue, StepSpec
from skerry.core.seams import Runtime
from skerry.graph import (
    Graph,
    constants_to_initializers,
    fold_affine,
    fold_batch_norm,
    fold_constants,
    infer_shapes,
    name_all_nodes,
    upgrade_opset,
)
from skerry.tasks.samples import SampleSource

QDQ_OPSET = 17
"""Pairs per channel need opset 13; 17 is what every runtime of today reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What a step may use beside the graph.

    Attributes:
        calibration: Real inputs of the model; labels are not looked at.
        runtime: What runs the graph while it is calibrated.
        threads: CPU threads.
        progress: Told of what is under way.
    """

    calibration: SampleSource
    runtime: Runtime
    threads: int = 1
    progress: Progress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize:
    """Quantize weights and activations to INT8, except where told not to.

    Attributes:
        operators: `weights` for operators with weights, `all` for all that can be.
        method: How ranges of activations are chosen.
        per_channel: Whether weights have one scale an output channel.
        keep_float: Names of nodes that stay float.
    """

    operators: Operators = "weights"
    method: Method = "minmax"
    per_channel: bool = True
    keep_float: tuple[str, ...] = ()

    @property
    def schemes(self) -> Schemes:
        """The schemes of weights and activations."""
        return replace(DEFAULT_SCHEMES, per_channel=self.per_channel)

    def apply(self, graph: Graph, context: StepContext) -> Graph:
        """Calibrate and quantize; the graph given is left as it was.

        Raises:
            DataError: The calibration samples do not fit, or there are none.
            ModelError: The graph cannot be brought to an opset with per-channel pairs.
        """
        ready = prepare(graph)
        ranges = calibrate(
            ready,
            observable(ready, self.operators),
            (sample.inputs for sample in context.calibration),
            runtime=context.runtime,
            scheme=replace(self.schemes.activations, method=self.method),
            threads=context.threads,
            progress=context.progress,
        )
        return self.write(ready, ranges)

    def write(self, prepared: Graph, ranges: Mapping[str, Range]) -> Graph:
        """Quantize a prepared graph with ranges already known."""
        plan = plan_quantization(
            prepared, operators=self.operators, keep_float=frozenset(self.keep_float)
        )
        return insert_qdq(prepared, plan, ranges, self.schemes)

    def spec(self) -> StepSpec:
        """This step as a recipe holds it."""
        params: dict[str, ParamValue] = {
            "operators": self.operators,
            "method": self.method,
            "per_channel": self.per_channel,
            "keep_float": list(self.keep_float),
        }
        return StepSpec(name="quantize", params=params)


def prepare(graph: Graph) -> Graph:
    """Bring a float graph into the form that quantization works on.

    Nodes are named, constants are initializers, batch normalization and other scaling
    are folded into convolutions (Jacob et al. 2018, section 3.2), value types are
    known.

    Args:
        graph: Any float graph; it is left as it was.

    Raises:
        ModelError: It cannot be brought to the opset that quantization needs.
    """
    ready = upgrade_opset(graph, QDQ_OPSET)
    ready = constants_to_initializers(ready)
    ready = fold_constants(ready)
    ready = fold_affine(fold_batch_norm(ready))
    return infer_shapes(name_all_nodes(ready))
