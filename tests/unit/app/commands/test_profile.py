from __future__ import annotations

import json
from pathlib import Path

import pytest

from skerry import runtimes
from skerry.app.main import main
from skerry.app.profiling import device, peaks
from skerry.core.errors import MissingExtraError, StateError
from tests import foreign_profiles, models
from tests.commands import Typist
from tests.trace_schema import check_trace
from tests.velas import LAYERS, SUMMARY

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(models.conv_net(size=32))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_models_and_runtimes_and_files_in_one_trace(capsys: Capture) -> None:
    """What is measured takes turns; what is read stands beside it."""
    Path("mlp.onnx").write_bytes(models.mlp())
    Path("net_per-layer.csv").write_text(LAYERS)
    Path("net_summary_X.csv").write_text(SUMMARY)
    runtimes = ("--runtime", "onnxruntime", "--runtime", "openvino")
    files = (
        "--read",
        "net_per-layer.csv",
        "--trace",
        "trace.json",
        "--out",
        "page.html",
    )
    words = ("profile", "net.onnx", "--compare", "mlp.onnx", *runtimes, *files)
    # A machine that is too restless for a verdict has been measured all the same.
    assert main([*words, "--repeats", "6", "--json"]) in (0, 30)
    found = json.loads(capsys.readouterr().out)["result"]
    assert [(one["model"], one["runtime"]) for one in found["profiles"]] == [
        ("net.onnx", "onnxruntime"),
        ("net.onnx", "openvino"),
        ("mlp.onnx", "onnxruntime"),
        ("mlp.onnx", "openvino"),
        ("", "vela"),
    ]
    assert len(found["roofs"]) == 5
    assert len(found["compared"]) == 4
    assert found["peaks"]["gops"] > 0
    trace = json.loads(Path("trace.json").read_bytes())
    check_trace(trace)
    assert {event["pid"] for event in trace["traceEvents"]} == {1, 2, 3, 4, 5}
    assert "<svg" in Path("page.html").read_text()


@pytest.mark.usefixtures("folder")
def test_files_alone(capsys: Capture) -> None:
    """No model is asked for, and none is measured."""
    Path("bm.txt").write_bytes(foreign_profiles.BENCHMARK_TEXT)
    Path("ov.csv").write_bytes(foreign_profiles.COUNTERS)
    text = Typist(capsys).see("profile", "--read", "bm.txt", "--read", "ov.csv")
    assert "net.tflite on tflite: 4 threads, 50 repeats" in text
    assert "ov.csv on openvino" in text


@pytest.mark.usefixtures("folder")
def test_a_target_states_the_roof(capsys: Capture) -> None:
    """Where its file does; otherwise it is said."""
    typist = Typist(capsys)
    Path("trt.json").write_bytes(foreign_profiles.TRTEXEC)
    read = ("profile", "--read", "trt.json", "--target")
    found = typist.ask(*read, "ethos-u55-128")
    assert "ethos-u55-128" in found["peaks"]["source"]
    Path("poor.toml").write_text(
        'schema = "skerry.target/1"\nname = "poor"\ntitle = "A board"\n'
        'operators_source = "none"\n[[processors]]\nname = "cpu"\nkind = "cpu"\n'
        "runs_everything = true\n"
    )
    error = typist.ask(*read, "poor.toml", code=2)
    assert "states no peak rate" in error["what"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("net.onnx", "--repeats", "0"), "0 repeats"),
        (("net.onnx", "--threads", "0"), "0 threads"),
        (("net.onnx", "--trace", "no/trace.json"), "is not there"),
        (("net.onnx", "--on", "ftp://board"), "cannot measure on"),
        (("net.onnx", "--runtime", "nothing"), "nothing"),
        (("--read", "gone.json"), "is not there"),
        (("net.onnx", "--on", "device://No"), "device"),
    ],
)
def test_requests_without_sense(
    words: tuple[str, ...], said: str, capsys: Capture
) -> None:
    """They are refused before anything is measured."""
    error = Typist(capsys).ask("profile", *words, code=2)
    assert said in error["what"]
    assert error["hint"]


def test_a_calibration_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and how to do without."""
    monkeypatch.setattr(peaks.sys, "executable", "/bin/false")
    with pytest.raises(StateError, match="calibration failed") as caught:
        peaks.measure_peaks(threads=1)
    assert "--target" in caught.value.hint


@pytest.mark.usefixtures("folder")
def test_a_runtime_need_only_be_where_it_runs(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not installed here is asked for there, not here."""
    asked: list[str] = []

    def profile_on(
        _: device.Place, shipped: list[device.Shipped], *, repeats: int
    ) -> None:
        asked.extend(one.runtime for one in shipped)
        raise StateError("nobody is there", hint=f"{repeats} repeats")

    def missing(name: str) -> None:
        raise MissingExtraError(name, extra=name)

    monkeypatch.setattr(device, "profile_on", profile_on)
    monkeypatch.setattr(runtimes, "get_runtime", missing)
    words = ("profile", "net.onnx", "--runtime", "openvino", "--on", "ssh://board")
    assert main([*words, "--json"]) == StateError.exit_code
    assert "nobody is there" in json.loads(capsys.readouterr().out)["error"]["what"]
    assert asked == ["openvino"]
