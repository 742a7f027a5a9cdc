from collections.abc import Callable
from pathlib import Path

import pytest

from skerry.core.model import Model
from skerry.graph import open_model

Stored = Callable[[bytes], Model]


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """Write the bytes of a model to a file, and open it."""

    def store(content: bytes) -> Model:
        path = tmp_path / "net.onnx"
        path.write_bytes(content)
        return open_model(path)

    return store
