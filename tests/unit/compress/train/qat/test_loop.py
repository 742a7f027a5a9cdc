from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from skerry.compress import quantization_aware
from skerry.core.errors import DataError, ModelError
from skerry.core.seams import LoadOptions
from skerry.runtimes import get_runtime
from skerry.runtimes.torch import functional, torch
from tests import training

TOY = training.toy_training()
SAMPLES = [inputs[0] for inputs, _ in list(TOY.batches(0))[:1]]


def test_the_users_own_loop_exports_what_it_trained(tmp_path: Path) -> None:
    """Five lines of training; the file answers as the network does."""
    before = copy.deepcopy(TOY.module.state_dict())
    with quantization_aware(TOY.module, SAMPLES, weight_bits=4) as net:
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
        for (pictures,), labels in TOY.batches(0):
            functional.cross_entropy(net(pictures), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert not net.training
    model = net.export(tmp_path / "small.onnx")
    assert [spec.name for spec in (*model.inputs, *model.outputs)] == [
        "picture",
        "output",
    ]
    session = get_runtime("onnxruntime").load(model, LoadOptions())
    pictures, _ = training.pictures(50, seed=9)
    with torch.inference_mode():
        expected = net(torch.from_numpy(pictures)).numpy()
    found = session.run({"picture": pictures})["output"]
    assert np.array_equal(found.argmax(1), expected.argmax(1))
    assert all(
        torch.equal(one, before[name]) for name, one in TOY.module.state_dict().items()
    )


def test_a_loop_that_diverged_is_told_of() -> None:
    """At the end of the block, not when the file is in the field."""
    with (
        pytest.raises(ModelError, match="NaN"),
        quantization_aware(TOY.module, SAMPLES) as net,
        torch.no_grad(),
    ):
        next(net.parameters()).fill_(float("inf"))


def test_the_users_own_error_comes_through() -> None:
    """What the loop raises is what the caller sees."""
    with pytest.raises(KeyError), quantization_aware(TOY.module, SAMPLES):
        raise KeyError


@pytest.mark.parametrize(
    ("samples", "match"),
    [
        ([], "no samples"),
        ([(SAMPLES[0], SAMPLES[0])], "2 tensors"),
        ([SAMPLES[0], (SAMPLES[0], SAMPLES[0])], "2 tensors"),
        ([SAMPLES[0], SAMPLES[0][:, :, :4]], "picture"),
        ([torch.zeros_like(SAMPLES[0])], "same|zero"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    samples: list[torch.Tensor | tuple[torch.Tensor, ...]], match: str
) -> None:
    """None, too many tensors, another shape, and nothing but zeros."""
    with (
        pytest.raises(DataError, match=match),
        quantization_aware(TOY.module, samples),
    ):
        pass
