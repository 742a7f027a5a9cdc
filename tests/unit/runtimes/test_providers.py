from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from skerry.core.errors import ModelError, RuntimeFailure, UsageError
from skerry.core.model import ModelFormat
from skerry.core.seams import LoadOptions
from skerry.graph import open_model
from skerry.runtimes.onnxruntime import OnnxRuntime
from tests.operators import operator_library, operator_net
from tests.twins import inputs_for, twin

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.mark.parametrize("wished", [(), ("cpu",), ("CPU",), (CPU,), ("cpu", "cpu")])
def test_the_cpu_is_the_usual(wished: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever it is called, and it is no fallback."""
    model = twin(ModelFormat.ONNX, tmp_path)
    session = OnnxRuntime().load(model, LoadOptions(providers=wished))
    assert (session.providers, session.fallbacks) == (("cpu",), ())


def test_what_is_not_here_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs on the CPU, and the log and the session say why."""
    model = twin(ModelFormat.ONNX, tmp_path)
    with caplog.at_level(logging.WARNING):
        session = OnnxRuntime().load(model, LoadOptions(providers=("cuda", "coreml")))
    assert session.providers == ("cpu",)
    assert session.fallbacks == (
        "cuda is not in this build of onnxruntime",
        "coreml is not in this build of onnxruntime",
    )
    assert [record.message for record in caplog.records] == ["runtime.fallback"] * 2
    assert session.run(inputs_for(model))["y"].shape == (1, 3)


def test_a_name_that_nobody_knows_is_a_mistake(tmp_path: Path) -> None:
    """A near one is offered."""
    model = twin(ModelFormat.ONNX, tmp_path)
    for wrong in ("cdua", "CdUaExecutionProvider"):
        with pytest.raises(UsageError, match="no execution provider called") as caught:
            OnnxRuntime().load(model, LoadOptions(providers=(wrong,)))
        assert "cuda" in caught.value.hint


PRINTED = (
    b"\x1b[1;31m2026-11-21 15:26:27.015595890 [E:onnxruntime:Default, bridge.cc:2458 "
    b"operator()] bridge.cc:2043 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load "
    b"library providers_cuda.so with error: libcublasLt.so.13: cannot open shared "
    b"object file\n\x1b[m\n"
    b"\x1b[0;93m2026-11-21 15:26:27.016556219 [W:onnxruntime:Default, state.cc:1295 "
    b"Create] Failed to create CUDAExecutionProvider.\x1b[m\n"
)
"""What the build with CUDA prints on a machine without its libraries."""


class FakeSession:
    """onnxruntime with a CUDA that is built in and fails, loudly or quietly."""

    is_loud = True

    def __init__(self, path: str, settings: object, **rest: object) -> None:
        del path, settings
        assert rest["enable_fallback"] == 0
        asked = rest["providers"]
        assert isinstance(asked, list)
        assert asked[-1] == CPU
        if self.is_loud and CUDA in asked:
            raise RuntimeError(
                "[ONNXRuntimeError] : 1 : FAIL : libcudart.so.12: cannot open"
            )
        if CUDA in asked:
            os.write(2, PRINTED)
        self.providers = [CPU]

    def get_providers(self) -> list[str]:
        return self.providers


@pytest.mark.parametrize(
    ("is_loud", "why"),
    [
        (True, "cuda failed: libcudart.so.12: cannot open"),
        (False, "cuda failed: libcublasLt.so.13: cannot open shared object file"),
    ],
)
def test_a_provider_that_fails_here_is_passed_over(
    is_loud: bool,  # noqa: FBT001 - given by pytest
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Whether onnxruntime raises or only leaves it out; nothing is printed."""
    model = twin(ModelFormat.ONNX, tmp_path)
    monkeypatch.setattr(FakeSession, "is_loud", is_loud)
    monkeypatch.setattr(ort, "InferenceSession", FakeSession)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    session = OnnxRuntime().load(model, LoadOptions(providers=("cuda",)))
    assert (session.providers, session.fallbacks) == (("cpu",), (why,))
    assert capfd.readouterr() == ("", "")


def test_a_broken_model_is_no_providers_fault(tmp_path: Path) -> None:
    """Without any left to blame the error is the model's."""
    path = tmp_path / "net.onnx"
    path.write_bytes(operator_net())
    with pytest.raises(RuntimeFailure, match="Inverse"):
        OnnxRuntime().load(open_model(path), LoadOptions(providers=("cuda",)))


def test_a_library_brings_its_operators(tmp_path: Path) -> None:
    """With it the model runs and is profiled; without it the error names what lacks."""
    path = tmp_path / "net.onnx"
    path.write_bytes(operator_net())
    model = open_model(path)
    options = LoadOptions(libraries=(operator_library(),))
    given = {"x": np.array([[2, 0], [0, 4]], np.float32)}
    found = OnnxRuntime().load(model, options).run(given)["y"]
    np.testing.assert_allclose(found, [[0.5, 0], [0, 0.25]])
    profile = OnnxRuntime().profile(model, given, options, repeats=1)
    assert [entry.op_type for entry in profile.operators] == ["Inverse"]
    with pytest.raises(ModelError, match="Inverse"):
        OnnxRuntime().load(model, LoadOptions())


@pytest.mark.parametrize("content", [b"no library at all", b"\x7fELF" + bytes(60)])
def test_a_library_that_is_none_is_a_failure(
    content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is named, in one line."""
    library = tmp_path / "ops.so"
    library.write_bytes(content)
    model = twin(ModelFormat.ONNX, tmp_path)
    with pytest.raises(RuntimeFailure, match=r"operators ops\.so") as caught:
        OnnxRuntime().load(model, LoadOptions(libraries=(library,)))
    assert "\n" not in caught.value.what
    assert capfd.readouterr() == ("", "")
