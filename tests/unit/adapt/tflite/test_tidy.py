"""What a net does not need is left out."""

from __future__ import annotations

import numpy as np

from skerry.adapt.tflite.net import LEFT_OUT, Net, Operator, Tensor
from skerry.adapt.tflite.tidy import only_used, tidied

SHAPES = ((1, 6), (1, 1, 6), (2, 3), (1, 6), (1, 6), (3, 2))


def net(*operators: tuple[str, int, int], output: int) -> Net:
    """A chain of tensors of `SHAPES`; the last one says a shape."""
    tensors = [
        Tensor(name=f"t{place}", dtype="float32", shape=shape)
        for place, shape in enumerate(SHAPES)
    ]
    shape = Tensor(
        name="shape", dtype="int32", shape=(2,), content=np.array([1, 6], np.int32)
    )
    return Net(
        tensors=(*tensors, shape),
        operators=tuple(
            Operator(
                code=code,
                inputs=(read, len(SHAPES) if code == "RESHAPE" else LEFT_OUT),
                outputs=(made,),
            )
            for code, read, made in operators
        ),
        inputs=(0,),
        outputs=(output,),
    )


def test_reshapes_back_to_the_same_go() -> None:
    """All of a chain that ends as it began; what reads its end reads its beginning."""
    found = tidied(
        net(
            ("RESHAPE", 0, 1),
            ("RESHAPE", 1, 2),
            ("RESHAPE", 2, 3),
            ("RELU", 3, 4),
            output=4,
        )
    )
    (relu,) = found.operators
    assert relu.inputs == (found.inputs[0], LEFT_OUT)
    assert [tensor.name for tensor in found.tensors] == ["t0", "t4"]


def test_a_chain_that_ends_otherwise_is_one() -> None:
    """And an output is never taken away."""
    found = tidied(net(("RESHAPE", 0, 1), ("RESHAPE", 1, 5), output=5))
    assert [one.code for one in found.operators] == ["RESHAPE"]
    kept = tidied(net(("RESHAPE", 0, 1), ("RESHAPE", 1, 3), output=3))
    assert [one.code for one in kept.operators] == ["RESHAPE"]


def test_what_nobody_reads_goes() -> None:
    """Inputs stay."""
    found = only_used(net(("RELU", 0, 3), ("RELU", 0, 4), output=4))
    assert [tensor.name for tensor in found.tensors] == ["t0", "t4"]
    assert len(found.operators) == 1
