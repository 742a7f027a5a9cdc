"""Make every model, each in a process of its own, once.

What was made is kept with the key of all that it came from; a run that was stopped goes
on where it was.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks._compress_ptq_plan import QUANTIZERS, Net, Quantizer
from benchmarks.nets.case import Case, find_part
from skerry.app.toolchains import Toolchain, find_python, find_toolchain, list_installed
from skerry.core.durable import make_folder, write_file
from skerry.core.errors import SkerryError
from skerry.graph import read_graph, upgrade_opset, write_graph
from skerry.tasks.measure import ChildCost, run_measured
from skerry.tasks.samples import SampleSource

HERE = Path(__file__).parent
PEERS = HERE / "peers"
OWN = "_compress_ptq_ours"
SOURCES = HERE.parent / "src" / "skerry"
ROOMS = ("core", "graph", "runtimes", "tasks", "compress")
OPSET = 13
"""What weights with a scale a channel need; older models are brought to it for all."""

MOST_MEMORY_BYTES = 6_000_000_000
MOST_CPU_S = {"ocr-seed0": 1200}
MOST_CPU_S_ELSEWHERE = 400
"""What a peer may use on a net; one that needs more is stopped, and the table says so.
On the OCR net a bar compares what it uses."""

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What came of one quantizer on one net.

    Attributes:
        key: Of all that it was made from.
        model: The model's file in its folder; empty where there is none.
        sha256: Of that file.
        size_bytes: Of all the model's files.
        cost: What making it used.
        note: Why there is no model, or what the tool said of it.
        notes: What the report of our own command says.
    """

    key: str
    model: str = ""
    sha256: str = ""
    size_bytes: int = 0
    cost: ChildCost | None = None
    note: str = ""
    notes: tuple[str, ...] = ()


def digest(*parts: bytes | str) -> str:
    """Hash parts of a key."""
    found = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        found.update(len(content).to_bytes(8, "little") + content)
    return found.hexdigest()


def digest_files(paths: Iterable[Path]) -> str:
    """Hash files, and all files in folders, with their names."""
    found = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in filter(Path.is_file, files):
            found.update(file.name.encode() + b"\0")
            with file.open("rb") as content:
                found.update(hashlib.file_digest(content, "sha256").digest())
    return found.hexdigest()


def case_digest(net: Net) -> str:
    """Hash all that a quantizer sees of a net."""
    names = ("model.onnx", "task.toml")
    parts = [find_part(net.folder, part) for part in ("calibration", "selection")]
    return digest_files([*(net.folder / name for name in names), *parts])


def most_cpu_s(net: Net) -> int:
    """What a peer may use on a net."""
    return MOST_CPU_S.get(net.label, MOST_CPU_S_ELSEWHERE)


def our_digest() -> str:
    """Hash our own code that has a part in the models."""
    files = sorted(file for room in ROOMS for file in (SOURCES / room).rglob("*.py"))
    return digest_files([*files, HERE / f"{OWN}.py"])


