"""Measure on a device that is reached by ssh or adb: ship, run, remove.

One command does it all: a few lines of `sh` make a folder of their own, take an archive
(the runner and the models) from standard input, run it, and remove the folder however
it ends. Standard input stays open meanwhile: when it ends, because whoever asked was
killed or the link broke, the runner ends too. A folder that a cut of power left behind
goes at the next call. What is on the device needs no more than `sh`, Python 3 and the
runtime's package.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import IO, Annotated

import msgspec

from skerry.adapt.profiles.roofline import Peaks
from skerry.app.profiling.peaks import best_peaks, peaks_at
from skerry.app.profiling.runner import GONE, MARK, PACKAGES, RUNTIMES
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
from skerry.core.model import Model
from skerry.core.profile import HardwareState, OperatorTime, Profile
from skerry.core.seams import Tensors
from skerry.runtimes import model_content
from skerry.runtimes.kernel_work import Shaped, count_bytes, count_macs
from skerry.tasks.profiling import BLOCKS, Block, pool

LARGEST_ANSWER_BYTES = 32 * 2**20
TIMEOUT_S = 1800.0
_CONNECT_S = 10
_NO_FOLDER, _NO_ROOM, _CUT_OFF, _NO_PYTHON = 71, 72, 73, 74
_NOT_CONNECTED = 255
_SIGNALS = 128
_HOST = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.@:%\[\]-]*")
_SERIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
_UNREACHED = ("not found", "no devices", "offline", "unauthorized", "cannot connect")

_SCRIPT = """
t=${{TMPDIR:-/tmp}}
[ -w "$t" ] || t=/data/local/tmp
for o in "$t"/skerry-profile.*; do
  if [ -f "$o/pid" ] && ! kill -0 "$(cat "$o/pid")" 2>/dev/null; then rm -rf "$o"; fi
done
d=$(mktemp -d "$t/skerry-profile.XXXXXX") || exit {no_folder}
trap "rm -rf \\"$d\\"" 0
trap "exit {gone}" 1 2 13 15
echo $$ >"$d/pid" || exit {no_room}
head -c {size} >"$d/run.pyz" || exit {no_room}
[ "$(wc -c <"$d/run.pyz")" -eq {size} ] || exit {cut_off}
command -v python3 >/dev/null 2>&1 || exit {no_python}
python3 "$d/run.pyz" "$d"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to measure.

    Attributes:
        url: As it was typed.
        argv: What runs a command there: the command itself is put behind it.
    """

    url: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """A model to be measured on a device.

    Attributes:
        model: The model.
        runtime: The name of what runs it there; it need not be installed here.
        inputs: One array an input; only dtypes and shapes are shipped.
        threads: CPU threads of one inference.
    """

    model: Model
    runtime: str
    inputs: Tensors
    threads: int


_Time = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_Rate = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
_Name = Annotated[str, msgspec.Meta(max_length=10_000)]


class _Kernel(msgspec.Struct):
    name: _Name
    op_type: _Name
    times_ms: list[_Time]
    inputs: list[tuple[_Name, list[_Size]]] = []
    outputs: list[tuple[_Name, list[_Size]]] = []
    moved_bytes: _Size = 0


class _Block(msgspec.Struct):
    operators: list[_Kernel]
    cpu_ms: list[_Time]
    wall_ms: list[_Time]


class _Measured(msgspec.Struct):
    blocks: list[_Block]
    memory_bytes: _Size | None = None


class _Peaks(msgspec.Struct):
    gops: _Rate
    bandwidth_gb_s: _Rate


class _Answer(msgspec.Struct):
    python: str = ""
    error: str = ""
    what: str = ""
    before: HardwareState | None = None
    after: HardwareState | None = None
    peaks: list[_Peaks] = []
    subjects: list[_Measured] = []


def parse_place(url: str) -> Place:
    """Read where to measure: `ssh://[USER@]HOST[:PORT]` or `adb://SERIAL`.

    Raises:
        UsageError: It is neither.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "ssh" and _HOST.fullmatch(rest):
        alive = ("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=6")
        wait = ("-o", "BatchMode=yes", "-o", f"ConnectTimeout={_CONNECT_S}")
        return Place(url=url, argv=("ssh", "-T", *wait, *alive, f"ssh://{rest}"))
    if scheme == "adb" and _SERIAL.fullmatch(rest):
        return Place(url=url, argv=("adb", "-s", rest, "shell", "-T", "-e", "none"))
    raise UsageError(
        f"cannot measure on {url[:80]!r}",
        hint="Write ssh://[USER@]HOST[:PORT] or adb://SERIAL.",
    )


