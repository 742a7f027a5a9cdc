from __future__ import annotations

import importlib
import importlib.util

import pytest

import skerry.cloud
from skerry.core.errors import MissingExtraError


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the hub's libraries the error gives the line that installs them."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="alembic") as caught:
        importlib.reload(skerry.cloud)
    assert caught.value.hint == "pip install 'skerry[hub]'"
