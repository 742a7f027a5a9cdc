"""The recipe step `quantize`: static post-training quantization of a whole graph."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar, Literal, get_args

import numpy as np

from skerry.compress.numbers.ranges import Range
from skerry.compress.numbers.schemes import Method
from skerry.compress.numbers.tensors import QuantizedTensor
from skerry.compress.ptq.bias import correct_biases, measure_shifts
from skerry.compress.ptq.calibrate import Progress, calibrate
from skerry.compress.ptq.kept_float import shield_floats
from skerry.compress.ptq.operators import Operators
from skerry.compress.ptq.patterns import DEFAULT_RUNTIME, patterns_of
from skerry.compress.ptq.plan import (
    Plan,
    observable,
    plan_quantization,
    without_range,
)
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.qdq import DEFAULT_SCHEMES, Schemes, insert_qdq, raise_opset
from skerry.compress.ptq.samples_check import SamplesCheck
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.core.recipe import Choices, ParamValue, Space, StepSpec
from skerry.core.seams import Array, Runtime
from skerry.graph import Graph
from skerry.tasks.sample import SampleSource

log = logging.getLogger(__name__)

ACTIVATION_BITS = (8, 16)
WEIGHT_BITS = (4, 8)
WEIGHT_BLOCKS = (0, 32, 64, 128)


Equalization = Literal["none", "weights", "activations"]
"""By what channels are made alike: nothing, the ranges of weights as in the paper, or
the rounding noise that samples let expect."""

Rounding = Literal["nearest", "adaptive"]
"""How weights are rounded: each to the nearest code; or layer by layer, so that what a
layer makes of quantized inputs changes least on the calibration samples."""


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """What calibration found out about a graph.

    Attributes:
        ranges: Of each value that a plan may need, by its name.
        shifts: How far quantization moves the mean of a layer's output, by name of
            node, `[output channels]`; empty where biases are not corrected.
        codes: Weights by name of node that are not rounded to the nearest; empty
            where all are.
        notes: What a reader must know of the samples, in plain sentences.
    """

    ranges: Mapping[str, Range]
    shifts: Mapping[str, Array] = field(default_factory=dict)
    codes: Mapping[str, QuantizedTensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize:
    """Quantize weights and activations to INT8, except where told not to.

    Attributes:
        operators: `weights` for operators with weights, `all` for all that can be,
            `fused` for what the runtime computes faster in integers.
        method: How ranges of activations are chosen.
        per_channel: Whether weights have one scale an output channel.
        keep_float: Names of nodes that stay float; as they are called after `prepare`.
        equalize: By what channels are made alike before anything is rounded: not at
            all, by the ranges of weights, or also by what activations show.
        weight_method: How ranges of weights are chosen.
        correct_bias: Whether biases make up for the mean error of their layer.
        rounding: How weights are rounded.
        smooth: How much of activations' outliers the weights of matrix products take
            over, 0 to 1 (SmoothQuant's alpha); 0 leaves them where they are.
        activation_bits: 8 or 16. CPUs compute what has 16 bits in float: onnxruntime
            rounds around each operator, which is slower than float32; OpenVINO
            leaves the rounding out. It is for accelerators, and to see what eight
            bits lose.
        activation_symmetric: Whether activations are signed with their zero at code 0,
            as some accelerators want them, rather than unsigned with one anywhere.
            onnxruntime is slower with signed ones on x86.
        weight_bits: 8, or 4: stored two codes a byte. Both runtimes compute what has
            4-bit weights in float, and onnxruntime decodes them at each inference:
            the file is half as large, and not faster.
        weight_block: With `weight_bits` 4, over how many inputs in a row the weights of
            a matrix product share a scale: 32, 64 or 128; 0 for one a channel or one
            a tensor. Nearer to the trained weights, at five bytes more a block.
        runtime: The one that the model is for: its patterns decide what is `fused`.

    The defaults from `equalize` on are what recipes mean that do not name them; what to
    begin with is `ACCURATE`.

    Raises:
        UsageError: There is no such choice of operators, or of what to equalize by.
    """

    SPACE: ClassVar[Space] = {
        "operators": Choices(values=get_args(Operators)),
        "method": Choices(values=get_args(Method)),
        "per_channel": Choices(values=(True, False)),
        "equalize": Choices(values=get_args(Equalization)),
        "weight_method": Choices(values=get_args(Method)),
        "correct_bias": Choices(values=(False, True)),
        "rounding": Choices(values=get_args(Rounding)),
        "smooth": Choices(values=(0.0, 0.5, 0.75)),
        "activation_bits": Choices(values=ACTIVATION_BITS),
        "activation_symmetric": Choices(values=(False, True)),
        "weight_bits": Choices(values=tuple(reversed(WEIGHT_BITS))),
    }

    operators: Operators = "weights"
    method: Method = "minmax"
    per_channel: bool = True
    keep_float: tuple[str, ...] = ()
    equalize: Equalization = "none"
    weight_method: Method = "minmax"
    correct_bias: bool = False
    rounding: Rounding = "nearest"
    smooth: float = 0.0
    activation_bits: int = 8
    activation_symmetric: bool = False
    weight_bits: int = 8
    weight_block: int = 0
    runtime: str = DEFAULT_RUNTIME

    def __post_init__(self) -> None:
        if self.operators not in get_args(Operators):
            raise UsageError(
                f"cannot quantize the operators {self.operators!r}",
                hint=did_you_mean(str(self.operators), get_args(Operators)),
            )
        if self.equalize not in get_args(Equalization):
            raise UsageError(
                f"cannot equalize by {self.equalize!r}",
                hint=did_you_mean(str(self.equalize), get_args(Equalization)),
            )
        if self.rounding not in get_args(Rounding):
            raise UsageError(
                f"cannot round by {self.rounding!r}",
                hint=did_you_mean(str(self.rounding), get_args(Rounding)),
            )
        if not 0 <= self.smooth <= 1:
            raise UsageError(
                f"smooth is {self.smooth!r}, expected 0 to 1",
                hint="0.5 shares outliers evenly; 0 is off.",
            )
        for name, value, known in (
            ("activation_bits", self.activation_bits, ACTIVATION_BITS),
            ("weight_bits", self.weight_bits, WEIGHT_BITS),
        ):
            if isinstance(value, bool) or value not in known:
                raise UsageError(
                    f"{name} is {value!r}, expected {known[0]} or {known[1]}",
                    hint="8 bits are what CPUs compute fastest in.",
                )
        self._check_block()
        patterns_of(self.runtime)
        # A recipe file knows lists only.
        object.__setattr__(self, "keep_float", tuple(self.keep_float))

    def _check_block(self) -> None:
        block = self.weight_block
        if isinstance(block, bool) or block not in WEIGHT_BLOCKS:
            known = ", ".join(map(str, WEIGHT_BLOCKS))
            raise UsageError(
                f"weight_block is {block!r}, expected one of {known}",
                hint="32 is nearest to the trained weights; 0 is one scale a channel.",
            )
        if block and (self.weight_bits != 4 or self.rounding != "nearest"):
            raise UsageError(
                f"weight_block {block} goes with 4-bit weights rounded to the nearest",
                hint='Set weight_bits = 4 and rounding = "nearest", or leave it out.',
            )

    @property
    def schemes(self) -> Schemes:
        """The schemes of weights and activations."""
        weights = replace(
            DEFAULT_SCHEMES.weights, bits=self.weight_bits, method=self.weight_method
        )
        activations = replace(
            DEFAULT_SCHEMES.activations,
            bits=self.activation_bits,
            signed=self.activation_symmetric,
            symmetric=self.activation_symmetric,
            method=self.method,
        )
        return replace(
            DEFAULT_SCHEMES,
            weights=weights,
            activations=activations,
            per_channel=self.per_channel,
            weight_block=self.weight_block,
        )

    def apply(self, graph: Graph, context: StepContext) -> Graph:
        """Calibrate and quantize; the graph given is left as it was.

        Raises:
            DataError: The calibration samples do not fit, or there are none.
            ModelError: The graph cannot be quantized; see `prepare`.
            RuntimeFailure: The runtime cannot run it.
            UsageError: There is no node of a name to keep float, or no such method.
        """
        ready = self.equalized(prepare(graph), context)
        measured = self._measure_planned(ready, context)
        for note in measured.notes:
            log.warning("calibration_samples %s", note)
        return self.write(ready, measured.ranges, measured.shifts, measured.codes)

    def equalized(self, prepared: Graph, context: StepContext) -> Graph:
        """Equalize the channels of a prepared graph, as far as this step wants that.

        Args:
            prepared: What `prepare` returned; it is left as it was.
            context: Its samples are run where activations are looked at.

        Raises:
            DataError: The calibration samples do not fit, or there are none.
            RuntimeFailure: The runtime cannot run it.
        """
        # A fixed step on a small net takes no longer than imports: spare it these.
        ready = prepared
        if self.smooth:
            from skerry.compress.ptq.smooth import smooth

            ready = smooth(
                prepared,
                (sample.inputs for sample in context.calibration),
                alpha=self.smooth,
                runtime=context.runtime,
                threads=context.threads,
                progress=context.progress,
            )
        if self.equalize == "none":
            return ready
        from skerry.compress.ptq.equalize import equalize

        return equalize(
            ready,
            (sample.inputs for sample in context.calibration)
            if self.equalize == "activations"
            else None,
            runtime=context.runtime,
            per_channel=self.per_channel,
            threads=context.threads,
            progress=context.progress,
        )

    def measure(self, equalized: Graph, context: StepContext) -> Measured:
        """Run the calibration samples, whatever is kept in float later.

        Args:
            equalized: What `equalized` returned.
            context: The samples, and what runs them.

        Raises:
            DataError: The calibration samples do not fit, there are none, or all are
                the same.
            RuntimeFailure: The runtime cannot run it.
            UsageError: There is no such method.
        """
        measured = self._ranges(equalized, context)
        if self.rounding == "adaptive":
            return self._rounded(equalized, measured, context)
        if not self.correct_bias:
            return measured
        whole = replace(self, keep_float=()).write(equalized, measured.ranges)
        shifts = measure_shifts(
            equalized,
            whole,
            (sample.inputs for sample in context.calibration),
            runtime=context.runtime,
            threads=context.threads,
            progress=context.progress,
        )
        return replace(measured, shifts=shifts)

    def _measure_planned(self, equalized: Graph, context: StepContext) -> Measured:
        """Measure what this step itself needs, as a search would that needs more.

        Steps that look at layers in float and in integers need all, and so do those
        where a value has no range: others are then quantized in its stead.
        """
        if self.rounding == "nearest" and not self.correct_bias:
            sources = self._plan(equalized).sources
            measured = self._ranges(equalized, context, only=sources)
            if sources <= measured.ranges.keys():
                return measured
        return self.measure(equalized, context)

    def _ranges(
        self,
        equalized: Graph,
        context: StepContext,
        only: frozenset[str] | None = None,
    ) -> Measured:
        check = SamplesCheck()
        values = observable(equalized, self.operators, self.runtime)
        ranges = calibrate(
            equalized,
            values if only is None else only,
            (sample.inputs for sample in context.calibration),
            runtime=context.runtime,
            scheme=self.schemes.activations,
            threads=context.threads,
            progress=context.progress,
            check=check,
            made=values,
        )
        return Measured(ranges=ranges, notes=check.notes())

    def _plan(self, equalized: Graph, unknown: frozenset[str] = frozenset()) -> Plan:
        return plan_quantization(
            equalized,
            operators=self.operators,
            keep_float=unknown.union(self.keep_float),
            runtime=self.runtime,
        )

    def _rounded(
        self, equalized: Graph, measured: Measured, context: StepContext
    ) -> Measured:
        from skerry.compress.ptq.adaptive import MOST_SAMPLES, round_layers

        chosen = round_layers(
            equalized,
            plan_quantization(
                equalized, operators=self.operators, runtime=self.runtime
            ),
            measured.ranges,
            self.schemes,
            (sample.inputs for sample in _some(context.calibration, MOST_SAMPLES)),
            correct_bias=self.correct_bias,
            runtime=context.runtime,
            threads=context.threads,
            progress=context.progress,
        )
        return replace(measured, shifts=chosen.shifts, codes=chosen.codes)

    def write(
        self,
        equalized: Graph,
        ranges: Mapping[str, Range],
        shifts: Mapping[str, Array] = MappingProxyType({}),
        codes: Mapping[str, QuantizedTensor] = MappingProxyType({}),
    ) -> Graph:
        """Quantize a graph with what was measured before.

        Args:
            equalized: What `equalized` returned; it is left as it was.
            ranges: Of each value that this step's plan needs; where one has none, of
                all that are `observable` with this step's operators.
            shifts: What biases make up for, by name of node; those of nodes that stay
                float are not looked at.
            codes: Weights that were rounded already, likewise.

        Raises:
            UsageError: There is no node of a name to keep float.
        """
        plan = self._plan(equalized)
        if not plan.sources <= ranges.keys():
            unknown = without_range(equalized, self.operators, ranges, self.runtime)
            plan = self._plan(equalized, unknown)
        quantized = frozenset(plan.nodes)
        wanted = {name: one for name, one in shifts.items() if name in quantized}
        corrected = correct_biases(equalized, wanted) if wanted else equalized
        ready = raise_opset(corrected, self.schemes)
        written = insert_qdq(ready, plan, ranges, self.schemes, codes)
        shield_floats(written)
        return written

    def spec(self) -> StepSpec:
        """This step as a recipe holds it."""
        params: dict[str, ParamValue] = {
            "operators": self.operators,
            "method": self.method,
            "per_channel": self.per_channel,
            "keep_float": list(self.keep_float),
            "equalize": self.equalize,
            "weight_method": self.weight_method,
            "correct_bias": self.correct_bias,
            "rounding": self.rounding,
            "smooth": self.smooth,
            "activation_bits": self.activation_bits,
            "activation_symmetric": self.activation_symmetric,
            "weight_bits": self.weight_bits,
            "weight_block": self.weight_block,
            "runtime": self.runtime,
        }
        return StepSpec(name="quantize", params=params)


ACCURATE = Quantize(
    method="mse",
    equalize="activations",
    weight_method="mse",
    correct_bias=True,
    rounding="adaptive",
)
"""What loses least without a search: the step to begin with."""


def _some(samples: SampleSource, most: int) -> SampleSource:
    """No more than so many samples, spread evenly over all."""
    count = len(samples)
    if count <= most:
        return samples
    mask = np.zeros(count, np.bool_)
    mask[np.arange(most) * count // most] = True
    return samples.pick(mask)
