"""Every runtime and format in worker processes, and what only they survive."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import ModelError, RuntimeFailure
from skerry.core.model import ModelFormat
from skerry.core.seams import LoadOptions
from skerry.edge.sealed_vault import SealedVault
from skerry.edge.vault import lending
from skerry.edge.workers import IsolatedRuntimes, WorkerPool
from skerry.evolve.trust.at_rest import DeviceKey
from skerry.runtimes import get_runtime, open_any
from skerry.runtimes.preferred import preferring
from tests.commands import wait_for
from tests.operators import operator_library, operator_net
from tests.twins import inputs_for, ncnn_text, twin

pytestmark = pytest.mark.system

PAIRS = [
    ("onnxruntime", ModelFormat.ONNX),
    ("openvino", ModelFormat.ONNX),
    ("openvino", ModelFormat.TFLITE),
    ("litert", ModelFormat.TFLITE),
    ("ncnn", ModelFormat.NCNN),
]


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedRuntimes]:
    """Runtimes in worker processes."""
    pool = WorkerPool()
    try:
        yield IsolatedRuntimes(pool)
    finally:
        pool.close()


@pytest.mark.parametrize(("name", "taken"), PAIRS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_answers_what_the_runtime_does(
    isolated: IsolatedRuntimes,
    name: str,
    taken: ModelFormat,
    threads: int,
    tmp_path: Path,
) -> None:
    """Bit for bit, in each format, with threads that the fork must not have lost."""
    model = twin(taken, tmp_path)
    options = LoadOptions(threads=threads, precision="float32")
    session = isolated(name).load(model, options)
    wanted = get_runtime(name).load(model, options).run(inputs_for(model))
    np.testing.assert_array_equal(session.run(inputs_for(model))["y"], wanted["y"])
    session.close()


@pytest.mark.parametrize(("name", "taken"), PAIRS[:-1])  # ncnn's has two files
def test_a_worker_loads_out_of_a_sealed_folder(
    name: str, taken: ModelFormat, tmp_path: Path
) -> None:
    """Whatever reads the file; an edited one is not even tried, at no later load."""
    model = twin(taken, tmp_path)
    wanted = get_runtime(name).load(model, LoadOptions()).run(inputs_for(model))
    vault = SealedVault(tmp_path, DeviceKey(b"k" * 32), level="file")
    vault.write_file(model.path, model.path.read_bytes())
    with contextlib.closing(WorkerPool(lend=lending(vault))) as pool:
        session = IsolatedRuntimes(pool)(name).load(model, LoadOptions())
        np.testing.assert_array_equal(session.run(inputs_for(model))["y"], wanted["y"])
        vault.write_file(model.path, b"another model")
        worker = session.figures().pid
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: session.figures().pid != worker)
        with pytest.raises(RuntimeFailure, match=r"was installed|die again"):
            session.run(inputs_for(model))
        session.close()


def test_libraries_and_fallbacks_cross_to_the_worker(
    isolated: IsolatedRuntimes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its operators run there; what it could not have is told here."""
    path = tmp_path / "inverse.onnx"
    path.write_bytes(operator_net())
    runtime = preferring(("cuda",), isolated)("onnxruntime")
    with caplog.at_level(logging.WARNING):
        session = runtime.load(
            open_any(path), LoadOptions(libraries=(operator_library(),))
        )
    found = session.run({"x": np.array([[2, 0], [0, 4]], np.float32)})["y"]
    np.testing.assert_allclose(found, [[0.5, 0], [0, 0.25]])
    assert session.providers == ("cpu",)
    assert session.fallbacks == ("cuda is not in this build of onnxruntime",)
    assert "runtime.fallback" in [record.message for record in caplog.records]
    session.close()
    with pytest.raises(RuntimeFailure, match="Inverse"):
        runtime.load(open_any(path), LoadOptions())


def test_what_would_crash_ncnn_brings_down_its_worker_alone(
    isolated: IsolatedRuntimes, tmp_path: Path
) -> None:
    """A net of absurd sizes is an error of ours or an answer, and others go on."""
    (tmp_path / "good").mkdir()
    good = twin(ModelFormat.NCNN, tmp_path / "good")
    session = isolated("ncnn").load(good, LoadOptions())
    wanted = session.run(inputs_for(good))["y"]
    bad = twin(ModelFormat.NCNN, tmp_path)
    for absurd in ("1=30000 4=1", "1=3 4=2000000000", "1=3 2=-7 4=1", "1=3 3=0 4=1"):
        bad.path.write_text(ncnn_text().replace("1=3 4=1", absurd))
        try:
            other = isolated("ncnn").load(replace(bad), LoadOptions())
        except ModelError:
            continue
        try:
            other.run(inputs_for(bad))
        except ModelError as error:
            assert error.hint  # noqa: PT017 - an answer will do as well
        finally:
            other.close()
    np.testing.assert_array_equal(session.run(inputs_for(good))["y"], wanted)
    session.close()
