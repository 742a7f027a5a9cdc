"""Damaged files of other formats: in our readers, and in the libraries behind them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.core.errors import ModelError, UsageError
from skerry.runtimes import files
from skerry.runtimes._ncnn_file import parse_param
from skerry.runtimes._tflite_file import parse_tflite
from tests.strategies import damaged
from tests.twins import ncnn_text, ncnn_weights, tflite_net

TFLITE = (tflite_net(), tflite_net(is_open=True, is_signed=True))
PARAMS = (ncnn_text().encode(), ncnn_text(9).encode())


@settings(max_examples=400)
@given(damaged(TFLITE) | st.binary(max_size=200).map(b"\x08\0\0\0TFL3".__add__))
def test_damaged_tflite_signatures(content: bytes) -> None:
    """They are read or refused; no offset leads out of the file."""
    with contextlib.suppress(ModelError):
        signature = parse_tflite(content)
        assert all(port.spec.shape is not None for port in signature.outputs)


@settings(max_examples=400)
@given(
    damaged(PARAMS)
    | st.text(max_size=200).map(lambda text: f"7767517\n{text}".encode())
)
def test_damaged_params(content: bytes) -> None:
    """They are read or refused."""
    with contextlib.suppress(ModelError):
        found = parse_param(content, weights=Path("net.bin"), name="net.param")
        assert found.inputs


LOADER = """
import random, sys
from dataclasses import replace
from pathlib import Path
from skerry.core.errors import SkerryError
from skerry.core.model import ModelFormat
from skerry.core.seams import LoadOptions
from skerry.runtimes import get_runtime
from tests.twins import inputs_for, twin

name, taken, folder = sys.argv[1], ModelFormat(sys.argv[2]), Path(sys.argv[3])
model = twin(taken, folder)
runtime = get_runtime(name)
inputs = inputs_for(model)
files = {file: file.read_bytes() for file in folder.iterdir()}
refused = 0
for seed in range(int(sys.argv[4])):
    chance = random.Random(seed)
    for file, whole in files.items():
        content = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        file.write_bytes(content if chance.random() < 0.9 else content[:-9])
    try:
        session = runtime.load(model, LoadOptions())
        session.run(inputs)
        session.close()
    except SkerryError:
        refused += 1
print(refused)
"""


def _load_damaged(runtime: str, taken: str, folder: Path, count: int) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", LOADER, runtime, taken, str(folder), str(count)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        timeout=250,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return int(ran.stdout)


def test_damaged_files_in_the_libraries_themselves(tmp_path: Path) -> None:
    """In a process of its own: each is run or refused, and what is refused is ours.

    The libraries do not promise it; that it holds for these files is what we know.
    """
    for runtime, taken in (("litert", "tflite"), ("ncnn", "ncnn")):
        folder = tmp_path / runtime
        folder.mkdir()
        assert 0 < _load_damaged(runtime, taken, folder, 150) <= 150


def test_a_packed_file_is_read_or_refused(tmp_path: Path) -> None:
    """Any end of it may be damaged."""
    path = tmp_path / "net"

    @settings(max_examples=100)
    @given(damaged((_packed(tmp_path),)))
    def read(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(ModelError, UsageError):
            files.open_any(path)

    read()


def _packed(folder: Path) -> bytes:
    (folder / "twin.bin").write_bytes(ncnn_weights())
    path = folder / "twin.param"
    path.write_bytes(ncnn_text().encode())
    return files.model_content(files.open_any(path))
