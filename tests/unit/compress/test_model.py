from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import skerry.compress
from skerry.compress import Quantize, quantize_model
from skerry.core.errors import DataError, ModelError, SkerryError, UsageError
from skerry.graph import parse_graph
from tests import models, running


def write(folder: Path, content: bytes) -> Path:
    """Put a model into a folder."""
    path = folder / "net.onnx"
    path.write_bytes(content)
    return path


def test_a_file_and_samples_make_a_file(tmp_path: Path) -> None:
    """From dicts and from an .npz alike: the same bytes."""
    content = models.conv_net()
    path = write(tmp_path, content)
    samples = [running.random_inputs(parse_graph(content), k) for k in range(8)]
    first = quantize_model(path, samples, out=tmp_path / "first.onnx")
    arrays = {"x": np.concatenate([sample["x"] for sample in samples])}
    np.savez(tmp_path / "samples.npz", **arrays)
    second = quantize_model(
        path, str(tmp_path / "samples.npz"), out=str(tmp_path / "second.onnx")
    )
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.sha256 == second.sha256


def test_what_is_wrong_leaves_nothing_behind(tmp_path: Path) -> None:
    """No samples, samples that do not fit, a broken model, a name that is taken."""
    content = models.conv_net()
    path, out = write(tmp_path, content), tmp_path / "out.onnx"
    sample = running.random_inputs(parse_graph(content), 0)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(content[:400])
    with pytest.raises(DataError, match="no calibration samples"):
        quantize_model(path, [], out=out)
    with pytest.raises(DataError, match="expected float32"):
        quantize_model(path, [{"x": sample["x"].astype(np.float64)}], out=out)
    with pytest.raises(DataError, match="becomes NaN"):
        quantize_model(path, [{"x": sample["x"] * np.nan}], out=out, step=Quantize())
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        quantize_model(broken, [sample], out=out)
    with pytest.raises(UsageError, match="would replace"):
        quantize_model(path, [sample], out=path)
    with pytest.raises(UsageError, match="is not there"):
        quantize_model(path, [sample], out=tmp_path / "no" / "out.onnx")
    assert not out.exists()
    assert path.read_bytes() == content


def test_names_are_found_when_asked_for() -> None:
    """What needs more than numpy is there; what is not, is an AttributeError."""
    assert all(getattr(skerry.compress, name) for name in skerry.compress.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = skerry.compress.nothing


def test_the_error_of_a_missing_file_is_ours(tmp_path: Path) -> None:
    """And names it."""
    with pytest.raises(SkerryError, match=r"gone\.onnx"):
        quantize_model(tmp_path / "gone.onnx", [], out=tmp_path / "out.onnx")
