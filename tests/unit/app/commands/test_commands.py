"""Each command on small real models: its result, and what people see of it."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.app.main import main
from skerry.app.reports import write_report
from skerry.compress.search.cache import CACHE_FOLDER
from skerry.core.durable import RealDisk
from skerry.core.errors import DataError, ModelError, StorageError, UsageError
from skerry.core.model import ModelFormat
from skerry.tasks import _image
from skerry.tasks.decoders import Value
from skerry.tasks.steps import Layout, Normalize, TopK
from skerry.tasks.task import Task, TaskKind, task_to_toml
from tests import models
from tests.operators import operator_library, operator_net
from tests.reports import BARE, FULL
from tests.twins import twin

Capture = pytest.CaptureFixture[str]
Ask = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: two models, labelled samples and a task."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlp.onnx").write_bytes(models.mlp())
    (tmp_path / "open.onnx").write_bytes(models.dynamic_net())
    rows = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows, label=np.arange(12) % 3)
    task = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(k=1),))
    (tmp_path / "task.toml").write_text(task_to_toml(task))
    return tmp_path


@pytest.fixture
def ask(folder: Path, capsys: Capture) -> Ask:
    """Run a command with --json and give its result."""
    assert folder

    def run(*words: str) -> Any:
        capsys.readouterr()
        code = main([*words, "--json"])
        answer = json.loads(capsys.readouterr().out)
        assert answer["ok"] is (code == 0), answer
        return answer["result"] if answer["ok"] else answer["error"]

    return run


def seen(capsys: Capture, *words: str) -> str:
    """Run a command and give what a person sees."""
    capsys.readouterr()
    assert main(words) == 0
    return capsys.readouterr().out


def test_inspect(ask: Ask, capsys: Capture) -> None:
    """A model's signature, operators and costs."""
    found = ask("inspect", "mlp.onnx")
    assert found["model"]["inputs"] == [
        {"name": "x", "dtype": "float32", "shape": [1, 8]}
    ]
    assert {row["op_type"]: row["count"] for row in found["operators"]}["Gemm"] == 1
    assert found["macs"] == sum(row["macs"] for row in found["operators"]) > 0
    assert found["note"] == ""
    assert "one inference:" in seen(capsys, "inspect", "mlp.onnx")


def test_inspect_of_open_shapes(ask: Ask, capsys: Capture) -> None:
    """Open shapes leave costs open, and the note says how to close them."""
    found = ask("inspect", "open.onnx")
    assert found["macs"] is None
    assert found["note"].endswith("--shape x=?x3x?x?")
    assert "--shape x=?x3x?x?" in seen(capsys, "inspect", "open.onnx")
    assert ask("inspect", "open.onnx", "--shape", "x=1x3x16x16")["macs"] > 0
    assert ask("inspect", "open.onnx", "--shape", "1x1x16x16")["code"] == "DataError"


def test_audit(ask: Ask, capsys: Capture) -> None:
    """Each target asked for is audited; a mistyped one is met with the nearest."""
    found = ask("audit", "mlp.onnx", "--target", "ethos-u55-128")
    assert [one["target"] for one in found["audits"]] == ["ethos-u55-128"]
    text = seen(capsys, "audit", "mlp.onnx", "--target", "ethos-u55-128")
    assert "mlp.onnx on ethos-u55-128: runs" in text
    assert "what would help:" in text
    assert found["verdicts"] == {"ethos-u55-128": "runs"}
    error = ask("audit", "mlp.onnx", "--target", "ethos-u55-129")
    assert "ethos-u55-128" in error["hint"]


def test_audit_of_all_targets_is_a_table(ask: Ask, capsys: Capture) -> None:
    """One line each: the verdict, what runs elsewhere, the first obstacle."""
    found = ask("audit", "mlp.onnx")
    assert len(found["audits"]) == len(found["verdicts"]) > 20
    lines = seen(capsys, "audit", "mlp.onnx").splitlines()
    assert len(lines) == len(found["audits"]) + 3
    (intel,) = [line for line in lines if line.startswith("intel-npu")]
    assert "not known: 4 operators" in intel
    (ethos,) = [line for line in lines if line.startswith("ethos-u55-128")]
    assert "4 of 4" in ethos
    assert "float32 activations" in ethos


def test_compare(ask: Ask, capsys: Capture) -> None:
    """Runtimes are measured on samples, or on random numbers of a shape."""
    words = ["compare", "mlp.onnx", "rows.npz", "--task", "task.toml", "--repeats", "2"]
    found = ask(*words)
    assert [row["runtime"] for row in found["rows"]] == ["onnxruntime", "openvino"]
    assert found["rows"][1]["agreement"]["same_predictions"] == 12
    assert "faster" in (text := seen(capsys, *words)) or "slower" in text
    assert "12 of 12 the same" in text
    shape = ["--shape", "x=1x3x16x16", "--repeats", "1"]
    assert ask("compare", "open.onnx", *shape)["samples"] == 1
    assert ask("compare", "open.onnx")["code"] == "UsageError"
    assert ask("compare", "mlp.onnx", "--repeats", "0")["code"] == "UsageError"


