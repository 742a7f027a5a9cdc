"""A module becomes a graph that gives what it gives, or an error says why not."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from skerry.compress.train.export import export_graph
from skerry.compress.train.from_graph import from_graph
from skerry.core.errors import ModelError, UsageError
from skerry.graph import Graph
from skerry.runtimes.torch import Tensor, functional, nn, torch
from tests.training import toy_training


def export(module: Any, outputs: tuple[str, ...] = ("y",)) -> Graph:
    """Export what takes an `x` float32 [batch, 6]."""
    example = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    return export_graph(module, (example,), inputs=("x",), outputs=outputs)


def test_parameters_keep_their_names_and_the_batch_any_size() -> None:
    """Batch norms stay nodes of their own, and the signature is the one named."""
    training = toy_training()
    graph = export_graph(
        training.module, training.example, inputs=("picture",), outputs=("logits",)
    )
    state = set(training.module.state_dict())
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    assert {value.name for value in graph.initializers} == state - counters
    assert [str(spec) for spec in (*graph.inputs, *graph.outputs)] == [
        "picture float32[batch×1×8×8]",
        "logits float32[batch×2]",
    ]
    assert not training.module.training


def test_a_program_of_torch_export_is_taken_too(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Its parameters keep their names; nothing is printed, no log level changed."""
    level = logging.getLogger("torch.onnx").level
    net = nn.Sequential(nn.Linear(6, 3), nn.ReLU()).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        net, (torch.rand(4, 6),), dynamic_shapes=({0: batch},)
    )
    graph = export(program)
    assert {value.name for value in graph.initializers} == {"0.weight", "0.bias"}
    assert graph.outputs[0].shape[1:] == (3,)
    assert isinstance(graph.inputs[0].shape[0], str)
    x = torch.rand(3, 6)
    assert torch.allclose(from_graph(graph)(x), net(x), atol=1e-6)
    assert logging.getLogger("torch.onnx").level == level
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_what_knows_its_own_graph_is_asked_for_it() -> None:
    """A module made of a graph is written as that graph."""
    graph = export(nn.Linear(6, 2))
    assert export(from_graph(graph)).to_bytes() == graph.to_bytes()


class Branching(nn.Module):
    """Does something else for one sample than for more."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if len(x) > 1 else x


class Frozen(nn.Module):
    """Reshapes to the batch of the example."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(int(x.shape[0]) * 3, 2)[::3]


class Sorting(nn.Module):
    """Uses what ONNX has no word for."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x[:4, :4]).real


def test_a_branch_that_the_example_froze_is_found() -> None:
    """The first row alone is run too, and must give what the module gives."""
    with pytest.raises(ModelError, match=r"'y' is off by .* of its largest"):
        export(Branching())


def test_what_cannot_be_exported_is_one_line() -> None:
    """No traceback of the exporter, but what it could not write."""
    with pytest.raises(ModelError, match="the Sorting cannot be exported: ") as raised:
        export(Sorting())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("outputs", [(), ("y", "z")])
def test_names_that_do_not_fit_the_outputs_are_refused(
    outputs: tuple[str, ...],
) -> None:
    """One name for each tensor that the module returns."""
    with pytest.raises(UsageError, match=f"{len(outputs)} names for the 1 outputs"):
        export(nn.Linear(6, 2), outputs=outputs)


def test_several_outputs_and_dropout_are_exported_as_in_eval_mode() -> None:
    """Nothing is dropped, and each output has its name, in order."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            hidden = functional.dropout(self.layer(x), training=self.training)
            return {"hidden": hidden, "total": hidden.sum(1)}

    graph = export(Two(), outputs=("a", "b"))
    assert [(spec.name, spec.shape) for spec in graph.outputs] == [
        ("a", ("batch", 2)),
        ("b", ("batch",)),
    ]
    assert "Dropout" not in {node.op_type for node in graph.nodes}
