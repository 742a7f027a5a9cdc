"""A production model from a public wheel: PP-OCR's recognition net (Apache-2.0)."""

import importlib.util
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from skerry.core.seams import Array, LoadOptions, Precision
from skerry.graph import open_model, read_graph
from skerry.runtimes import get_runtime
from skerry.tasks import _image

LINES = ("Meter 0417 read", "Harbour gate B12", "tide table 1987")


def package_folder(name: str) -> Path:
    """Where an installed package lies; the test is skipped if it is not installed."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"{name.replace('_', '-')} is not installed")
    return Path(spec.origin).parent


def line_picture(text: str) -> Array:
    """Draw a line as the net takes it: [1, 3, 48, 320], from -1 to 1, then zeros."""
    folder = package_folder("font_source_sans_pro")
    font = min(folder.rglob("*-Regular.*"))
    drawn = _image.draw_text(text, font_path=font, size_px=40)
    width = min(320, drawn.shape[1] * 48 // drawn.shape[0])
    line = _image.resize(drawn, 48, width, "bilinear").astype(np.float32)
    filled = np.zeros((48, 320), np.float32)
    filled[:, :width] = (line / 255 - 0.5) / 0.5
    return np.broadcast_to(filled, (1, 3, 48, 320)).copy()


@pytest.mark.parametrize("precision", ["float32", "default"])
def test_the_runtimes_read_the_same_text(precision: Precision) -> None:
    """And it is the text that was drawn; in float32, step by step the same."""
    folder = package_folder("rapidocr_onnxruntime")
    path = folder / "models" / "ch_PP-OCRv4_rec_infer.onnx"
    model = open_model(path)
    characters = ["", *read_graph(path).metadata["character"].splitlines(), " "]
    steps: dict[str, list[Array]] = {}
    for name in ("onnxruntime", "openvino"):
        session = get_runtime(name).load(model, LoadOptions(precision=precision))
        for line in LINES:
            (scores,) = session.run({"x": line_picture(line)}).values()
            best = scores[0].argmax(axis=-1)
            read = "".join(characters[index] for index, _ in groupby(best))
            assert read == line, name
            steps.setdefault(name, []).append(best)
        session.close()
    if precision == "float32":
        np.testing.assert_array_equal(steps["onnxruntime"], steps["openvino"])
