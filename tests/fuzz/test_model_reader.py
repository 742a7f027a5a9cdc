from __future__ import annotations

import contextlib

from hypothesis import example, given, settings
from hypothesis import strategies as st

from skerry.core.errors import ModelError
from skerry.graph import count, fold_batch_norm, infer_shapes, parse_graph
from tests import models
from tests.strategies import damaged

SMALL = tuple(build() for build in models.ALL)


def read(content: bytes) -> None:
    """Read bytes, and use what is read: a graph, or an error of our tree."""
    with contextlib.suppress(ModelError):
        graph = parse_graph(content, name="fuzzed")
        assert graph.inputs is not None
        assert parse_graph(graph.to_bytes()).to_bytes() == graph.to_bytes()
        count(fold_batch_norm(infer_shapes(graph)))


@settings(max_examples=400)
@given(damaged(SMALL))
@example(SMALL[0][:1000])
def test_damaged_models(content: bytes) -> None:
    """A damaged model is read or refused; nothing hangs, crashes or leaks."""
    read(content)


@given(st.binary(max_size=400))
def test_random_bytes(content: bytes) -> None:
    """Random bytes are refused."""
    read(content)
