"""Vela in its own environment: called with files, believed only when it is whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skerry.adapt.target_files import load_target
from skerry.app.pipelines.vela import VelaToolchain, vela_options
from skerry.core.errors import ModelError, TargetError, ToolchainError
from skerry.core.model import Model, ModelFormat
from skerry.core.seams import Toolchain
from tests.velas import install_vela

ETHOS = load_target("ethos-u55-128")


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """What Vela is given; the script does not look into it."""
    path = tmp_path / "net.tflite"
    path.write_bytes(b"TFL3")
    return Model(
        path=path,
        format=ModelFormat.TFLITE,
        inputs=(),
        outputs=(),
        sha256="0" * 64,
        size_bytes=4,
    )


def test_a_model_is_compiled(tmp_path: Path, model: Model) -> None:
    """Figures come back, the compiled model is kept, the target's flags are passed."""
    install_vela(tmp_path)
    toolchain: Toolchain = VelaToolchain(folder=tmp_path)
    out = tmp_path / "compiled.tflite"
    found = toolchain.compile(model, ETHOS, out)
    assert found.toolchain == toolchain.version == "Vela 5.2.0"
    assert found.cycles == 89900
    assert out.read_bytes() == b"compiled"
    arguments = (tmp_path / "arguments").read_text()
    assert "--accelerator-config=ethos-u55-128" in arguments
    assert str(model.path) in arguments


def test_a_missing_vela_says_how_to_get_it(tmp_path: Path, model: Model) -> None:
    """Nothing is installed: the command that does."""
    with pytest.raises(ToolchainError, match="is not installed") as caught:
        VelaToolchain(folder=tmp_path).compile(model, ETHOS)
    assert caught.value.hint == "skerry toolchain install vela"


def test_another_vela_is_not_believed(tmp_path: Path, model: Model) -> None:
    """An environment of another version: what is there, what is expected, how."""
    install_vela(tmp_path, packages=("ethos-u-vela==3.0",))
    with pytest.raises(ToolchainError, match="installed as 'Vela 5") as caught:
        VelaToolchain(folder=tmp_path).compile(model, ETHOS)
    assert "expected ethos-u-vela==5" in caught.value.what
    assert caught.value.hint == "skerry toolchain install vela"


def test_what_vela_does_not_compile_is_the_models_fault(
    tmp_path: Path, model: Model
) -> None:
    """Its last words are told."""
    install_vela(tmp_path, script="#!/bin/sh\necho 'Invalid tflite file'; exit 3\n")
    with pytest.raises(ModelError, match=r"net\.tflite.*Invalid tflite file"):
        VelaToolchain(folder=tmp_path).compile(model, ETHOS)


def test_a_vela_that_hangs_is_its_own_fault(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model may be fine: nothing is said against it."""
    monkeypatch.setattr("skerry.app.pipelines.vela.COMPILE_TIMEOUT_S", 0.3)
    install_vela(tmp_path, script="#!/bin/sh\necho 'exit code'; exec sleep 60\n")
    with pytest.raises(ToolchainError, match=r"longer than 0\.3 s"):
        VelaToolchain(folder=tmp_path).compile(model, ETHOS)


def test_a_vela_that_writes_nothing_is_refused(tmp_path: Path, model: Model) -> None:
    """An exit code of 0 is not enough."""
    install_vela(tmp_path, script="#!/bin/sh\nexit 0\n")
    with pytest.raises(ToolchainError, match="wrote 0 files"):
        VelaToolchain(folder=tmp_path).compile(model, ETHOS)


def test_vela_takes_tflite_for_ethos_u(tmp_path: Path, model: Model) -> None:
    """Another format and another target are refused before anything runs."""
    toolchain = VelaToolchain(folder=tmp_path)
    with pytest.raises(ModelError, match="Vela compiles TFLite files"):
        toolchain.compile(replace(model, format=ModelFormat.ONNX), ETHOS)
    with pytest.raises(TargetError, match="does not compile for x86-64"):
        vela_options(load_target("x86-64"))
