"""Type commands in tests: in this process, and as processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skerry.app.main import main
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind, task_to_toml
from tests import models

SKERRY = (sys.executable, "-m", "skerry.app.main")


@contextmanager
def running(
    *words: str, cwd: Path, ready: Path, python: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process of the command line, once its file says that it is up."""
    skerry = (python, *SKERRY[1:]) if python else SKERRY
    with subprocess.Popen(
        [*skerry, *words],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if not k.startswith("SKERRY_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            wait_for(lambda: ready.exists() or process.poll() is not None)
            assert process.poll() is None, process.communicate()[0]
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], object], *, timeout_s: float = 60.0) -> None:
    """Wait until something holds."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s, "it never came true"
        time.sleep(0.05)


class Typist:
    """Types commands in this process, and reads what they say."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def ask(self, *words: str, code: int = 0) -> Any:
        """Run a command with --json; gives its result, or its error."""
        self._capsys.readouterr()
        assert main([*words, "--json"]) == code, self._capsys.readouterr()
        answer = json.loads(self._capsys.readouterr().out)
        return answer["result"] if answer["ok"] else answer["error"]

    def see(self, *words: str) -> str:
        """What a person sees, with single spaces."""
        self._capsys.readouterr()
        assert main(words) == 0, self._capsys.readouterr()
        return " ".join(self._capsys.readouterr().out.split())


def make_parts(folder: Path) -> None:
    """Put a small model, labelled samples and a task into a folder."""
    (folder / "mlp.onnx").write_bytes(models.mlp())
    rows = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    np.savez(folder / "rows.npz", x=rows, label=np.arange(12) % 3)
    task = Task(kind=TaskKind.CLASSIFICATION, metric="top1", post=(TopK(k=1),))
    (folder / "task.toml").write_text(task_to_toml(task))
