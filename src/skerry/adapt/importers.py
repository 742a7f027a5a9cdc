"""What reads files of other frameworks as ONNX graphs; entry points name the classes.

Nothing heavy is imported before a file is read: all of them are asked whose file it is.
"""

from __future__ import annotations

from pathlib import Path

from skerry.core.errors import ModelError, UsageError
from skerry.core.plugins import IMPORTERS, find, names
from skerry.core.seams import Importer
from skerry.graph import Graph
from skerry.runtimes._tflite_file import is_tflite, tflite_content

HEAD_BYTES = 64
"""How much of a file an importer is shown."""


class TfliteImporter:
    """TFLite files: floats, and full INT8 as QDQ pairs."""

    name = "tflite"

    def accepts(self, head: bytes) -> bool:
        """Whether a file begins as a TFLite file does."""
        return is_tflite(head)

    def read(self, path: Path) -> Graph:
        """Read a file.

        Raises:
            UsageError: It cannot be read.
            ModelError: It is damaged, or has what is not read.
            MissingExtraError: `tflite` is not installed.
        """
        from skerry.adapt.tflite import read_tflite_graph

        return read_tflite_graph(tflite_content(path), name=path.name)


def import_graph(path: Path) -> tuple[str, Graph]:
    """Read a file of whatever framework it is of.

    Returns:
        The importer's name, and the graph.

    Raises:
        UsageError: There is no such file, or it cannot be read.
        ModelError: No importer knows it, or the one that does cannot read it.
        MissingExtraError: What reads it is not installed.
    """
    importer = _importer_of(path)
    return importer.name, importer.read(path)


def _importer_of(path: Path) -> Importer[Graph]:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise UsageError(
            f"the model {path} cannot be read: {error.strerror or error}",
            hint="Check the path and its permissions.",
        ) from error
    known = names(IMPORTERS)
    for name in known:
        importer: Importer[Graph] = find(IMPORTERS, name)()
        if importer.accepts(head):
            return importer
    raise ModelError(
        f"{path} is of no format that is imported ({', '.join(known) or 'none'})",
        hint="An ONNX file needs no import. Otherwise export the model to ONNX.",
    )
