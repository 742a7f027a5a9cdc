"""What it costs to run a model in a process of its own, and how it stands kills.

`python -m benchmarks._serving_workers [--kills 100] [--model FILE.onnx]`

Prints CPU milliseconds a request of both processes (a null model that takes 307 KB),
proportional memory of the whole tree, time from SIGKILL to the next answer, and what is
lost in kills under load, each a quarter of a second after the model was back.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from skerry.core.errors import SkerryError
from skerry.core.model import Model, ModelFormat, TensorSpec
from skerry.core.seams import Array, LoadOptions, Session
from skerry.edge.workers import IsolatedRuntimes, WorkerPool, WorkerSession
from skerry.graph import read_graph

REQUESTS = 3000
ROUNDS = 5
SHAPE = (1, 3, 160, 160)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--model", type=Path, help="an ONNX model of static shapes")
    wanted = parser.parse_args()
    pool = WorkerPool()
    with tempfile.TemporaryDirectory() as folder:
        null = _null_model(Path(folder) / "null.bin")
        session = _load(pool, "null", null)
        print(f"null, 307 KB: {_cpu_ms(session):.4f} CPU-ms a request")
        session.close()
        name, model = "null", null
        if wanted.model is not None:
            name, model = "onnxruntime", _onnx_model(wanted.model)
        session = _load(pool, name, model)
        inputs = _inputs(session)
        session.run(inputs)
        pids = [os.getpid(), pool.spare(name).pid, session.figures().pid]
        print(f"PSS in MB of caller, spare, worker: {[_pss_mb(pid) for pid in pids]}")
        _kill(session, inputs, wanted.kills)
        session.close()
    pool.close()


def _load(pool: WorkerPool, name: str, model: Model) -> WorkerSession:
    session = IsolatedRuntimes(pool)(name).load(model, LoadOptions())
    if not isinstance(session, WorkerSession):
        raise TypeError
    return session


def _null_model(path: Path) -> Model:
    path.write_bytes(b"-")
    x = TensorSpec(name="x", dtype="float32", shape=SHAPE)
    y = TensorSpec(name="y", dtype="float32", shape=(1, 1000))
    return _model(path, (x,), (y,))


def _onnx_model(path: Path) -> Model:
    graph = read_graph(path)
    return _model(path, tuple(graph.inputs), tuple(graph.outputs))


def _model(
    path: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> Model:
    return Model(
        path=path,
        format=ModelFormat.ONNX,
        inputs=inputs,
        outputs=outputs,
        sha256="",
        size_bytes=path.stat().st_size,
    )


def _inputs(session: Session) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        spec.name: rng.random([int(size or 1) for size in spec.shape]).astype(
            spec.dtype
        )
        for spec in session.inputs
    }


def _cpu_ms(session: WorkerSession) -> float:
    """Median over some rounds, caller and worker together."""
    inputs = _inputs(session)
    rounds = []
    for _ in range(ROUNDS):
        session.run(inputs)
        began = time.process_time() + _cpu_s(session.figures().pid)
        for _ in range(REQUESTS):
            session.run(inputs)
        used = time.process_time() + _cpu_s(session.figures().pid) - began
        rounds.append(used / REQUESTS * 1000)
    return statistics.median(rounds)


def _cpu_s(pid: int | None) -> float:
    """CPU time of all threads of a process, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _pss_mb(pid: int | None) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def _kill(session: WorkerSession, inputs: dict[str, Array], kills: int) -> None:
    """Kill the worker again and again, while two threads ask it."""
    answered: list[float] = []
    lost: list[SkerryError] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                session.run(inputs)
                answered.append(time.perf_counter())
            except SkerryError as error:
                lost.append(error)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    gaps_ms = []
    for _ in range(kills):
        time.sleep(0.25)
        pid, began_s = session.figures().pid, time.perf_counter()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        while session.figures().pid in {pid, None}:
            time.sleep(0.001)
        back = len(answered)
        while len(answered) < back + 4:
            time.sleep(0.001)
        gaps_ms.append((answered[back] - began_s) * 1000)
    done.set()
    for thread in threads:
        thread.join()
    print(
        f"{kills} kills: {len(answered)} answered, {len(lost)} lost; SIGKILL to answer "
        f"{statistics.median(gaps_ms):.0f} ms in the median, {max(gaps_ms):.0f} at most"
    )
    for error in lost[:5]:
        print(error)


if __name__ == "__main__":
    main()
