"""What a model would take on a target that is not here, by its compiler's word.

A deployment is brought to integers, written as TFLite and compiled. What the compiler
puts on the accelerator takes what it says; what it leaves to another processor takes at
least what that one's roofline says, by the audit's own plan. Answers are those of the
same integers on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from skerry.adapt.operators import FUSED_ACTIVATIONS, read_workload
from skerry.adapt.optimize.deployment import Deployment, Kind, Remedy
from skerry.adapt.optimize.remedies import LEAST_SHARE, with_graph
from skerry.adapt.plan import Plan, make_plan
from skerry.adapt.profiles.conclude import type_shares
from skerry.adapt.rewrite.catalogue import RULES
from skerry.adapt.rewrite.engine import DEFAULT_MAX_ERROR, adapt
from skerry.adapt.roofline import find_speed
from skerry.adapt.tflite import read_tflite_graph, write_tflite
from skerry.core.compiled import Compiled
from skerry.core.durable import write_file
from skerry.core.errors import ModelError, TargetError
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


_REPLACED = frozenset().union(*(rule.replaces for rule in RULES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A deployment as a compiler takes it.

    Attributes:
        host: The same integers, to be run here.
        written: The TFLite file that was compiled.
        compiled: What the compiler says.
        profile: What each operator takes, by the target's tables and rooflines.
        time_ms: Of one inference: the compiler's word, and what it leaves to others.
        left: The operators that it leaves to others.
    """

    host: Deployment
    written: Model
    compiled: Compiled
    profile: Profile
    time_ms: float
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bench:
    """Compiles deployments for a target, each model once.

    Attributes:
        target: The hardware.
        toolchain: Its compiler.
        shapes: Of the inputs, by name.
        quantize: Makes integers of all that a graph computes.
        folder: Where files are written.
    """

    target: Target
    toolchain: Toolchain
    shapes: Mapping[str, tuple[int, ...]]
    quantize: Callable[[Graph], Graph]
    folder: Path
    _built: dict[Path, Built] = field(default_factory=dict)
    _before: dict[Path, Deployment] = field(default_factory=dict)

    def begin(self, start: Deployment) -> tuple[Deployment, str]:
        """Choose where to begin: the model as it is, if it can be compiled.

        Returns:
            The first deployment, and what a reader must know of it, if anything. What
            cannot be compiled is rewritten first, by equal functions.

        Raises:
            ModelError: It cannot be compiled then either.
        """
        start = replace(start, target=self.target.name)
        try:
            self.build(start)
        except ModelError as error:
            rewritten = self._adapted(start, max_error=0.0)
            self.build(rewritten)
            self._before[rewritten.model.path] = start
            return rewritten, (
                f"As it is the model cannot be compiled ({error.what}): begun with "
                "the equal functions of skerry adapt."
            )
        return start, ""

    def build(self, deployment: Deployment) -> Built:
        """Compile a deployment.

        Raises:
            ModelError: It cannot be quantized, written as TFLite, or compiled.
            TargetError: Nobody knows what a part of it takes on the target.
            ToolchainError: The compiler is not here, or failed.
        """
        path = deployment.model.path
        if path not in self._built:
            self._built[path] = self._build(deployment)
        return self._built[path]

    def time_ms(self, deployment: Deployment) -> float:
        """The latency of one inference; raises as `build` does."""
        return self.build(deployment).time_ms

    def diagnose(self, deployment: Deployment) -> tuple[Profile, list[Remedy]]:
        """Say what each operator takes, and which rewrites may help.

        Raises:
            The errors of `build`.
        """
        built = self.build(deployment)
        shares = {one.op_type: one.share for one in type_shares(built.profile)}
        kinds = {node.op_type for node in read_graph(deployment.model.path).nodes}
        found = [
            remedy
            for op_type, share in shares.items()
            if op_type in kinds & _REPLACED
            for remedy in self._remedies(op_type, share, built.left)
        ]
        if start := self._before.get(deployment.model.path):
            found.append(self._other_functions(start))
        return built.profile, found

    def _build(self, deployment: Deployment) -> Built:
        stem = deployment.model.path.stem
        graph = infer_shapes(self.quantize(self._read(deployment)))
        host = write_graph(graph, self.folder / f"{stem}.int8.onnx")
        file = self.folder / f"{stem}.int8.tflite"
        content = write_tflite(graph)
        write_file(file, content)
        written = open_any(file)
        compiled = self.toolchain.compile(written, self.target)
        # The file is what is compiled: in it, what the writer fused is one operator.
        read = read_tflite_graph(content, name=file.name)
        plan = make_plan(read_workload(infer_shapes(read)), self.target)
        left = _left(plan)
        if compiled.fallbacks and not left:
            names = ", ".join(one.source for one in compiled.fallbacks)
            raise TargetError(
                f"{compiled.toolchain} leaves {names} to another processor, the table "
                f"of {self.target.name} does not",
                hint="Write the table anew: skerry target probe.",
            )
        return Built(
            host=replace(deployment, model=host, target=""),
            written=written,
            compiled=compiled,
            profile=_profile(plan, compiled, stem),
            time_ms=compiled.time_ms + sum(time_us for _, time_us in left) / 1000,
            left=tuple(dict.fromkeys(op_type for op_type, _ in left)),
        )

    def _read(self, deployment: Deployment) -> Graph:
        return with_static_inputs(read_graph(deployment.model.path), self.shapes)

    def _adapted(self, start: Deployment, *, max_error: float) -> Deployment:
        done = adapt(self._read(start), self.target, max_error=max_error)
        word = "nearly-adapted" if max_error else "adapted"
        return with_graph(start, done.graph, self.folder, word)

    def _other_functions(self, start: Deployment) -> Remedy:
        """Offer other functions, nearly the same, for what had to be rewritten."""

        def change(deployment: Deployment) -> Deployment:
            made = self._adapted(start, max_error=DEFAULT_MAX_ERROR)
            return replace(deployment, model=made.model)

        return Remedy(
            name="other functions",
            kind=Kind.REWRITE,
            why="what cannot be compiled had to be replaced by equal functions",
            expected=1 - LEAST_SHARE,
            change=change,
        )

    def _remedies(
        self, op_type: str, share: float, left: tuple[str, ...]
    ) -> Iterator[Remedy]:
        """Offer to do without an operator, by equal functions and by nearly equal."""
        why = f"{op_type} takes {share * 100:.0f} % of the time"
        if op_type in left:
            why = f"{self.target.processors[0].name} does not run {op_type}"
            share = max(share, LEAST_SHARE)
        elif share < LEAST_SHARE or op_type in FUSED_ACTIVATIONS:
            return
        for name, max_error in (
            (f"without {op_type}", 0.0),
            (f"without {op_type}, nearly", DEFAULT_MAX_ERROR),
        ):
            yield Remedy(
                name=name,
                kind=Kind.REWRITE,
                why=why,
                expected=1 - share / 2,
                change=partial(self._rewrite, op_type=op_type, max_error=max_error),
            )

    def _rewrite(
        self, deployment: Deployment, *, op_type: str, max_error: float
    ) -> Deployment:
        """Rewrite a model for the target as if that did not run one operator."""
        target = _without(self.target, op_type)
        only = frozenset({op_type})
        graph = self._read(deployment)
        done = adapt(graph, target, max_error=max_error, only=only)
        if not done.applied:
            raise ModelError(
                f"no rule replaces {op_type} here",
                hint="skerry adapt says what rules do.",
            )
        if max_error and not any(one.is_approximation for one in done.applied):
            raise ModelError(
                f"no other function stands in for {op_type} here",
                hint=f"An equal one does: without {op_type}.",
            )
        word = f"without-{op_type.lower()}{'-nearly' if max_error else ''}"
        return with_graph(deployment, done.graph, self.folder, word)


def _left(plan: Plan) -> list[tuple[str, float]]:
    """Operators that run elsewhere than on the first processor, and their times in µs.

    Raises:
        ModelError: One runs nowhere.
        TargetError: Nobody knows what one takes.
    """
    by_name = {one.name: one for one in plan.target.processors}
    first = plan.target.processors[0].name
    found = []
    for operator, name in zip(plan.workload.operators, plan.processors, strict=True):
        if name == first:
            continue
        time_us = find_speed(operator, by_name.get(name)).time_us
        if time_us is None:
            where = name or "any processor"
            raise TargetError(
                f"nobody knows what {operator.op_type} {operator.name!r} takes on "
                f"{where} of {plan.target.name}",
                hint="Give the target its peak_gops and bandwidth_gb_s.",
            )
        found.append((operator.op_type, time_us))
    return found


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