def test_compare_names_what_refuses(ask: Ask, capsys: Capture) -> None:
    """A runtime that cannot run the model is a row with its reason."""
    words = ["compare", "mlp.onnx", "--runtime", "onnxruntime", "--runtime", "nul"]
    assert ask(*words)["hint"] == "Did you mean 'null'?"
    assert "reference" in seen(capsys, "compare", "mlp.onnx", "--repeats", "1")


def test_other_formats(ask: Ask, capsys: Capture) -> None:
    """Each is inspected, and compared on the runtimes that take it."""
    folder = Path()
    for wanted, runs in (
        (ModelFormat.TFLITE, ["litert", "openvino"]),
        (ModelFormat.NCNN, ["ncnn"]),
    ):
        name = twin(wanted, folder).path.name
        found = ask("inspect", name)
        assert (found["model"]["format"], found["opset"]) == (wanted, None)
        assert f"{name}, " in seen(capsys, "inspect", name)
        rows = ask("compare", name, "--repeats", "1")["rows"]
        assert [row["runtime"] for row in rows] == runs
        assert all(row["refusal"] == "" for row in rows)
        words = ["compare", name, "--repeats", "1", "--runtime", "onnxruntime"]
        (row,) = ask(*words)["rows"]
        assert f"takes ONNX files, {name} is {wanted.label}" in row["refusal"]
    text = (folder / "twin.param").read_text().replace("0=8 1=8 2=3", "")
    (folder / "twin.param").write_text(text)
    assert "--shape x=" in ask("inspect", "twin.param")["hint"]
    found = ask("inspect", "twin.param", "--shape", "1x3x8x8")
    assert found["model"]["inputs"][0]["shape"] == [1, 3, 8, 8]


def test_compare_with_providers_and_libraries(ask: Ask, capsys: Capture) -> None:
    """They are onnxruntime's: the other says that it has none."""
    Path("inverse.onnx").write_bytes(operator_net())
    words = ["compare", "inverse.onnx", "--repeats", "1", "--provider", "cuda"]
    rows = ask(*words, "--library", str(operator_library()))["rows"]
    assert rows[0]["refusal"] == ""
    assert rows[0]["fallbacks"] == ["cuda is not in this build of onnxruntime"]
    said = seen(capsys, *words, "--library", str(operator_library()))
    assert "onnxruntime: cuda is not in this build of onnxruntime" in said
    assert "openvino has no execution providers" in rows[1]["refusal"]
    assert ask(*words[:-1], "cdua")["hint"] == "Did you mean 'cuda'?"


def test_evaluate(ask: Ask, capsys: Capture) -> None:
    """A model is scored; against another one with a paired interval."""
    words = ["evaluate", "mlp.onnx", "rows.npz", "--task", "task.toml"]
    found = ask(*words)
    assert found["n"] == 12
    assert found["metric"] == "top1"
    assert found["against"] is None
    both = ask(*words, "--against", "mlp.onnx")
    assert both["against"]["value"] == both["value"]
    assert both["against"]["differ"] == 0
    low, high = both["against"]["ci95"]
    assert low < 0 < high
    assert "0.00 points" in seen(capsys, *words, "--against", "mlp.onnx")


def test_evaluate_under_conditions(ask: Ask, folder: Path, capsys: Capture) -> None:
    """Each condition is a row beside the pictures as taken; arrays have none."""
    pictures = folder / "pictures"
    generator = np.random.default_rng(0)
    for label in ("0", "1"):
        (pictures / label).mkdir(parents=True)
        for index in range(3):
            pixels = generator.integers(0, 256, (16, 16, 3), np.uint8)
            path = pictures / label / f"{index}.png"
            path.write_bytes(_image.encode_png(pixels))
    task = Task(
        kind=TaskKind.CLASSIFICATION,
        metric="top1",
        pre=(Normalize(scale=1 / 255), Layout()),
        post=(TopK(k=1),),
    )
    (folder / "pictures.toml").write_text(task_to_toml(task))
    words = ["evaluate", "open.onnx", "pictures", "--task", "pictures.toml"]
    found = ask(*words, "--conditions", "dark,re-encoding")
    assert [row["condition"] for row in found["conditions"]] == ["dark", "re-encoding"]
    assert found["conditions"][0]["against"] is None
    words += ["--against", "open.onnx", "--conditions", "all"]
    both = ask(*words)
    assert len(both["conditions"]) == 7
    for row in (both, *both["conditions"]):
        assert row["against"]["paired_delta"] == 0
        assert row["against"]["verdict"] == "no difference on n=6"
    text = seen(capsys, *words)
    assert "as taken" in text
    assert "re-encoding" in text
    assert "no difference on n=6" in text
    error = ask("evaluate", "open.onnx", "pictures", "--conditions", "darc")
    assert error["code"] == "UsageError"
    arrays = ["evaluate", "mlp.onnx", "rows.npz", "--task", "task.toml"]
    error = ask(*arrays, "--conditions", "dark")
    assert "spoils pictures" in error["what"]


