"""Inputs that are made up fit the signature, and nothing absurd is made."""

from __future__ import annotations

import numpy as np
import pytest

from skerry.core.errors import DataError, UsageError
from skerry.core.model import TensorSpec
from skerry.tasks.made_up import OPEN_SIZE, made_up_inputs

PICTURE = TensorSpec(name="x", dtype="float32", shape=("n", 3, None, 8))
LENGTH = TensorSpec(name="length", dtype="int64", shape=(1,))


def test_they_fit_the_signature() -> None:
    """Open axes get a size, floats are from 0 to 1, and a seed gives the same again."""
    made = made_up_inputs([PICTURE, LENGTH])
    assert made["x"].shape == (1, 3, OPEN_SIZE, 8)
    assert made["x"].dtype == np.float32
    assert 0 <= made["x"].min() < made["x"].max() <= 1
    assert made["length"].tolist() == [0]
    assert (made_up_inputs([PICTURE])["x"] == made["x"]).all()
    assert (made_up_inputs([PICTURE], seed=1)["x"] != made["x"]).any()


def test_a_shape_that_is_given_is_taken() -> None:
    """It must fit, and be for an input that there is."""
    assert made_up_inputs([PICTURE], shapes={"x": (2, 3, 4, 8)})["x"].shape[2] == 4
    with pytest.raises(UsageError, match="cannot have the shape"):
        made_up_inputs([PICTURE], shapes={"x": (2, 3, 4, 9)})
    with pytest.raises(UsageError, match="no input 'y'"):
        made_up_inputs([PICTURE], shapes={"y": (1,)})


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("object", (1,)),
        ("str", (1,)),
        ("bfloat17", (2,)),
        ("float32", (1 << 40, 1 << 40)),
    ],
)
def test_what_cannot_be_made_up(dtype: str, shape: tuple[int, ...]) -> None:
    """Texts, unknown types and more memory than is sensible are refused."""
    spec = TensorSpec(name="x", dtype=dtype, shape=shape)
    with pytest.raises(DataError, match="cannot be made up"):
        made_up_inputs([spec])
