from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest

from skerry.app.profiling import device, runner
from skerry.runtimes import open_any
from skerry.tasks.made_up import made_up_inputs
from skerry.tasks.profiling import BLOCKS
from tests import models
from tests.twins import tflite_net


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the archive lies; what the runner sets for numpy does not stay."""
    for library in ("OMP", "OPENBLAS", "MKL"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)
    monkeypatch.setattr(runner, "TRIED_S", 0.0)
    return tmp_path


def ship(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make the archive as a device gets it."""
    (folder / "net.onnx").write_bytes(models.conv_net(size=64))
    (folder / "net.tflite").write_bytes(tflite_net())
    subjects = []
    for name in names:
        path = folder / ("net.tflite" if name == "litert" else "net.onnx")
        model = open_any(path)
        subjects.append(
            device.Shipped(
                model=model,
                runtime=name,
                inputs=made_up_inputs(model.inputs),
                threads=1,
            )
        )
    archive = folder / "run.pyz"
    archive.write_bytes(device._payload(subjects, 6))
    monkeypatch.setattr(sys, "argv", [str(archive)])


def test_all_runtimes_in_turns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw times of each block; LiteRT tells no operators. Each file comes once."""
    ship(folder, monkeypatch, "onnxruntime", "openvino", "litert")
    found = runner.profile(str(folder))
    assert len(found["peaks"]) == 2
    operators = []
    for subject in found["subjects"]:
        assert len(subject["blocks"]) == BLOCKS
        assert all(len(block["cpu_ms"]) == 1 for block in subject["blocks"])
        assert subject["version"] is not None
        operators.append(len(subject["blocks"][0]["operators"]))
    assert operators[0] >= 2
    assert operators[1] >= 2
    assert operators[2] == 0
    (kernel, *_) = found["subjects"][0]["blocks"][0]["operators"]
    assert kernel["inputs"][0] == ["float", [1, 3, 64, 64]]
    assert kernel["moved_bytes"] > 0
    assert sorted(path.name for path in folder.glob("model-*")) == [
        "model-0.onnx",
        "model-1.tflite",
    ]


def test_what_is_missing_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime's package, and numpy itself."""
    ship(folder, monkeypatch, "litert")
    real = builtins.__import__

    def without(missing: str) -> Any:
        def imported(name: str, *rest: Any) -> Any:
            if name.partition(".")[0] in (missing, "tflite_runtime"):
                raise ImportError(name)
            return real(name, *rest)

        return imported

    for package, said in (("ai_edge_litert", "ai-edge-litert"), ("numpy", "numpy")):
        with monkeypatch.context() as bare:
            bare.setattr(builtins, "__import__", without(package))
            with pytest.raises(runner.Refused, match=said) as caught:
                runner.profile(str(folder))
            assert caught.value.kind == "missing"


def test_what_fails_is_one_line_of_json(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model that is refused, a disk that is full."""
    monkeypatch.setattr(runner, "_end_with_input", lambda: None)
    ship(folder, monkeypatch, "onnxruntime")
    for error, kind in (
        (runner.Refused("model", "no such operator"), '"error": "model"'),
        (OSError(28, "No space left on device"), '"error": "storage"'),
    ):

        def refuse(_: str, error: Exception = error) -> dict[str, Any]:
            raise error

        monkeypatch.setattr(runner, "profile", refuse)
        assert runner.main(str(folder)) == 0
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(runner.MARK)
        assert kind in line
        assert '"python": "3.' in line


def test_a_trace_that_is_cut_off_is_a_full_disk() -> None:
    """Onnxruntime writes its profile beside the model."""
    with pytest.raises(runner.Refused, match="no room") as caught:
        runner._whole(b'[{"cat": ')
    assert caught.value.kind == "storage"
    assert runner._whole(b"[]") == []
