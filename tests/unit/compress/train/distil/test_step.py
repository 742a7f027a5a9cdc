"""The step `distil`: what is learnt, from whom, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.compress.recipe_files import make_step
from skerry.compress.train.distil.response import Comparison, Response
from skerry.compress.train.distil.step import Distil
from skerry.compress.train.fit import fit
from skerry.compress.train.training import Batch, TrainContext, Training
from skerry.core.budget import Budget
from skerry.core.errors import DataError, ModelError, UsageError
from skerry.core.plugins import TRAIN_STEPS
from skerry.core.recipe import StepSpec
from skerry.runtimes.torch import TorchSession, nn, torch
from skerry.tasks.sample import MemorySource, Sample
from tests import models
from tests.training import ToyNet, samples, toy_training


def _context(training: Training) -> TrainContext:
    return TrainContext(training=training, budget=Budget())


def _net(width: int, seed: int = 0) -> ToyNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ToyNet(width)


@pytest.fixture(scope="module")
def taught() -> tuple[Training, TorchSession]:
    """A training, and a teacher that it has trained."""
    training = toy_training()
    teacher = _net(16)
    fit(teacher, training, epochs=3)
    return training, training.session(teacher)


def _without_labels(training: Training) -> Training:
    def batches(epoch: int) -> Iterable[Batch]:
        return [(inputs, None) for inputs, _ in training.batches(epoch)]

    return replace(training, batches=batches)


@pytest.mark.parametrize("response", ["softened", "decoupled"])
def test_a_student_learns_from_a_teacher_alone(
    taught: tuple[Training, TorchSession], response: Response
) -> None:
    """Without one label it comes near its teacher; the net given stays as it was."""
    training, teacher = taught
    context = _context(_without_labels(training))
    student = _net(4)
    before = {name: one.clone() for name, one in student.state_dict().items()}
    step = Distil(response=response, epochs=4)
    found = step.learn(student, context, [teacher])
    score = context.evaluate(found).value
    assert score >= context.evaluate(student).value + 0.2
    assert score >= 0.85
    for name, one in student.state_dict().items():
        torch.testing.assert_close(one, before[name])


def test_the_same_seed_gives_the_same_student(
    taught: tuple[Training, TorchSession],
) -> None:
    """Adapters are drawn from the seed too."""
    training, teacher = taught
    step = Distil(epochs=1, match=("block=logits",), response="none")
    deep = Distil(epochs=1)
    with pytest.raises(ModelError, match="cannot match block"):
        step.learn(_net(4), _context(training), [teacher])
    found = [deep.learn(_net(4), _context(training), [teacher]) for _ in range(2)]
    states = [one.state_dict() for one in found]
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name])


def test_features_alone_teach(taught: tuple[Training, TorchSession]) -> None:
    """What one layer learns from the teacher's logits is there for the next lesson."""
    training, teacher = taught
    context = _context(_without_labels(training))
    step = Distil(response="none", match=("classifier=logits",), weight=1, epochs=3)
    first = step.learn(_net(4), context, [teacher])
    assert isinstance(first, ToyNet)
    assert not first.classifier._forward_hooks
    # The rest is frozen: all but the last layer has learnt what it has.
    for name, parameter in first.named_parameters():
        parameter.requires_grad = name.startswith("classifier")
    found = Distil(epochs=3).learn(first, context, [teacher])
    assert context.evaluate(found).value >= 0.8


def test_without_teachers_the_trainings_own_module_teaches(
    taught: tuple[Training, TorchSession],
) -> None:
    """A smaller net learns from the one before all steps, which stays as it was."""
    training, _ = taught
    large = _net(16)
    fit(large, training, epochs=3)
    context = _context(_without_labels(replace(training, module=large)))
    found = Distil(epochs=4).apply(_net(4), context)
    assert context.evaluate(found).value >= 0.8
    assert all(one.requires_grad for one in large.parameters())


