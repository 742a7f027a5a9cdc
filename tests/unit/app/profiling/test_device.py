"""Devices by a fake of adb: a script that records what it is asked, and runs it."""

from __future__ import annotations

import ast
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from skerry.app.profiling import device, runner
from skerry.app.profiling.device import Shipped, parse_place, profile_on
from skerry.core.errors import (
    DataError,
    LateError,
    LinkError,
    RuntimeFailure,
    SkerryError,
    StateError,
    StorageError,
    ToolchainError,
    UsageError,
    WorkerLostError,
)
from skerry.core.profile import Profile
from skerry.runtimes import open_any
from skerry.tasks.made_up import made_up_inputs
from tests import models

MARK = runner.MARK


@dataclass(frozen=True)
class Phone:
    """What the fake of adb does: `tools` come first on the PATH of the device."""

    folder: Path
    tools: Path
    temporary: Path

    def have(self, name: str, script: str) -> None:
        """Give the device a program of this name."""
        path = self.tools / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def says(self, script: str) -> None:
        """Have adb itself do something else."""
        path = self.folder / "bin" / "adb"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """The words after `adb`, a line each, but for the script itself."""
        return (self.folder / "asked").read_text().splitlines()


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    """A phone that adb reaches."""
    found = Phone(tmp_path, tmp_path / "tools", tmp_path / "tmp")
    for folder in (tmp_path / "bin", found.tools, found.temporary):
        folder.mkdir()
    places = f"{found.tools}:{Path(sys.executable).parent}:/usr/bin:/bin"
    found.says(
        f'printf "%s\\n" "$1" "$2" "$3" "$4" "$5" "$6" >{tmp_path}/asked\n'
        f'shift 6\nPATH={places} TMPDIR={found.temporary} exec sh -c "$*"'
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return found


def subject(folder: Path, runtime: str = "onnxruntime") -> Shipped:
    """A small model for a runtime, which need not be here."""
    path = folder / "net.onnx"
    path.write_bytes(models.mlp())
    model = open_any(path)
    return Shipped(
        model=model, runtime=runtime, inputs=made_up_inputs(model.inputs), threads=1
    )


def measure(folder: Path) -> Profile:
    """Profile the small model on the phone."""
    place = parse_place("adb://R58M-1")
    (found,), _ = profile_on(place, [subject(folder)], repeats=6)
    return found


def test_a_phone_is_measured(phone: Phone) -> None:
    """The runner is shipped and run by one command, and nothing is left there."""
    found = measure(phone.folder)
    assert phone.asked == ["-s", "R58M-1", "shell", "-T", "-e", "none"]
    assert found.device == "adb://R58M-1"
    assert {each.op_type for each in found.operators} >= {"Gemm"}
    assert found.inference is not None
    assert found.repeats == 6
    assert list(phone.temporary.iterdir()) == []


FAILURES: dict[str, tuple[tuple[str, str] | None, str, type[SkerryError], str]] = {
    "full disk": (
        ("head", "echo 'head: No space left on device' >&2; exit 1"),
        "",
        StorageError,
        "No space left",
    ),
    "read-only": (
        ("mktemp", "echo 'mktemp: Read-only file system' >&2; exit 1"),
        "",
        StorageError,
        "Read-only",
    ),
    "link that breaks": (("head", ":"), "", LinkError, "broke"),
    "killed": (("python3", "kill -9 $$"), "", WorkerLostError, "signal 9"),
    "Python that fails": (
        ("python3", "echo 'SyntaxError: what' >&2; exit 1"),
        "",
        StateError,
        "SyntaxError",
    ),
    "package that is missing": (
        (
            "python3",
            f'echo \'{MARK}{{"error": "missing", "what": "numpy", "python": "3.9"}}\'',
        ),
        "",
        ToolchainError,
        "Python 3.9, but not the package numpy",
    ),
    "model that is refused": (
        ("python3", f'echo \'{MARK}{{"error": "model", "what": "opset"}}\''),
        "",
        RuntimeFailure,
        "opset",
    ),
    "disk that fills up": (
        ("python3", f'echo \'{MARK}{{"error": "storage", "what": "ENOSPC"}}\''),
        "",
        StorageError,
        "ENOSPC",
    ),
    "nonsense": (("python3", f"echo '{MARK}[]'"), "", DataError, "no sense"),
    "figures without sense": (
        ("python3", f'echo \'{MARK}{{"peaks": [{{"gops": 0}}]}}\''),
        "",
        DataError,
        "no sense",
    ),
    "too little": (("python3", f"echo '{MARK}{{}}'"), "", DataError, "no sense"),
    "no such phone": (
        None,
        "echo \"adb: device 'R58M-1' not found\" >&2; exit 1",
        LinkError,
        "cannot be reached",
    ),
    "unauthorized": (
        None,
        "echo 'adb: device unauthorized.' >&2; exit 1",
        LinkError,
        "unauthorized",
    ),
    "adb that says nothing": (None, "exit 3", StateError, "exit code 3"),
}


@pytest.mark.parametrize(
    ("tool", "says", "kind", "words"), FAILURES.values(), ids=FAILURES
)
def test_what_goes_wrong_is_said(
    phone: Phone,
    tool: tuple[str, str] | None,
    says: str,
    kind: type[SkerryError],
    words: str,
) -> None:
    """By whoever must act, with a hint; and nothing is left on the device."""
    if tool is not None:
        phone.have(*tool)
    if says:
        phone.says(says)
    with pytest.raises(kind, match=words) as caught:
        measure(phone.folder)
    assert type(caught.value) is kind
    assert caught.value.hint
    assert list(phone.temporary.iterdir()) == []


def test_a_phone_without_python(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, with the tool that makes a profile without."""
    for name in ("mktemp", "rm", "cat", "head", "wc"):
        for folder in ("/usr/bin", "/bin"):
            if Path(folder, name).exists():
                (phone.tools / name).symlink_to(Path(folder, name))
                break
    phone.says(
        f'shift 6; PATH={phone.tools} TMPDIR={phone.temporary} exec /bin/sh -c "$*"'
    )
    (phone.tools / "sh").symlink_to("/bin/sh")
    with pytest.raises(ToolchainError, match="no python3") as caught:
        measure(phone.folder)
    assert "--read" in caught.value.hint
    assert list(phone.temporary.iterdir()) == []
    monkeypatch.setenv("PATH", str(phone.tools))
    with pytest.raises(ToolchainError, match="cannot start adb"):
        measure(phone.folder)


def test_what_an_earlier_call_left_is_removed(phone: Phone) -> None:
    """A folder whose shell is gone: the device lost its power."""
    stale = phone.temporary / "skerry-profile.old"
    stale.mkdir()
    (stale / "pid").write_text("999999999\n")
    measure(phone.folder)
    assert list(phone.temporary.iterdir()) == []


def test_a_device_that_never_answers(
    phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up after a time."""
    monkeypatch.setattr(device, "TIMEOUT_S", 0.3)
    phone.says("exec sleep 60")
    with pytest.raises(LateError, match="no answer in"):
        measure(phone.folder)


@pytest.mark.parametrize(
    "url",
    ["", "board", "ssh://", "ssh://-oProxyCommand=x", "adb://-e", "ftp://board"],
)
def test_no_place(url: str) -> None:
    """What could be taken for a flag is none, too."""
    with pytest.raises(UsageError, match="cannot measure on"):
        parse_place(url)


def test_a_runtime_that_is_not_shipped(tmp_path: Path) -> None:
    """It is refused before anything is sent."""
    odd = subject(tmp_path, "null")
    with pytest.raises(UsageError, match="null is not measured on devices"):
        profile_on(parse_place("adb://a"), [odd], repeats=1)


def test_the_runner_is_old_python() -> None:
    """It is parsed by Python 3.7, and imports nothing of ours."""
    source = Path(runner.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 7))
    nodes = list(ast.walk(tree))
    names = {
        alias.name
        for node in nodes
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }
    assert not any(name.startswith(("skerry", "msgspec")) for name in names)
    evaluated = [
        node.value for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)
    ]
    assert "list[" not in " ".join(ast.unparse(each) for each in evaluated if each)


def test_an_answer_with_shapes() -> None:
    """What the runner tells of a kernel becomes its work."""
    kernel = device._Kernel(
        name="c",
        op_type="Gemm",
        times_ms=[2.0, 1.0],
        inputs=[("float", [1, 8])],
        outputs=[("float", [1, 4])],
    )
    operator = device._operator(kernel)
    assert (operator.macs, operator.moved_bytes) == (32, 48)
    assert (operator.dtype, operator.latency_ms) == ("float32", 1.0)
    bare = json.dumps({"name": "c", "op_type": "Add", "times_ms": []})
    assert device._operator(device.msgspec.json.decode(bare, type=device._Kernel))