def check_shipped(runtime: str) -> None:
    """Refuse a runtime that the runner has not.

    Raises:
        UsageError: It has others.
    """
    if runtime not in RUNTIMES:
        raise UsageError(
            f"{runtime} is not measured on devices",
            hint=f"Take one of {', '.join(sorted(RUNTIMES))}.",
        )


def profile_on(
    place: Place, subjects: Sequence[Shipped], *, repeats: int
) -> tuple[tuple[Profile, ...], Peaks]:
    """Profile subjects in turns on a device.

    Args:
        place: The device.
        subjects: What to measure; the inputs are drawn anew there.
        repeats: Inferences of each under the profiler, and as many without.

    Returns:
        One profile a subject, and what the device can do at most.

    Raises:
        UsageError: The runner has not this runtime, or the model cannot be shipped.
        LinkError: The device cannot be reached, or the link broke.
        StorageError: Its disk is full or read-only.
        ToolchainError: ssh or adb is not here, or something is missing there.
        RuntimeFailure: The runtime there does not take the model.
        WorkerLostError: The runner was killed.
        LateError: It took too long.
    """
    answer = _ask(place, _payload(subjects, repeats))
    if len(answer.peaks) != 2 or len(answer.subjects) != len(subjects):
        raise _no_sense(place)
    before, after = (
        peaks_at(each.gops, each.bandwidth_gb_s, place=f"at {place.url}")
        for each in answer.peaks
    )
    profiles = []
    for subject, measured in zip(subjects, answer.subjects, strict=True):
        if not measured.blocks or not all(
            each.cpu_ms and each.wall_ms for each in measured.blocks
        ):
            raise _no_sense(place)
        blocks = [_block(each) for each in measured.blocks]
        notes = () if blocks[0].operators else (_tells_none(subject),)
        profiles.append(
            replace(
                pool(blocks),
                runtime=subject.runtime,
                threads=subject.threads,
                model=subject.model.path.name,
                device=place.url,
                memory_bytes=measured.memory_bytes,
                before=answer.before,
                after=answer.after,
                notes=notes,
            )
        )
    return tuple(profiles), best_peaks(before, after)


