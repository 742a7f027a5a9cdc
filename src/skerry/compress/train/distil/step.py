"""The step `distil`: a student learns from labels and from what teachers answer."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

from skerry.compress.train.distil import losses
from skerry.compress.train.distil.features import Pair, Student, read_pairs
from skerry.compress.train.distil.mixup import MixedLabels, mixed_up
from skerry.compress.train.distil.response import Comparison, Response, Several
from skerry.compress.train.distil.teachers import KEPT_BYTES, Answer, Teachers
from skerry.compress.train.distil.unlabelled import gather, spread
from skerry.compress.train.fit import fit
from skerry.compress.train.training import TrainContext
from skerry.core.errors import UsageError
from skerry.core.names import did_you_mean
from skerry.core.recipe import Choices, Space, Span
from skerry.core.seams import LoadOptions, Session
from skerry.graph import infer_shapes, read_graph, write_graph
from skerry.runtimes import get_runtime, open_any
from skerry.runtimes.torch import Tensor, nn, output_tensors, torch
from skerry.tasks.sample import SampleSource
from skerry.tasks.samples import open_samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Distil:
    """Train a module on what teachers answer, and on labels where there are any.

    The loss is `weight` · distillation + (1 - `weight`) · that of the training. Batches
    whose labels are None are learnt from the teachers alone.

    Attributes:
        teachers: Model files, which `runtime` loads; `learn` takes sessions instead.
            Without any the training's own module teaches, as it was before all steps:
            so what pruning has cost is learnt back.
        response: By which loss the answers are compared. `none` and a weight of 1 are
            the first stage of FitNets, and another `distil` follows: then the last
            epoch is kept, not the one that scores best.
        temperature: Above 0; how soft the compared probabilities are.
        weight: Above 0, at most 1: the part of the teachers.
        several: How several teachers become one.
        match: Features to match with those of the first teacher, each as
            `LAYER=VALUE`: a submodule of the student, and a tensor of an ONNX file.
        match_weight: Of each matched pair, beside the answers.
        unlabelled: An `.npz` or a folder of samples without labels, or empty. An epoch
            goes through all of them too; they are held in memory.
        mixup: α, 0 or more: each sample is mixed with another of its batch, by shares
            from Beta(α, α), and student and teachers answer for the mixture; 0 mixes
            none, 1 draws shares evenly. The training's loss is mixed alike, `decoupled`
            takes the teacher's class.
        epochs: How often to go through the batches.
        learning_rate: At the beginning; 0 takes the training's.
        runtime: What runs the teachers.

    Raises:
        UsageError: A choice or a number is out of range.

    Example:
        ```python
        step = Distil(teachers=("large.onnx",), response="decoupled", epochs=20)
        student = step.apply(small_net, TrainContext(training=training, budget=budget))
        ```
    """

    SPACE: ClassVar[Space] = {
        "response": Choices(values=("softened", "decoupled")),
        "temperature": Span(low=1.0, high=8.0),
        "weight": Span(low=0.3, high=1.0),
        "mixup": Span(low=0.0, high=1.0),
        "learning_rate": Span(low=3e-4, high=3e-2, is_log=True),
    }

    teachers: tuple[str, ...] = ()
    response: Response = "softened"
    temperature: float = 4.0
    weight: float = 0.7
    several: Several = "mean"
    match: tuple[str, ...] = ()
    match_weight: float = 1.0
    unlabelled: str = ""
    mixup: float = 0.0
    epochs: int = 10
    learning_rate: float = 0.0
    runtime: str = "onnxruntime"

    def __post_init__(self) -> None:
        for name, kind in (("response", Response), ("several", Several)):
            if getattr(self, name) not in get_args(kind):
                raise UsageError(
                    f"distil: {name} is {getattr(self, name)!r}",
                    hint=did_you_mean(str(getattr(self, name)), get_args(kind)),
                )
        if not (
            0 < self.temperature < float("inf")
            and 0 < self.weight <= 1
            and 0 <= self.match_weight < float("inf")
            and 0 <= self.mixup < float("inf")
            and self.learning_rate >= 0
        ):
            raise UsageError(
                f"distil: temperature {self.temperature}, weight {self.weight}, "
                f"match_weight {self.match_weight}, mixup {self.mixup}, learning_rate "
                f"{self.learning_rate}; expected above 0, above 0 and at most 1, and "
                "0 or more thrice",
                hint="Use temperature = 4, weight = 0.7.",
            )
        if self.response == "none" and not self.match:
            raise UsageError(
                "distil: response is 'none' and nothing is matched",
                hint='Match features, such as match = ["features.3=relu_5"].',
            )
        if self.response == "boxes" and self.mixup and self.weight < 1:
            raise UsageError(
                f"distil: mixup {self.mixup} with response 'boxes' and weight "
                f"{self.weight}: the labels of a detector cannot be mixed",
                hint="Use mixup = 0, or weight = 1, which needs no labels.",
            )
        read_pairs(self.match)

    def apply(self, module: nn.Module, context: TrainContext) -> nn.Module:
        """Return a copy of the module, trained; the one given stays as it was.

        Raises:
            UsageError: A teacher's file is not there, or the student or the teacher has
                nothing of a name that is to be matched.
            DataError: Samples or labels do not fit the student or a teacher.
            ModelError: Student and teacher do not fit each other, a teacher answers
                NaN, or the training diverges.
        """
        training = context.training
        with ExitStack() as stack:
            sessions = self._open(stack) or [training.session(training.module)]
            if not self.unlabelled:
                return self.learn(module, context, sessions)
            inputs = training.session(copy.deepcopy(module)).inputs
            path = Path(self.unlabelled)
            extra = open_samples(path, inputs, training.task)
            return self.learn(module, context, sessions, extra)

    def learn(
        self,
        module: nn.Module,
        context: TrainContext,
        sessions: Sequence[Session],
        unlabelled: SampleSource | None = None,
    ) -> nn.Module:
        """Do the same with teachers that are loaded, such as a `TorchSession`.

        Args:
            module: The student; it stays as it was.
            context: The training.
            sessions: The teachers. What is matched is an output of the first one.
            unlabelled: Samples whose labels are not looked at.

        Raises:
            The errors of `apply`.
        """
        training = context.training
        # A mixed sample does not come back: what is said of it is not worth keeping.
        kept_bytes = 0 if self.mixup else KEPT_BYTES
        teachers = Teachers(sessions, names=training.inputs, kept_bytes=kept_bytes)
        student = Student(copy.deepcopy(module), read_pairs(self.match))
        lesson = _Lesson(self, context, student, teachers)
        batches = training.batches
        if unlabelled is not None:
            extra = gather(unlabelled, training.inputs)
            batches = spread(batches, extra, seed=context.seed)
        if self.mixup:
            batches = mixed_up(batches, strength=self.mixup, seed=context.seed)
        fit(
            student,
            replace(training, batches=batches),
            epochs=self.epochs,
            learning_rate=self.learning_rate or None,
            loss=lesson.loss,
            seed=context.seed,
            progress=context.progress,
            # Features alone prepare a student for a lesson to come: what it answers
            # meanwhile means nothing.
            keep_best=self.response != "none" or self.weight < 1,
        )
        return student.release()

    def _open(self, stack: ExitStack) -> list[Session]:
        """Load the teachers' files; the first one shows what is matched."""
        runtime, options = get_runtime(self.runtime), LoadOptions()
        sessions = []
        for place, name in enumerate(self.teachers):
            model = open_any(Path(name))
            if place == 0 and self.match:
                graph = infer_shapes(read_graph(Path(name)))
                graph.add_outputs([pair.value for pair in read_pairs(self.match)])
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="skerry-")
                )
                model = write_graph(graph, Path(folder) / "teacher.onnx")
            session = runtime.load(model, options)
            stack.callback(session.close)
            sessions.append(session)
        return sessions


