"""Score and time models, each once: what was measured is kept by what it came from."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks._compress_ptq_make import Told, digest, digest_files
from benchmarks._compress_ptq_plan import FLOAT, OPENVINO, Net
from benchmarks.nets.case import Case, find_part
from skerry.core.durable import make_folder, write_file
from skerry.core.errors import SkerryError
from skerry.core.model import Model
from skerry.core.seams import LoadOptions, Session
from skerry.graph import open_model
from skerry.runtimes import get_runtime
from skerry.tasks.evaluate import evaluate
from skerry.tasks.measure import Ratio, measure_latency, ratio
from skerry.tasks.metrics import find_metric
from skerry.tasks.tally import Tally

ONE_THREAD = LoadOptions(threads=1)
REPEATS = 101
FEWEST_REPEATS = 31
QUICK_REPEATS = 11
MOST_TIMING_S = 30.0
"""About how long all models of a net may take on one runtime: slow nets get fewer
rounds, never less than `FEWEST_REPEATS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A model's score on the report samples, on one runtime.

    Attributes:
        key: Of model, samples and task.
        metric: The task's metric.
        value: It, over all samples.
        n: How many samples.
        tally: What comparing it with another model needs; None where it failed.
        note: Why there is no score.
    """

    key: str
    metric: str = ""
    value: float = float("nan")
    n: int = 0
    tally: Tally | None = None
    note: str = ""

    def points(self, fraction: float) -> float:
        """A change of the metric as points lost; below 0 is a gain."""
        return 0.0 + 100 * find_metric(self.metric).drop(self.value, fraction)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Times of a net's models on one runtime, each ÷ that of float32.

    Attributes:
        key: Of all the models.
        repeats: Rounds.
        float_ms: What float32 took, the median.
        ratios: By quantizer.
        failed: Why a model could not be timed, by quantizer.
        shas: SHA-256 of what was timed, by quantizer.
    """

    key: str
    repeats: int
    float_ms: float
    ratios: dict[str, Ratio]
    failed: dict[str, str]
    shas: dict[str, str]


def load(net: Net, path: Path, runtime: str) -> Session:
    """Load a model file on one thread.

    Args:
        net: Its case gives the signature of a model in OpenVINO's own form.
        path: `.onnx`, or `.xml` for OpenVINO.
        runtime: The runtime's name.

    Raises:
        SkerryError: The runtime cannot.
    """
    if path.suffix == ".xml":
        return _load_ir(open_model(net.folder / "model.onnx"), path)
    return get_runtime(runtime).load(open_model(path), ONE_THREAD)


def _load_ir(source: Model, path: Path) -> Session:
    get_runtime(OPENVINO)  # imports the library as we do, without its telemetry
    import openvino

    from skerry.runtimes.openvino import OpenvinoSession

    settings = {
        "INFERENCE_NUM_THREADS": ONE_THREAD.threads,
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
    }
    return OpenvinoSession(source, openvino.Core().read_model(path), settings)


class Scorer:
    """Scores models in a work folder.

    Args:
        work: Where scores are kept.
        told: Told of what is under way.
    """

    def __init__(self, work: Path, told: Told) -> None:
        self._work = work
        self._told = told
        self._reports: dict[Path, str] = {}

    def look(self, net: Net, name: str, sha256: str, runtime: str) -> Scored:
        """The score there is, without measuring."""
        kept = self._read(self._path(net, name, runtime))
        if kept is not None and kept.key == self._key(net, sha256, runtime):
            return kept
        return Scored(key="", note="not scored yet")

    def score(
        self, net: Net, name: str, path: Path, sha256: str, runtime: str
    ) -> Scored:
        """Score a model, unless that was done already."""
        kept = self.look(net, name, sha256, runtime)
        if kept.key:
            return kept
        self._told(f"{net.label}: scoring {name} on {runtime}")
        key = self._key(net, sha256, runtime)
        try:
            done = self._evaluate(net, path, runtime, key)
        except SkerryError as error:
            done = Scored(key=key, note=f"fails on {runtime}: {error}"[:200])
        target = self._path(net, name, runtime)
        make_folder(target.parent)
        write_file(target, pickle.dumps(done))
        return done

    def _evaluate(self, net: Net, path: Path, runtime: str, key: str) -> Scored:
        case = Case.read(net.folder)
        session = load(net, path, runtime)
        try:
            scores = evaluate(session, case.report, case.task)
        finally:
            session.close()
        return Scored(
            key=key,
            metric=scores.metric,
            value=scores.value,
            n=len(scores.names),
            tally=scores.tally,
        )

    def _path(self, net: Net, name: str, runtime: str) -> Path:
        file = f"{name}@{runtime}.pickle".replace(" ", "-")
        return self._work / "scores" / net.label / file

    def _key(self, net: Net, sha256: str, runtime: str) -> str:
        if net.folder not in self._reports:
            files = (find_part(net.folder, "report"), net.folder / "task.toml")
            self._reports[net.folder] = digest_files(files)
        return digest(sha256, self._reports[net.folder], runtime)

    def _read(self, path: Path) -> Scored | None:
        try:
            found: Any = pickle.loads(path.read_bytes())  # noqa: S301 — our own file
        except Exception:  # noqa: BLE001 — an older class, a file cut short: do it again
            return None
        return found if isinstance(found, Scored) else None


class Timer:
    """Times all models of a net in turns, one thread each.

    Args:
        work: Where times are kept.
        told: Told of what is under way.
        quick: Whether few rounds will do.
    """

    def __init__(self, work: Path, told: Told, *, quick: bool) -> None:
        self._work = work
        self._told = told
        self._quick = quick

    def look(self, net: Net, runtime: str) -> Timed | None:
        """The times there are, of whatever models there were then."""
        try:
            content = self._path(net, runtime).read_bytes()
            return msgspec.json.decode(content, type=Timed)
        except (OSError, msgspec.DecodeError):
            return None

    def time(
        self, net: Net, models: Mapping[str, tuple[Path, str]], runtime: str
    ) -> Timed:
        """Time models, unless these very ones were timed already.

        Args:
            net: Whose they are.
            models: File and SHA-256 by quantizer, `FLOAT` among them.
            runtime: Where.
        """
        named = [f"{name} {sha256}" for name, (_, sha256) in sorted(models.items())]
        key = digest("quick" if self._quick else "", runtime, *named)
        kept = self.look(net, runtime)
        if kept is not None and kept.key == key:
            return kept
        self._told(f"{net.label}: timing {len(models)} models on {runtime}")
        done = self._measure(net, models, runtime, key)
        make_folder(self._path(net, runtime).parent)
        write_file(self._path(net, runtime), msgspec.json.encode(done))
        return done

    def _measure(
        self,
        net: Net,
        models: Mapping[str, tuple[Path, str]],
        runtime: str,
        key: str,
    ) -> Timed:
        inputs = next(iter(Case.read(net.folder).report)).inputs
        sessions: dict[str, Session] = {}
        failed = {}
        for name, (path, _) in models.items():
            try:
                session = load(net, path, runtime)
                session.run(inputs)
            except SkerryError as error:
                failed[name] = f"fails on {runtime}: {error}"[:200]
            else:
                sessions[name] = session
        calls: dict[str, Callable[[], object]] = {
            name: partial(session.run, inputs) for name, session in sessions.items()
        }
        repeats = self._repeats(calls)
        times = measure_latency(calls, repeats=repeats)
        for session in sessions.values():
            session.close()
        before = times[FLOAT]
        return Timed(
            key=key,
            repeats=repeats,
            float_ms=before.median_ms,
            ratios={name: ratio(after, before) for name, after in times.items()},
            failed=failed,
            shas={name: sha256 for name, (_, sha256) in models.items()},
        )

    def _repeats(self, calls: Mapping[str, Callable[[], object]]) -> int:
        if self._quick:
            return QUICK_REPEATS
        once = measure_latency(calls, repeats=2)
        # Each turn is two calls; see `measure_latency`.
        round_s = 2 * sum(one.median_ms for one in once.values()) / 1e3
        return max(FEWEST_REPEATS, min(REPEATS, int(MOST_TIMING_S / round_s)))

    def _path(self, net: Net, runtime: str) -> Path:
        return self._work / "times" / f"{net.label}@{runtime}.json"
