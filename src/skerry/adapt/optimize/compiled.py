"""What a model would take on a target that is not here, by its compiler's word.

A deployment is brought to integers, written as TFLite and compiled; what the compiler
says of the accelerator is the measurement, and answers are those of the same integers
on this machine. Of what is left to another processor no compiler knows the time. So
what can be rewritten for the accelerator is rewritten before anything is compared, and
whatever would leave more behind is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from skerry.adapt.operators import FUSED_ACTIVATIONS, read_workload
from skerry.adapt.optimize.deployment import Deployment, Kind, Remedy
from skerry.adapt.optimize.remedies import LEAST_SHARE, with_graph
from skerry.adapt.plan import Plan, make_plan
from skerry.adapt.profiles.conclude import type_shares
from skerry.adapt.rewrite.catalogue import RULES
from skerry.adapt.rewrite.engine import DEFAULT_MAX_ERROR, Adapted, adapt
from skerry.adapt.speed import find_speed
from skerry.adapt.tflite import read_tflite_graph, write_tflite
from skerry.core.compiled import Compiled
from skerry.core.durable import write_file
from skerry.core.errors import ModelError
from skerry.core.model import Model
from skerry.core.profile import OperatorTime, Profile
from skerry.core.seams import Toolchain
from skerry.core.target import Citation, Refusal, Target
from skerry.graph import (
    Graph,
    infer_shapes,
    read_graph,
    with_static_inputs,
    write_graph,
)
from skerry.runtimes import open_any

_REPLACED = frozenset[str]().union(*(rule.replaces for rule in RULES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A deployment as a compiler takes it.

    Attributes:
        host: The same integers, to be run here.
        written: The TFLite file that was compiled.
        compiled: What the compiler says.
        profile: What each operator takes, by the target's own table.
    """

    host: Deployment
    written: Model
    compiled: Compiled
    profile: Profile

    @property
    def left(self) -> tuple[str, ...]:
        """What is left to another processor, in the compiler's words."""
        return tuple(one.source for one in self.compiled.fallbacks)


