"""A server in a process of its own, for as long as something is asked of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from skerry.app.serving.wire import error_of_words
from skerry.core.errors import LateError, StateError

START_S = 150.0
"""Until when it must serve: loading and checking a model may take a while."""

STOP_S = 15.0
_POLL_S = 0.02


@contextlib.contextmanager
def serving_child(words: Sequence[str]) -> Iterator[str]:
    """Run `skerry serve` in a process of its own.

    Args:
        words: What follows `skerry serve`.

    Yields:
        The server's URL.

    Raises:
        SkerryError: What it failed with.
        LateError: It does not serve in time.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
        ready = Path(folder) / "serving.json"
        command = [sys.executable, "-m", "skerry.app.main", "serve", *words]
        command += ["--json", "--announce", str(ready)]
        with (
            (Path(folder) / "stdout").open("w+b") as told,
            subprocess.Popen(
                command, stdout=told, stderr=subprocess.DEVNULL, env=dict(os.environ)
            ) as child,
        ):
            try:
                until_s = time.monotonic() + START_S
                while not ready.exists():
                    if child.poll() is not None:
                        told.seek(0)
                        raise error_of_words(told.read(), who="the server")
                    if time.monotonic() > until_s:
                        raise LateError(
                            f"the server does not serve within {START_S:g} s",
                            hint="Start it by itself: skerry serve shows what it does.",
                        )
                    time.sleep(_POLL_S)
                yield _read_address(ready)
            finally:
                child.terminate()
                try:
                    child.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    child.kill()


def _read_address(path: Path) -> str:
    fields = msgspec.json.decode(path.read_bytes())
    address = fields.get("address")
    if not isinstance(address, str):
        raise StateError("the server says no address", hint="Look at its log.")
    return address
