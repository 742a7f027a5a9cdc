"""What can be said from here of a model that is to run on other hardware."""

from __future__ import annotations

from dataclasses import dataclass

from skerry.adapt.audit import Audit, Verdict, audit
from skerry.compress.search.request import Preference
from skerry.core.budget import Budget
from skerry.core.errors import UsageError
from skerry.core.model import Model
from skerry.core.seams import Tensors
from skerry.core.target import Target
from skerry.graph import read_graph, with_static_inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A target that is not this machine: its data sheets are asked, not itself.

    Attributes:
        target: The hardware.
        place: The device of that kind on which latencies are measured; empty for none.
    """

    target: Target
    place: str = ""

    def check(self, model: Model, budget: Budget, prefer: Preference) -> None:
        """Refuse a question that only the hardware itself answers.

        Args:
            model: What recipes begin with.
            budget: What must hold.
            prefer: What counts among those that hold.

        Raises:
            UsageError: Latency is limited, or decides; or nothing public says what the
                target runs.
            ModelError: The shapes in the model do not fit together.
        """
        found = audit(read_graph(model.path), self.target)
        if found.unknown_operators == len(found.operators):
            raise UsageError(
                f"no public document says which operators {self.target.name} runs",
                hint="Run skerry tune on the device, or write a target file.",
            )
        if self.place or (budget.latency_ms is None and prefer != "latency"):
            return
        asked = "latency_ms" if budget.latency_ms is not None else "--prefer latency"
        raise UsageError(
            f"{self.target.name} is not this machine: {asked} cannot be judged here",
            hint="Measure there with --on ssh://HOST; or give --prefer size (or "
            "accuracy) and a budget without latency_ms, and its data sheets are asked.",
        )

    def refusal(self, model: Model, inputs: Tensors) -> str:
        """Why a model would not run there; empty where nothing is known against it.

        Args:
            model: Its file.
            inputs: One sample, for the sizes that the model leaves open.

        Raises:
            ModelError: The shapes in it do not fit together.
        """
        problems = self._audit(model, inputs).problems
        return f"{self.target.name}: {problems[0]}" if problems else ""

    def notes(self, model: Model, inputs: Tensors) -> list[str]:
        """What whoever takes a model there must know, a sentence each.

        Raises:
            ModelError: The shapes in it do not fit together.
        """
        found, name = self._audit(model, inputs), self.target.name
        notes = []
        if not self.place:
            notes.append(
                f"Latencies are those of this machine: on {name} nothing was measured."
            )
        if found.verdict is not Verdict.RUNS:
            said = " ".join([f"{found.said}.", *found.problems[:1]])
            notes.append(f"The data sheets of {name} say of the model: {said}")
        notes += [
            f"On {name}, {one.operators} operators ({', '.join(one.op_types)}) leave "
            f"the {self.target.processors[0].name}: {one.reason}."
            for one in found.fallbacks[:1]
        ]
        return notes

    def _audit(self, model: Model, inputs: Tensors) -> Audit:
        shapes = {name: array.shape for name, array in inputs.items()}
        return audit(with_static_inputs(read_graph(model.path), shapes), self.target)