class Bench:
    """Compiles deployments for a target, each model once.

    Args:
        target: The hardware.
        toolchain: Its compiler.
        shapes: Of the inputs, by name.
        quantize: Makes integers of all that a graph computes.
        folder: Where files are written.
    """

    def __init__(
        self,
        target: Target,
        toolchain: Toolchain,
        *,
        shapes: Mapping[str, tuple[int, ...]],
        quantize: Callable[[Graph], Graph],
        folder: Path,
    ) -> None:
        self._target = target
        self._toolchain = toolchain
        self._shapes = shapes
        self._quantize = quantize
        self._folder = folder
        self._built: dict[Path, Built] = {}
        self._most_left = 0

    def begin(self, given: Deployment) -> tuple[Deployment, str]:
        """Choose where to begin: the model as it is, if all of it runs there.

        Else with equal operators in place of what does not, else with other functions,
        whichever leaves least to another processor.

        Returns:
            The first deployment, and what a reader must know of it, if anything.

        Raises:
            ModelError: It cannot be compiled, nor with other operators.
            ToolchainError: The compiler is not here, or failed.
        """
        given = replace(given, target=self._target.name)
        found: list[tuple[int, Deployment]] = []
        refused: ModelError | None = None
        for start in self._starts(given):
            try:
                left = len(self.build(start).left)
            except ModelError as error:
                refused = refused or error
                continue
            found.append((left, start))
            if not left:
                break
        if not found and refused is not None:
            raise refused
        self._most_left, start = min(found, key=lambda one: one[0])
        if start is given:
            return given, ""
        why = refused.what if refused else "it leaves some to another one"
        return start, (
            f"As it is, {self._target.processors[0].name} does not run the whole model "
            f"({why}): begun with other operators, as skerry adapt writes them."
        )

    def _starts(self, given: Deployment) -> Iterator[Deployment]:
        yield given
        for word, max_error in (("adapted", 0.0), ("nearly", DEFAULT_MAX_ERROR)):
            done = adapt(self._read(given), self._target, max_error=max_error)
            if done.applied:
                yield with_graph(given, done.graph, self._folder, word)

    def build(self, deployment: Deployment) -> Built:
        """Compile a deployment.

        Raises:
            ModelError: It cannot be quantized, written as TFLite, or compiled.
            ToolchainError: The compiler is not here, or failed.
        """
        path = deployment.model.path
        if path not in self._built:
            self._built[path] = self._build(deployment)
        return self._built[path]

    def time_ms(self, deployment: Deployment) -> float:
        """The latency of one inference on the accelerator, by the compiler's word.

        Raises:
            ModelError: It leaves more to another processor than the first deployment,
                or as `build`.
        """
        built = self.build(deployment)
        if len(built.left) > self._most_left:
            raise ModelError(
                f"leaves {', '.join(dict.fromkeys(built.left))} to another processor",
                hint="Nobody knows what that takes there.",
            )
        return built.compiled.time_ms

    def diagnose(self, deployment: Deployment) -> tuple[Profile, list[Remedy]]:
        """Say what each operator takes, and which rewrites may help.

        Raises:
            The errors of `build`.
        """
        profile = self.build(deployment).profile
        kinds = {node.op_type for node in read_graph(deployment.model.path).nodes}
        found = [
            remedy
            for one in type_shares(profile)
            if one.op_type in kinds & _REPLACED - FUSED_ACTIVATIONS
            and one.share >= LEAST_SHARE
            for remedy in self._remedies(deployment, one.op_type, one.share)
        ]
        return profile, found

    def _build(self, deployment: Deployment) -> Built:
        stem = deployment.model.path.stem
        graph = infer_shapes(self._quantize(self._read(deployment)))
        host = write_graph(graph, self._folder / f"{stem}.int8.onnx")
        file = self._folder / f"{stem}.int8.tflite"
        content = write_tflite(graph)
        write_file(file, content)
        written = open_any(file)
        compiled = self._toolchain.compile(written, self._target)
        # The file is what is compiled: in it, what the writer fused is one operator.
        read = read_tflite_graph(content, name=file.name)
        plan = make_plan(read_workload(infer_shapes(read)), self._target)
        return Built(
            host=replace(deployment, model=host, target=""),
            written=written,
            compiled=compiled,
            profile=_profile(plan, compiled, stem),
        )

    def _read(self, deployment: Deployment) -> Graph:
        return with_static_inputs(read_graph(deployment.model.path), self._shapes)

    def _remedies(
        self, deployment: Deployment, op_type: str, share: float
    ) -> Iterator[Remedy]:
        """Offer to do without an operator, by equal functions and by nearly equal."""
        for name, max_error in (
            (f"without {op_type}", 0.0),
            (f"without {op_type}, nearly", DEFAULT_MAX_ERROR),
        ):
            done = self._rewritten(deployment, op_type, max_error)
            is_nearly = any(one.is_approximation for one in done.applied)
            if not done.applied or is_nearly is not bool(max_error):
                continue  # nothing to try, or nothing else than by equal functions
            yield Remedy(
                name=name,
                kind=Kind.REWRITE,
                why=f"{op_type} takes {share * 100:.0f} % of the time",
                # Whatever stands in for it takes time, too.
                expected=1 - share / 2,
                change=partial(self._rewrite, op_type=op_type, max_error=max_error),
            )

    def _rewrite(
        self, deployment: Deployment, *, op_type: str, max_error: float
    ) -> Deployment:
        done = self._rewritten(deployment, op_type, max_error)
        word = f"without-{op_type.lower()}{'-nearly' if max_error else ''}"
        return with_graph(deployment, done.graph, self._folder, word)

    def _rewritten(
        self, deployment: Deployment, op_type: str, max_error: float
    ) -> Adapted:
        """Rewrite a model for the target as if that did not run one operator."""
        return adapt(
            self._read(deployment),
            _without(self._target, op_type),
            max_error=max_error,
            only=frozenset({op_type}),
        )


def _profile(plan: Plan, compiled: Compiled, model: str) -> Profile:
    by_name = {one.name: one for one in plan.target.processors}
    operators = []
    for operator, name in zip(plan.workload.operators, plan.processors, strict=True):
        time_us = find_speed(operator, by_name.get(name)).time_us
        operators.append(
            OperatorTime(
                name=operator.name,
                op_type=operator.op_type,
                latency_ms=(time_us or 0.0) / 1000,
                dtype=operator.dtype,
                macs=operator.macs,
                processor=name,
            )
        )
    return Profile(
        runtime=compiled.toolchain,
        threads=1,
        repeats=1,
        operators=tuple(operators),
        model=model,
        device=plan.target.name,
    )


def _without(target: Target, op_type: str) -> Target:
    """The target, had its first processor not this operator."""
    first = target.processors[0]
    never = Citation(source="imagined, to see what a model gains without it")
    refusal = Refusal(operators=frozenset({op_type}), evidence=never)
    without = replace(first, refusals=(*first.refusals, refusal))
    return replace(target, processors=(without, *target.processors[1:]))
