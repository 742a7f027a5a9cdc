"""What is known of a shape."""

from __future__ import annotations

import pytest

from skerry.graph.sizes import Sizes, merge_sizes


@pytest.mark.parametrize(
    ("known", "inferred", "merged"),
    [
        (None, (1, "n"), (1, "n")),
        ((1, 2, 3), (1, 2), (1, 2)),
        (("batch", None), ("unk__0", 8), ("batch", 8)),
        ((4, "n"), ("unk__1", "m"), (4, "m")),
        ((None, 3), (None, None), (None, 3)),
    ],
)
def test_who_knows_more_is_heard(
    known: Sizes | None, inferred: Sizes, merged: Sizes
) -> None:
    """Numbers before symbols, symbols of the file before made-up ones."""
    assert merge_sizes(known, inferred) == merged
