"""A recipe that trains: first the module, then its graph."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from skerry.compress.train.fit import fit
from skerry.compress.train.from_graph import from_graph
from skerry.compress.train.run import train_recipe
from skerry.compress.train.training import Batch, TrainContext
from skerry.core.budget import Budget
from skerry.core.errors import UsageError
from skerry.core.plugins import TRAIN_STEPS
from skerry.core.recipe import ParamValue, Recipe, StepSpec
from skerry.graph import read_graph
from skerry.runtimes import get_runtime
from skerry.runtimes.torch import nn
from tests.training import toy_training


@dataclass(frozen=True, slots=True, kw_only=True)
class Tune:
    """Trains on."""

    epochs: int = 1

    def apply(self, module: nn.Module, context: TrainContext) -> nn.Module:
        changed = copy.deepcopy(module)
        fit(changed, context.training, epochs=self.epochs, seed=context.seed)
        return changed


@pytest.fixture(autouse=True)
def _known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package is installed that brings a step `tune`, which trains."""
    about = tmp_path / "packages" / "theirs-1.0.dist-info"
    about.mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n"
    (about / "METADATA").write_text(metadata)
    (about / "entry_points.txt").write_text(
        f"[{TRAIN_STEPS}]\ntune = their_steps:Tune\n"
    )
    steps = ModuleType("their_steps")
    steps.__dict__["Tune"] = Tune
    monkeypatch.setitem(sys.modules, "their_steps", steps)
    monkeypatch.syspath_prepend(str(about.parent))


def recipe(*steps: tuple[str, dict[str, ParamValue]]) -> Recipe:
    """A recipe of names and parameters."""
    return Recipe(
        steps=tuple(StepSpec(name=name, params=params) for name, params in steps)
    )


def test_steps_that_train_are_followed_by_those_on_the_graph() -> None:
    """The module is trained, exported, quantized; what was given is as it was."""
    training = toy_training()
    before = copy.deepcopy(training.module.state_dict())
    told = set()
    made = train_recipe(
        training,
        recipe(("tune", {"epochs": 2}), ("quantize", {"operators": "all"})),
        runtime=get_runtime("onnxruntime"),
        budget=Budget(accuracy_drop=0.1),
        progress=lambda what, _done, _total: told.add(what),
    )
    assert [entry.step.name for entry in made.log] == ["tune"]
    assert made.log[0].score > 0.9
    assert made.log[0].parameters == sum(p.numel() for p in made.module.parameters())
    assert "QuantizeLinear" in {node.op_type for node in made.graph.nodes}
    assert made.graph.outputs[0].name == "logits"
    assert {"evaluate", "calibrate"} <= told
    after = training.module.state_dict()
    assert all(after[name].equal(tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("steps", "what"),
    [
        ([("quantize", {}), ("tune", {})], "'tune' trains, and comes after 'quantize'"),
        ([("tun", {})], "there is no step called 'tun'"),
        ([("tune", {"epoch": 1})], "has no parameter 'epoch'"),
        ([("tune", {"epochs": "many"})], "'epochs' of the step 'tune' is 'many'"),
        ([("tune", {}), ("quantize", {"operators": "x"})], "quantize the operators"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_before_anything_is_trained(
    steps: list[tuple[str, dict[str, ParamValue]]], what: str
) -> None:
    """Also where what is wrong comes last."""

    def never(_epoch: int) -> list[Any]:
        raise AssertionError

    training = toy_training(batches=never)
    with pytest.raises(UsageError, match=what):
        train_recipe(training, recipe(*steps), runtime=get_runtime("onnxruntime"))


def test_an_interrupted_run_leaves_the_last_step_that_was_done(tmp_path: Path) -> None:
    """Ctrl-C in the second step: the first one's model is there, and is whole."""
    training, out = toy_training(), tmp_path / "model.onnx"
    looked = iter(range(10**6))

    def batches(epoch: int) -> Iterable[Batch]:
        if next(looked) == 2:
            raise KeyboardInterrupt
        return training.batches(epoch)

    with pytest.raises(KeyboardInterrupt):
        train_recipe(
            replace(training, batches=batches),
            recipe(("tune", {"epochs": 2}), ("tune", {})),
            runtime=get_runtime("onnxruntime"),
            out=out,
        )
    module = from_graph(read_graph(out))
    assert training.score(module).value > training.score(training.module).value
    made = train_recipe(
        training, recipe(("half", {})), runtime=get_runtime("onnxruntime"), out=out
    )
    assert out.read_bytes() == made.graph.to_bytes()
