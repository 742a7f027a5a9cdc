from __future__ import annotations

import pytest

from skerry.compress.search import elsewhere
from skerry.compress.search.elsewhere import other_runtimes
from skerry.core.errors import MissingExtraError, StateError
from skerry.core.seams import Runtime
from skerry.runtimes import get_runtime


def test_the_others_are_found() -> None:
    """All that run ONNX files, but the named one and the fake."""
    found, missing = other_runtimes("onnxruntime")
    assert [one.name for one in found] == ["openvino"]
    assert missing == {}


def test_one_that_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing library, or a broken one, is no error: it is not tried."""

    def get(name: str) -> Runtime:
        if name == "onnxruntime":
            raise StateError("it is broken", hint="Install it again.")
        if name == "openvino":
            raise MissingExtraError("openvino", extra="openvino")
        return get_runtime(name)

    monkeypatch.setattr(elsewhere, "get_runtime", get)
    found, missing = other_runtimes("torch")
    assert found == ()
    assert missing == {
        "onnxruntime": "not tried: it is broken",
        "openvino": "not tried: pip install 'skerry[openvino]'",
    }
