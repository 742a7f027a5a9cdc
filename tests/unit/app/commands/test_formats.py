"""`skerry import` and `skerry export`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import TargetError, ToolchainError
from tests.commands import Typist
from tests.tflite import float_graph, quantized
from tests.twins import tflite_net
from tests.velas import install_vela

BODY = "c = Conv(x, w) r = Relu(c) g = GlobalAveragePool(r) y = Flatten(g)"


@pytest.fixture
def typist(capsys: pytest.CaptureFixture[str]) -> Typist:
    """Types commands."""
    return Typist(capsys)


def test_a_tflite_file_becomes_onnx(typist: Typist, tmp_path: Path) -> None:
    """And goes back; people see the signature."""
    source, middle = tmp_path / "a.tflite", tmp_path / "new" / "b.onnx"
    source.write_bytes(tflite_net())
    found = typist.ask("import", str(source), "-o", str(middle))
    assert (found["importer"], found["operators"]["Conv"]) == ("tflite", 1)
    assert "input x float32[1×8×8×3]" in typist.see(
        "import", str(source), "-o", str(middle)
    )
    back = tmp_path / "c.tflite"
    made = typist.ask("export", str(middle), "--to", "tflite", "-o", str(back))
    assert made["model"]["inputs"] == found["model"]["inputs"]
    assert made["integer_operators"] == 0
    told = typist.see("export", str(middle), "--to", "tflite", "-o", str(back))
    assert "on floats" in told
    assert "in float:" in told


def test_codes_go_out_as_codes(typist: Typist, tmp_path: Path) -> None:
    """A batch of any size becomes one; samples give scales to what has none."""
    graph = float_graph(
        f"net (float[N, 4, 9, 9] x) => (float[N, 4] y) {{ {BODY} }}",
        {"w": (4, 4, 3, 3)},
    )
    fixed = float_graph(
        f"net (float[1, 4, 9, 9] x) => (float[1, 4] y) {{ {BODY} }}",
        {"w": (4, 4, 3, 3)},
    )
    model, samples = tmp_path / "m.onnx", tmp_path / "s.npz"
    model.write_bytes(graph.to_bytes())
    np.savez(samples, x=np.random.default_rng(0).normal(size=(8, 4, 9, 9)).astype("f"))
    out = str(tmp_path / "m.tflite")
    found = typist.ask("export", str(model), "--to", "tflite", "-o", out)
    assert found["model"]["inputs"][0]["shape"] == [1, 9, 9, 4]
    model.write_bytes(quantized(fixed).to_bytes())
    words = ["export", str(model), "--to", "tflite", "-o", out]
    found = typist.ask(*words, "--calibration", str(samples), "--keep-layout")
    assert found["float_operators"] == []
    assert found["model"]["inputs"][0]["dtype"] == "int8"


def test_what_cannot_be_written_leaves_nothing(typist: Typist, tmp_path: Path) -> None:
    """A wrong name, and an operator that TFLite lacks."""
    model = tmp_path / "m.onnx"
    graph = float_graph("net (float[3] x) => (float[3] y) { y = Erf(x) }")
    model.write_bytes(graph.to_bytes())
    words = ["export", str(model), "--to", "tflite", "-o"]
    told = typist.ask(*words, str(tmp_path / "m.bin"), code=2)
    assert "m.tflite" in told["hint"]
    told = typist.ask(*words, str(tmp_path / "m.tflite"), code=10)
    assert "Erf" in told["what"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx"]


COPY = """#!/bin/sh
for last; do out="$last"; done
cat > "$out/net_per-layer.csv" <<'END'
{layers}END
cat > "$out/net_summary_X.csv" <<'END'
{summary}END
cp "$1" "$out/net_vela.tflite"
"""


def test_a_model_is_compiled_for_a_target(
    typist: Typist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From ONNX and from TFLite alike; the compiler's word is told."""
    source, middle = tmp_path / "a.tflite", tmp_path / "b.onnx"
    source.write_bytes(tflite_net())
    typist.ask("import", str(source), "-o", str(middle))
    monkeypatch.setenv("SKERRY_TOOLCHAINS", str(tmp_path / "tools"))
    out = tmp_path / "new" / "c.tflite"
    words = ["--target", "ethos-u55-128", "-o", str(out)]
    told = typist.ask("export", str(middle), *words, code=ToolchainError.exit_code)
    assert told["hint"] == "skerry toolchain install vela"
    assert not out.exists()
    install_vela(tmp_path / "tools", script=COPY)
    for model in (source, middle):
        found = typist.ask("export", str(model), *words)
        assert found["compiled"]["cycles"] == 89900
        assert found["model"]["path"] == str(out)
        assert out.stat().st_size == found["model"]["size_bytes"]
    seen = typist.see("export", str(source), *words)
    assert "1 of 2 operators on the accelerator" in seen
    assert "on the CPU: Sin" in seen


def test_a_target_without_a_compiler_is_refused(typist: Typist, tmp_path: Path) -> None:
    """And a TFLite file is not written again as one."""
    source = tmp_path / "a.tflite"
    source.write_bytes(tflite_net())
    words = ["export", str(source), "-o", str(tmp_path / "c.tflite")]
    assert "--target" in typist.ask(*words, code=2)["hint"]
    told = typist.ask(*words, "--target", "x86-64", code=TargetError.exit_code)
    assert "Vela does not compile for x86-64" in told["what"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tflite"]