def test_samples_without_labels_are_learnt_from(
    taught: tuple[Training, TorchSession], tmp_path: Path
) -> None:
    """With 32 labels and 512 unlabelled samples it gets further than with 32."""
    training, teacher = taught
    first = list(training.batches(0))[:1]
    few = replace(training, batches=lambda _epoch: first)
    step = Distil(epochs=4, response="decoupled")
    poor = step.learn(_net(4), _context(few), [teacher])
    extra = samples(512, seed=9)
    rich = step.learn(_net(4), _context(few), [teacher], extra)
    scores = [_context(few).evaluate(one).value for one in (poor, rich)]
    assert scores[1] >= scores[0] + 0.1
    path = tmp_path / "field.npz"
    np.savez(path, picture=np.concatenate([one.inputs["picture"] for one in extra]))
    kept = replace(step, unlabelled=str(path), epochs=0, teachers=("none.onnx",))
    with pytest.raises(UsageError, match=r"none\.onnx"):
        kept.apply(_net(4), _context(few))


def test_several_teachers_teach_as_one(taught: tuple[Training, TorchSession]) -> None:
    """By their mean; or by agreement, which outvotes one that says the opposite."""
    training, teacher = taught

    class Liar:
        inputs, outputs = teacher.inputs, teacher.outputs

        def run(self, inputs: Any) -> dict[str, Any]:
            return {"logits": -teacher.run(inputs)["logits"]}

        def close(self) -> None:
            """Nothing is held."""

    context = _context(_without_labels(training))
    for several, sessions in (
        ("mean", [teacher, teacher]),
        ("agreement", [teacher, Liar(), teacher]),
    ):
        step = Distil(several=several, epochs=3)  # type: ignore[arg-type]
        found = step.learn(_net(4), context, sessions)
        assert context.evaluate(found).value >= 0.8


