"""Which importer reads a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.adapt.importers import import_graph
from skerry.core.errors import ModelError, UsageError
from tests import models
from tests.twins import tflite_net


def test_a_file_is_known_by_how_it_begins(tmp_path: Path) -> None:
    """Its name does not matter."""
    path = tmp_path / "net.bin"
    path.write_bytes(tflite_net())
    name, graph = import_graph(path)
    assert (name, graph.name) == ("tflite", "net.bin")
    assert graph.inputs[0].name == "x"


def test_other_files_are_refused(tmp_path: Path) -> None:
    """An ONNX file needs no import; a file that is not there is told."""
    path = tmp_path / "net.onnx"
    path.write_bytes(models.mlp())
    with pytest.raises(ModelError, match="of no format that is imported") as caught:
        import_graph(path)
    assert "needs no import" in caught.value.hint
    with pytest.raises(UsageError, match="cannot be read"):
        import_graph(tmp_path / "nowhere.tflite")