def test_evaluate_in_the_labels_own_unit(
    ask: Ask, folder: Path, capsys: Capture
) -> None:
    """A regression's errors are numbers, not percentages."""
    rows = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    np.savez(folder / "values.npz", x=rows, label=np.linspace(0, 9, 12))
    task = Task(kind=TaskKind.REGRESSION, metric="rmse", post=(Value(),))
    (folder / "value.toml").write_text(task_to_toml(task))
    words = ["evaluate", "mlp.onnx", "values.npz", "--task", "value.toml"]
    found = ask(*words)
    assert found["value"] > 1
    text = seen(capsys, *words, "--against", "mlp.onnx")
    assert f"{found['value']:.4g}" in text
    assert "%" not in text.replace("95 %", "")


def test_init_then_evaluate(ask: Ask, folder: Path, capsys: Capture) -> None:
    """A begun project needs no further words; its file is never written over."""
    found = ask("init", "mlp.onnx", "rows.npz")
    assert found["path"] == "skerry.toml"
    assert len(found["shown"]) == 6
    assert {row["label"] for row in found["shown"]} <= {"0", "1", "2"}
    assert ask("evaluate")["n"] == 12
    before = (folder / "skerry.toml").read_bytes()
    assert "--force" in ask("init", "mlp.onnx", "rows.npz")["hint"]
    assert (folder / "skerry.toml").read_bytes() == before
    text = seen(capsys, "init", "mlp.onnx", "rows.npz", "--force")
    assert "model → softmax → topk" in text
    assert "Written: skerry.toml" in text