class Small(nn.Module):
    """A student for `tests.models.conv_net`: x [n, 3, 16, 16] to logits [n, 4]."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=4, padding=1)
        self.head = nn.Linear(6, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        logits: torch.Tensor = self.head(torch.relu(self.stem(x)).mean((2, 3)))
        return logits


def _small_training(classes: int = 4) -> Training:
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(24, 3, 16, 16)).astype(np.float32))
    source = MemorySource(
        samples=tuple(
            Sample(inputs={"picture": one[None].numpy()}, label=0, name="s")
            for one in inputs[:4]
        )
    )
    return toy_training(
        Small(classes),
        example=(inputs[:2],),
        batches=lambda _epoch: [((inputs,), None)],
        calibration=source,
        selection=source,
        task=replace(toy_training().task, labels=()),
    )


@pytest.fixture
def onnx_teacher(tmp_path: Path) -> str:
    """A file of a fixed batch of one, whose output is a softmax."""
    path = tmp_path / "teacher.onnx"
    path.write_bytes(models.conv_net())
    return str(path)


def test_a_teacher_is_any_file_and_shows_its_tensors(onnx_teacher: str) -> None:
    """An ONNX file of batch 1, its probabilities taken as such, a tensor matched."""
    training = _small_training()
    step = make_step(
        StepSpec(
            name="distil",
            params={
                "teachers": [onnx_teacher],
                "match": ["stem=stem_a"],
                "epochs": 2,
                "response": "softened",
            },
        ),
        TRAIN_STEPS,
    )
    found = step.apply(training.module, _context(training))
    assert isinstance(found, Small)


def test_a_tensor_that_the_teacher_has_not_is_refused(onnx_teacher: str) -> None:
    """In a file and in a session; the nearest one is named."""
    training = _small_training()
    step = Distil(teachers=(onnx_teacher,), match=("stem=stem_q",))
    with pytest.raises(UsageError, match="stem_q") as caught:
        step.apply(training.module, _context(training))
    assert "stem" in caught.value.hint
    with pytest.raises(UsageError, match="no output 'logit'"):
        Distil(match=("classifier=logit",)).learn(
            ToyNet(), _context(toy_training()), [toy_training().session(ToyNet())]
        )


def test_a_teacher_of_other_classes_is_refused(onnx_teacher: str) -> None:
    """Before anything is trained, and both are told."""
    training = _small_training(classes=7)
    with pytest.raises(ModelError, match=r"student answers \[7\] classes.*\[4\]"):
        Distil(teachers=(onnx_teacher,)).apply(training.module, _context(training))


def test_a_teacher_of_other_inputs_is_refused(onnx_teacher: str) -> None:
    """A picture of another size or of other channels."""
    training = toy_training()
    with pytest.raises(DataError, match=r"teacher takes x float32\[1×3×16×16\]"):
        Distil(teachers=(onnx_teacher,)).apply(training.module, _context(training))


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"response": "hard"}, "response is 'hard'"),
        ({"several": "vote"}, "several is 'vote'"),
        ({"temperature": 0.0}, "temperature 0"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"weight": 1.5}, "weight 1.5"),
        ({"weight": 0.0}, "weight 0"),
        ({"learning_rate": -1.0}, "learning_rate -1"),
        ({"mixup": -0.1}, "mixup -0.1"),
        ({"mixup": float("inf")}, "mixup inf"),
        ({"mixup": 1.0, "response": "boxes"}, "labels of a detector cannot be mixed"),
        ({"response": "none"}, "nothing is matched"),
        ({"match": ("stem",)}, "LAYER=VALUE"),
    ],
)
def test_parameters_out_of_range_are_refused(
    params: dict[str, Any], match: str
) -> None:
    """When the step is made, not when it has trained for an hour."""
    with pytest.raises(UsageError, match=match):
        Distil(**params)


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([0.0, 1.0]), torch.tensor([0, 5]), torch.tensor([0]), [0, 1]],
)
def test_labels_that_are_no_classes_are_refused(labels: Any) -> None:
    """Floats, a class too many, too few labels, a list."""
    rows = torch.randn(2, 3)
    one = Comparison("decoupled", "mean", 4.0, student=rows, teachers=[rows])
    with pytest.raises(DataError, match="expected 2 indices of classes below 3"):
        one.loss(rows, [rows], labels)


@pytest.mark.parametrize(
    ("response", "shape"),
    [("softened", (2, 3, 4)), ("boxes", (2, 3)), ("boxes", (2, 9, 5))],
)
def test_answers_of_another_kind_are_refused(
    response: Response, shape: tuple[int, ...]
) -> None:
    """A detector's rows are no logits, and logits no rows."""
    rows = torch.zeros(shape)
    with pytest.raises(ModelError, match=f"loss '{response}' takes"):
        Comparison(response, "mean", 4.0, student=rows, teachers=[rows])


def test_rows_of_boxes_are_learnt_by_their_mean() -> None:
    """Two teachers of a detector are averaged, whatever `several` says."""
    rows = torch.rand(2, 5, 7)
    one = Comparison("boxes", "agreement", 1.0, student=rows, teachers=[rows, rows])
    assert one.loss(rows, [rows - 0.1, rows + 0.1], None).item() < 1e-10


def test_a_loop_that_diverges_leaves_the_student_as_it_was(
    taught: tuple[Training, TorchSession],
) -> None:
    """Samples of NaN: the error says what to look for."""
    training, teacher = taught

    def batches(epoch: int) -> Iterable[Batch]:
        return [
            (inputs, labels.float() * torch.nan)
            for inputs, labels in training.batches(epoch)
        ]

    broken = replace(
        training, batches=batches, loss=lambda logits, labels: logits[:, 0] @ labels
    )
    student = _net(4)
    before = student.stem.weight.detach().clone()
    with pytest.raises(ModelError, match="diverged"):
        Distil(epochs=1).learn(student, _context(broken), [teacher])
    torch.testing.assert_close(student.stem.weight, before)


def test_a_task_that_reads_an_unknown_output_is_refused(
    taught: tuple[Training, TorchSession],
) -> None:
    """The nearest output is named."""
    training, teacher = taught
    odd = replace(training, task=replace(training.task, output="logit"))
    with pytest.raises(UsageError, match="'logit'") as caught:
        Distil().learn(_net(4), _context(odd), [teacher])
    assert "logits" in caught.value.hint