def _payload(subjects: Sequence[Shipped], repeats: int) -> bytes:
    """The archive: the runner, the job, and each model once."""
    source = resources.files("skerry.app.profiling").joinpath("runner.py").read_bytes()
    jobs = []
    files: dict[Path, str] = {}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", source)
        for subject in subjects:
            name = subject.runtime
            check_shipped(name)
            path = subject.model.path
            if path not in files:
                files[path] = f"model-{len(files)}{path.suffix}"
                archive.writestr(files[path], model_content(subject.model))
            inputs = [
                {"name": key, "dtype": array.dtype.name, "shape": array.shape}
                for key, array in subject.inputs.items()
            ]
            jobs.append({"file": files[path], "runtime": name, "inputs": inputs})
        job = {
            "subjects": jobs,
            "threads": subjects[0].threads,
            "repeats": -(-repeats // BLOCKS),
            "blocks": BLOCKS,
        }
        archive.writestr("job.json", json.dumps(job))
    return content.getvalue()


def _ask(place: Place, payload: bytes) -> _Answer:
    script = _SCRIPT.format(
        size=len(payload),
        no_folder=_NO_FOLDER,
        no_room=_NO_ROOM,
        cut_off=_CUT_OFF,
        no_python=_NO_PYTHON,
        gone=GONE,
    )
    code, said, complaint = _converse(
        (*place.argv, f"exec sh -c {shlex.quote(script)}"), payload
    )
    line = next((line for line in said.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise _failure(place, code, complaint)
    try:
        answer = msgspec.json.decode(line[len(MARK) :], type=_Answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _no_sense(place) from error
    if answer.error:
        raise _refusal(place, answer)
    return answer


def _converse(argv: Sequence[str], payload: bytes) -> tuple[int, str, str]:
    """Run a command, feed it, and keep its input open until its output ends."""
    with tempfile.TemporaryFile() as complaints:
        try:
            running = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
            )
        except OSError as error:
            raise ToolchainError(
                f"cannot start {argv[0]}: {error.strerror}",
                hint="Install it: apt-get install openssh-client, or adb.",
            ) from error
        late = threading.Event()

        def give_up() -> None:
            late.set()
            running.kill()

        alarm = threading.Timer(TIMEOUT_S, give_up)
        alarm.daemon = True
        alarm.start()
        with running:
            feeder = threading.Thread(
                target=_feed, args=(running.stdin, payload), daemon=True
            )
            feeder.start()
            try:
                said = (
                    running.stdout.read(LARGEST_ANSWER_BYTES) if running.stdout else b""
                )
            finally:
                alarm.cancel()
                # Whatever the reason to leave: the device cleans up when we are gone.
                if running.stdin is not None:
                    with contextlib.suppress(OSError, ValueError):
                        running.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.wait(_CONNECT_S)
                running.kill()
                feeder.join(_CONNECT_S)
        if late.is_set():
            raise LateError(
                f"{argv[0]} gave no answer in {TIMEOUT_S:g} s",
                hint="Ask for fewer --repeats, or a smaller model.",
            )
        complaints.seek(0)
        complaint = complaints.read(4096).decode(errors="replace")
    return running.returncode, said.decode(errors="replace"), complaint


def _feed(stdin: IO[bytes] | None, payload: bytes) -> None:
    """Write the payload, and leave the pipe open."""
    with contextlib.suppress(OSError, ValueError):
        if stdin is not None:
            stdin.write(payload)
            stdin.flush()


def _block(measured: _Block) -> Block:
    return Block(
        operators=tuple(map(_operator, measured.operators)),
        cpu_ms=tuple(measured.cpu_ms),
        wall_ms=tuple(measured.wall_ms),
    )


def _operator(kernel: _Kernel) -> OperatorTime:
    inputs, outputs = (
        [Shaped(dtype=dtype, sizes=tuple(sizes)) for dtype, sizes in shapes]
        for shapes in (kernel.inputs, kernel.outputs)
    )
    dtype = inputs[0].dtype if inputs else ""
    moved_bytes = kernel.moved_bytes or count_bytes(inputs, outputs)
    return OperatorTime(
        name=kernel.name,
        op_type=kernel.op_type,
        latency_ms=min(kernel.times_ms, default=0.0),
        dtype={"float": "float32", "double": "float64"}.get(dtype, dtype),
        times_ms=tuple(kernel.times_ms),
        macs=count_macs(kernel.op_type, inputs, outputs),
        moved_bytes=moved_bytes or None,
    )


def _tells_none(subject: Shipped) -> str:
    return f"{subject.runtime} does not tell how long each operator takes."


def _refusal(place: Place, answer: _Answer) -> SkerryError:
    """The error of what the runner refused."""
    what = " ".join(answer.what.split())[:500]
    if answer.error == "missing":
        return ToolchainError(
            f"{place.url} has Python {answer.python}, but not the package {what}",
            hint=f"Install it there: python3 -m pip install {what}",
        )
    if answer.error == "model":
        return RuntimeFailure(
            f"the runtime at {place.url} does not take the model: {what}",
            hint="Compare its version there with the one here: skerry runtime ls.",
        )
    return StorageError(
        f"cannot write at {place.url}: {what}",
        hint="Free some space there, or set TMPDIR there to a folder that has some.",
    )


def _failure(place: Place, code: int, complaint: str) -> SkerryError:
    """The error of an end without an answer, by the exit code."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    why = lines[-1][:300] if lines else f"exit code {code}"
    is_unreached = any(word in complaint for word in _UNREACHED)
    if code == _NOT_CONNECTED or (place.argv[0] == "adb" and is_unreached):
        return LinkError(
            f"{place.url} cannot be reached: {why}",
            hint=f"Does `{shlex.join(place.argv[:1])}` reach it without a password?",
        )
    if code in (_NO_FOLDER, _NO_ROOM):
        return StorageError(
            f"cannot write at {place.url}: {why}",
            hint="Free some space there, or set TMPDIR there to a folder with some.",
        )
    if code == _NO_PYTHON:
        return ToolchainError(
            f"{place.url} has no python3",
            hint="Install Python 3 and the runtime's package there; or record with the "
            "vendor's own tool, and give its file to --read.",
        )
    if code < 0 or code > _SIGNALS:
        signal = -code if code < 0 else code - _SIGNALS
        return WorkerLostError(
            f"the runner at {place.url} was killed by signal {signal}",
            hint="Signal 9 means, mostly, that the memory there is too small.",
        )
    if code in (_CUT_OFF, GONE):
        return LinkError(f"the link to {place.url} broke: {why}", hint="Try it again.")
    return StateError(
        f"the runner at {place.url} failed: {why}",
        hint=f"It takes Python 3.7 and one of {', '.join(_packages())} there.",
    )


def _packages() -> list[str]:
    return sorted({PACKAGES.get(name, name) for name in RUNTIMES})


def _no_sense(place: Place) -> DataError:
    return DataError(
        f"{place.url} gave an answer that makes no sense",
        hint="Is its python3 the real one?",
    )