def test_compress_from_the_project(ask: Ask, folder: Path, capsys: Capture) -> None:
    """A begun project is compressed without further words, with its evidence."""
    ask("init", "mlp.onnx", "rows.npz")
    capsys.readouterr()
    assert main(["compress", "--accuracy-drop", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert result["report"]["accuracy"]["n"] == 6
    names = {"model.onnx", "recipe.toml", "report.html", "report.json", CACHE_FOLDER}
    assert {path.name for path in (folder / "out").iterdir()} == names
    (folder / "out" / "model.onnx").write_bytes(models.mlp())
    error = ask("compress", "out/model.onnx")
    assert "would replace" in error["what"]


def test_report_show_and_diff(ask: Ask, folder: Path, capsys: Capture) -> None:
    """A report is shown, written as a page, and compared with another."""
    write_report(FULL, folder / "full.json")
    write_report(BARE, folder / "bare.json")
    assert ask("report", "show", "full.json")["report"]["model"] == FULL.model
    text = seen(capsys, "report", "show", "full.json", "--html", "page.html")
    assert "3.5 × smaller" in text
    assert "alone it costs 3.1 points" in text
    assert "budget missed: size_bytes" in text
    assert (folder / "page.html").read_text().startswith("<!doctype html>")
    found = ask("report", "diff", "full.json", "bare.json")
    assert found["same_source"] is False
    assert {row["name"] for row in found["operators"]} == {
        layer.name for layer in FULL.layers
    }
    assert "different source models" in seen(
        capsys, "report", "diff", "full.json", "bare.json"
    )
    same = ask("report", "diff", "full.json", "full.json")
    assert same["operators"] == []
    assert all(row["first"] == row["second"] for row in same["figures"])


BAD_ROWS = {
    "shape": {"x": np.zeros((3, 7), np.float32), "label": np.zeros(3, np.int64)},
    "dtype": {"x": np.zeros((3, 8), np.int32), "label": np.zeros(3, np.int64)},
    "nan": {"x": np.full((3, 8), np.nan, np.float32), "label": np.zeros(3, np.int64)},
    "name": {"y": np.zeros((3, 8), np.float32), "label": np.zeros(3, np.int64)},
    "labels": {"x": np.zeros((3, 8), np.float32), "label": np.zeros(2, np.int64)},
    "class": {"x": np.zeros((3, 8), np.float32), "label": np.full(3, 7)},
    "no label": {"x": np.zeros((3, 8), np.float32)},
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_samples(kind: str, ask: Ask, folder: Path) -> None:
    """Samples that do not fit the model are an error that says what was expected."""
    np.savez(folder / "bad.npz", **BAD_ROWS[kind])
    error = ask("evaluate", "mlp.onnx", "bad.npz", "--task", "task.toml")
    assert error["code"] == DataError.__name__
    assert error["hint"]


BAD_MODELS: dict[str, Callable[[], bytes]] = {
    "no model": lambda: b"#!/bin/sh\n" * 9,
    "empty": lambda: b"",
    "cut short": lambda: models.mlp()[:-40],
    "unknown operator": lambda: models.model_bytes(
        "net (float[1] x) => (float[1] y) { y = Frobnicate(x) }"
    ),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
@pytest.mark.parametrize("command", ["inspect", "audit", "compare"])
def test_bad_models(kind: str, command: str, ask: Ask, folder: Path) -> None:
    """What is no model is an error of the model's, in one line."""
    (folder / "bad.onnx").write_bytes(BAD_MODELS[kind]())
    error = ask(command, "bad.onnx")
    assert error["code"] == ModelError.__name__
    assert "bad.onnx" in error["what"]


def test_a_missing_file(ask: Ask) -> None:
    """A file that is not there is the user's error, whatever was to be done with it."""
    for words in (
        ("inspect", "none.onnx"),
        ("report", "show", "none.json"),
        ("evaluate", "mlp.onnx", "rows.npz", "--task", "none.toml"),
        ("init", "mlp.onnx", "none.npz"),
    ):
        assert ask(*words)["code"] in {UsageError.__name__, DataError.__name__}


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize(
    "words",
    [
        ("init", "mlp.onnx", "rows.npz", "--force"),
        ("report", "show", "full.json", "--html", "page.html"),
    ],
)
def test_a_disk_that_refuses(
    words: tuple[str, ...],
    reason: int,
    ask: Ask,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full or read-only disk is one error, and what was there is as it was."""
    write_report(FULL, folder / "full.json")
    (folder / "skerry.toml").write_text("old")
    before = sorted(path.name for path in folder.iterdir())

    def refuse(disk: RealDisk, path: Path, content: bytes) -> None:
        del disk
        path.write_bytes(content[: len(content) // 2])
        raise OSError(reason, "no")

    monkeypatch.setattr(RealDisk, "write", refuse)
    error = ask(*words)
    assert error["code"] == StorageError.__name__
    assert sorted(path.name for path in folder.iterdir()) == before
    assert (folder / "skerry.toml").read_text() == "old"


def test_runtimes_are_listed(ask: Ask, capsys: Capture) -> None:
    """Each registered one, with its version, for people too."""
    rows = {row["name"]: row for row in ask("runtime", "ls")["runtimes"]}
    assert {"litert", "ncnn", "null", "onnxruntime", "openvino"} <= set(rows)
    assert rows["onnxruntime"]["version"]
    assert "onnxruntime" in seen(capsys, "runtime", "ls")


def test_a_missing_runtime_says_how_to_get_it(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is listed with the pip line, and nothing fails."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "skerry.runtimes.openvino", raising=False)
    rows = {row["name"]: row for row in ask("runtime", "ls")["runtimes"]}
    assert rows["openvino"]["version"] == ""
    assert "skerry[openvino]" in rows["openvino"]["install"]


def test_targets_are_listed_and_shown(ask: Ask, capsys: Capture) -> None:
    """Each with its processors, and each figure with its source."""
    names = [row["name"] for row in ask("target", "ls")["targets"]]
    assert "ethos-u55-128" in names
    assert "ethos-u55-128" in seen(capsys, "target", "ls")
    shown = ask("target", "show", "ethos-u55-128")
    figure = shown["processors"][0]["peak_gops"]
    text = seen(capsys, "target", "show", "ethos-u55-128")
    assert f"{figure['value']:g}" in text
    assert figure["source"].split()[0] in text
    assert "everything" in seen(capsys, "target", "show", "x86-64")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rk3588", ("partial", "refuses: Abs", "unknown: every other", "sparsity")),
        ("cambricon-mlu220", ("unknown: all operators",)),
        ("coral-edge-tpu", ("takes only: what comes before", "whole")),
        ("hailo-8l", ("hailo-8l to cpu", "0.625 GB/s")),
    ],
)
def test_a_target_says_what_it_does_not_know(
    name: str, words: tuple[str, ...], capsys: Capture
) -> None:
    """Refusals, what is open, one subgraph, and what lies between processors."""
    text = seen(capsys, "target", "show", name)
    for word in words:
        assert word in text, text


def test_a_mistyped_target_is_a_usage_error(ask: Ask) -> None:
    """The nearest known name is in the hint."""
    assert "x86-64" in ask("target", "show", "x86_64")["hint"]