class Workshop:
    """Makes models in a work folder.

    Args:
        work: Where everything is kept.
        told: Told of what is under way.
    """

    def __init__(self, work: Path, told: Told) -> None:
        self.work = work
        self._told = told
        self._ours = our_digest()
        self._cases: dict[Path, str] = {}

    def folder(self, net: Net, name: str) -> Path:
        """Where a quantizer's model of a net is kept."""
        return self.work / "made" / net.label / name.replace(" ", "-")

    def look(self, net: Net, name: str) -> Made:
        """What there is, without making anything."""
        if why := self._why_not(net, name):
            return Made(key="", note=why)
        done = self._read(self.folder(net, name))
        if done is not None and done.key == self.key(net, name):
            return done
        return Made(key="", note="not made yet")

    def make(self, net: Net, name: str) -> Made:
        """Make a model, unless it is there already."""
        done = self.look(net, name)
        if done.key or self._why_not(net, name):
            return done
        folder, key = self.folder(net, name), self.key(net, name)
        self._told(f"{net.label}: {name}")
        done = self._finish(net, folder, key, self.command(net, name, folder))
        write_file(folder / "made.json", msgspec.json.encode(done))
        return done

    def command(self, net: Net, name: str, folder: Path) -> list[str]:
        """The command line that makes a model into an empty folder."""
        quantizer, arrays = QUANTIZERS.get(name), self._lay_out(net)
        if quantizer is None or not quantizer.script:
            setting = quantizer.setting if quantizer else name
            places = [str(place) for place in (net.folder, arrays, folder)]
            return [sys.executable, "-m", f"benchmarks.{OWN}", setting, *places]
        python = find_python(find_toolchain(quantizer.toolchain))
        script = PEERS / quantizer.script
        return [str(python), str(script), quantizer.setting, str(arrays), str(folder)]

    def cost(self, command: Sequence[str], folder: Path) -> ChildCost:
        """Run a command on one core, in an empty folder.

        Raises:
            StateError: It failed.
        """
        if folder.exists():
            shutil.rmtree(folder)
        make_folder(folder)
        core = str(max(os.sched_getaffinity(0)))
        argv = ["taskset", "--cpu-list", core, *command]
        whole = run_measured(argv, environment=_environment())
        own = msgspec.json.decode((folder / "cost.json").read_bytes(), type=dict)
        return replace(whole, **own)

    def _finish(self, net: Net, folder: Path, key: str, command: Sequence[str]) -> Made:
        try:
            cost = self.cost(command, folder)
        except SkerryError as error:
            return Made(key=key, note=f"failed: {_in_short(error, net)}")
        model = next(folder.glob("model.xml"), folder / "model.onnx")
        told: dict[str, Any] = {}
        if (folder / "told.json").exists():
            told = msgspec.json.decode((folder / "told.json").read_bytes())
        return Made(
            key=key,
            model=model.name,
            sha256=digest_files([model]),
            size_bytes=sum(file.stat().st_size for file in folder.glob("model.*")),
            cost=cost,
            note=told.get("chosen", ""),
            notes=tuple(told.get("notes", ())),
        )

    def _why_not(self, net: Net, name: str) -> str:
        quantizer = QUANTIZERS.get(name)
        if quantizer is None:
            return ""
        return quantizer.left_out(Case.read(net.folder)) or _missing(quantizer)

    def _read(self, folder: Path) -> Made | None:
        try:
            content = (folder / "made.json").read_bytes()
            return msgspec.json.decode(content, type=Made)
        except (OSError, msgspec.DecodeError):
            return None

    def key(self, net: Net, name: str) -> str:
        """What tells whether a model is still what making it again would give."""
        if net.folder not in self._cases:
            self._cases[net.folder] = case_digest(net)
        quantizer = QUANTIZERS.get(name)
        if quantizer is None or not quantizer.script:
            return digest(name, self._cases[net.folder], self._ours)
        found = {one.name: one.versions for one in list_installed()}
        return digest(
            name,
            self._cases[net.folder],
            found.get(quantizer.toolchain, ""),
            digest_files([PEERS / "_peer.py", PEERS / quantizer.script]),
        )

    def _lay_out(self, net: Net) -> Path:
        """Write model and samples as the peers' scripts read them, once."""
        folder = self.work / "arrays" / net.label
        mark = folder / "asked.json"
        asked = {
            "case": self._cases.setdefault(net.folder, case_digest(net)),
            "inputs": [spec.name for spec in Case.read(net.folder).model.inputs],
            "metric": [
                sys.executable,
                "-m",
                "benchmarks._compress_ptq_metric",
                str(net.folder.absolute()),
            ],
            "most_memory_bytes": MOST_MEMORY_BYTES,
            "most_cpu_s": most_cpu_s(net),
        }
        content = msgspec.json.encode(asked)
        if not mark.exists() or mark.read_bytes() != content:
            self._told(f"{net.label}: samples as arrays")
            if folder.exists():
                shutil.rmtree(folder)
            case = Case.read(net.folder)
            make_folder(folder)
            _write_model(case, folder / "model.onnx")
            for part in ("calibration", "selection"):
                _write_arrays(getattr(case, part), asked["inputs"], folder / part)
            write_file(mark, content)
        return folder


def _write_model(case: Case, path: Path) -> None:
    graph = read_graph(case.model.path)
    if graph.opset >= OPSET:
        shutil.copyfile(case.model.path, path)
    else:
        write_graph(upgrade_opset(graph, OPSET), path)


def _write_arrays(samples: SampleSource, names: Sequence[str], folder: Path) -> None:
    make_folder(folder)
    kept = list(samples)
    for index, name in enumerate(names):
        stacked = np.concatenate([sample.inputs[name] for sample in kept])
        np.save(folder / f"{index}.npy", stacked)
    labels = [sample.label for sample in kept]
    (folder / "labels.pickle").write_bytes(pickle.dumps(labels))


def _missing(quantizer: Quantizer) -> str:
    if not quantizer.toolchain:
        return ""
    wanted: Toolchain = find_toolchain(quantizer.toolchain)
    try:
        find_python(wanted)
    except SkerryError as error:
        return f"missing: {error.hint}"
    return ""


def _in_short(error: SkerryError, net: Net) -> str:
    what = " ".join(f"{error}. {error.hint}".split())
    if any(word in what for word in ("alloc", "MemoryError")):
        return f"needs more than {MOST_MEMORY_BYTES / 1e9:g} GB of memory"
    if f"exit code -{signal.SIGXCPU.value}" in what:
        return f"needs more than {most_cpu_s(net)} s of CPU time"
    return what[:200]


def _environment() -> dict[str, str]:
    """This process's, less what would lead another Python astray."""
    kept = {"PYTHONNOUSERSITE": "1", **os.environ}
    for name in ("PYTHONHOME", "VIRTUAL_ENV"):
        kept.pop(name, None)
    return kept