class _Lesson:
    """The loss of one student under its teachers.

    It looks at the example once, so that what does not fit is refused before anything
    is trained.
    """

    def __init__(
        self, step: Distil, context: TrainContext, student: Student, teachers: Teachers
    ) -> None:
        self._step = step
        self._training = context.training
        self._teachers = teachers
        self._place = _place_of(self._training.task.output, self._training.outputs)
        self._name = self._training.outputs[self._place]
        example = self._training.example
        answers = teachers.answer(example)
        _check_values(student.pairs, answers[0])
        with torch.no_grad():
            own = output_tensors(student.eval()(*example))[self._place]
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            student.add_adapters(answers[0])
        self._comparison = (
            None
            if step.response == "none"
            else Comparison(
                step.response,
                step.several,
                step.temperature,
                student=own,
                teachers=self._responses(answers),
            )
        )

    def loss(
        self,
        student: nn.Module,
        inputs: tuple[Tensor, ...],
        outputs: Any,
        labels: Any,
    ) -> Tensor:
        """The loss of one batch."""
        answers = self._teachers.answer(inputs)
        own = output_tensors(outputs)[self._place]
        taught = own.new_zeros(())
        if self._comparison is not None:
            told = self._responses(answers)
            # A mixture belongs to no class but that which the teacher sees.
            known = None if isinstance(labels, MixedLabels) else labels
            taught = taught + self._comparison.loss(own, told, known)
        if isinstance(student, Student):
            for mine, theirs in student.features(answers[0]):
                far = losses.matched(mine, theirs).mean()
                taught = taught + self._step.match_weight * far
        weight = self._step.weight
        if labels is None or weight == 1:
            return taught
        plain = self._training.loss
        if isinstance(labels, MixedLabels):
            return weight * taught + (1 - weight) * labels.loss(plain, outputs)
        return weight * taught + (1 - weight) * plain(outputs, labels)

    def _responses(self, answers: Sequence[Answer]) -> list[Tensor]:
        """Each teacher's output that stands for the student's."""
        return [
            answer[self._name]
            if self._name in answer
            else list(answer.values())[min(self._place, len(answer) - 1)]
            for answer in answers
        ]


def _place_of(name: str, outputs: tuple[str, ...]) -> int:
    """Which output holds the answer: that of the task, the first one by default."""
    if name and name not in outputs:
        raise UsageError(
            f"the task reads the output {name!r}, which the training does not name",
            hint=did_you_mean(name, outputs),
        )
    return outputs.index(name) if name else 0


def _check_values(pairs: Sequence[Pair], answer: Answer) -> None:
    for pair in pairs:
        if pair.value not in answer:
            raise UsageError(
                f"the teacher has no output {pair.value!r} to match",
                hint=did_you_mean(pair.value, answer),
            )
