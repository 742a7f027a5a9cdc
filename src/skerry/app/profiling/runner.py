"""Profiles models where there is no Skerry: shipped to a device, run, and removed.

It takes Python 3.7, numpy, and the runtime's own package, and imports nothing of ours.
It lies as `__main__.py` in an archive, with the models and `job.json` beside it; it
prints one line of JSON after `MARK`. When its standard input ends, so does it: whoever
asked has gone.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import sys
import threading
import time
import zipfile
from typing import Any, Callable  # noqa: UP035 - Python 3.7 has no other

MARK = "skerry-profile:"
GONE = 75
CALIBRATE = "--calibrate"
SIDE = 768
COPIED_BYTES = 32 * 1024 * 1024
TRIES, TRIED_S = 5, 0.2

Operator = dict[str, Any]
"""A kernel: name, type, dtype, shapes read and written, bytes moved, times."""


class Refused(Exception):  # noqa: N818 - what it says is read, not raised further
    """What cannot be done here, and why.

    Args:
        kind: `missing`, `model` or `storage`.
        what: One line.
    """

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


class OnnxRuntime:
    """A model on onnxruntime."""

    def __init__(self, path: str, threads: int) -> None:
        self._library = self.library()
        self._path, self._threads = path, threads
        self._session = self._open("")
        self.version = self._library.__version__

    @staticmethod
    def library() -> Any:
        """Import it."""
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        return onnxruntime

    def run(self, inputs: Any) -> None:
        """Run one inference."""
        self._session.run(None, inputs)

    def operators(self, inputs: Any, repeats: int) -> list[Operator]:
        """The times of each kernel, by onnxruntime's own profiler."""
        session = self._open(self._path + "-profile")
        for _ in range(repeats + 1):
            session.run(None, inputs)
        trace = session.end_profiling()
        with open(trace, "rb") as file:  # noqa: PTH123 - a plain path
            events = _whole(file.read())
        os.remove(trace)  # noqa: PTH107 - a plain path
        found: dict[str, Operator] = {}
        for event in events:
            name = event.get("name", "")
            if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
                continue
            facts = event["args"]
            sizes = ("activation_size", "parameter_size", "output_size")
            kernel = found.setdefault(
                name,
                {
                    "name": name[: -len("_kernel_time")],
                    "op_type": facts["op_name"],
                    "inputs": _pairs(facts.get("input_type_shape", [])),
                    "outputs": _pairs(facts.get("output_type_shape", [])),
                    "moved_bytes": sum(int(facts.get(size, 0)) for size in sizes),
                    "times_ms": [],
                },
            )
            kernel["times_ms"].append(event["dur"] / 1000)
        for kernel in found.values():
            kernel["times_ms"] = kernel["times_ms"][1:] or kernel["times_ms"]
        return list(found.values())

    def _open(self, prefix: str) -> Any:
        settings = self._library.SessionOptions()
        settings.intra_op_num_threads = self._threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if prefix:
            settings.enable_profiling = True
            settings.profile_file_prefix = prefix
        return self._library.InferenceSession(
            self._path, settings, providers=["CPUExecutionProvider"]
        )


class Openvino:
    """A model on OpenVINO."""

    def __init__(self, path: str, threads: int) -> None:
        self._library = self.library()
        self._path, self._threads = path, threads
        self._request = self._compile(is_profiled=False)
        self.version = self._library.get_version().partition("-")[0]

    @staticmethod
    def library() -> Any:
        """Import it, without what it would report to its maker."""
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        import openvino

        return openvino

    def run(self, inputs: Any) -> None:
        """Run one inference."""
        self._request.infer(inputs)

    def operators(self, inputs: Any, repeats: int) -> list[Operator]:
        """The mean time of each operator; OpenVINO tells no other."""
        request = self._compile(is_profiled=True)
        request.infer(inputs)
        cold = {each.node_name: _ms(each.real_time) for each in request.profiling_info}
        for _ in range(repeats):
            request.infer(inputs)
        executed = self._library.ProfilingInfo.Status.EXECUTED
        found = []
        for each in request.profiling_info:
            if each.status != executed:
                continue
            mean_ms = _ms(each.real_time)
            all_ms = mean_ms * (repeats + 1) - cold.get(each.node_name, mean_ms)
            found.append(
                {
                    "name": each.node_name,
                    "op_type": each.node_type + " " + each.exec_type,
                    "times_ms": [max(0.0, all_ms / repeats)],
                }
            )
        return found

    def _compile(self, *, is_profiled: bool) -> Any:
        settings = {
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
            "PERF_COUNT": is_profiled,
        }
        core = self._library.Core()
        return core.compile_model(self._path, "CPU", settings).create_infer_request()


class Litert:
    """A model on LiteRT, which tells no times of operators."""

    def __init__(self, path: str, threads: int) -> None:
        library = self.library()
        self._net = library.Interpreter(model_path=path, num_threads=threads)
        self._net.allocate_tensors()
        self.version = getattr(library, "__version__", "")

    @staticmethod
    def library() -> Any:
        """Import it, under its new name or its old one."""
        try:
            from ai_edge_litert import interpreter
        except ImportError:
            from tflite_runtime import interpreter  # type: ignore[import-not-found]
        return interpreter

    def run(self, inputs: Any) -> None:
        """Run one inference; inputs are told apart by their order."""
        for port, array in zip(self._net.get_input_details(), inputs.values()):  # noqa: B905 - Python 3.7 knows no strict
            if tuple(port["shape"]) != array.shape:
                self._net.resize_tensor_input(port["index"], array.shape)
                self._net.allocate_tensors()
            self._net.set_tensor(port["index"], array)
        self._net.invoke()

    def operators(self, inputs: Any, repeats: int) -> list[Operator]:
        """None: its Python package does not tell."""
        del inputs, repeats
        return []


RUNTIMES: dict[str, Any] = {
    "litert": Litert,
    "onnxruntime": OnnxRuntime,
    "openvino": Openvino,
}
PACKAGES = {"litert": "ai-edge-litert"}


def main(folder: str) -> int:
    """Run the job of this archive in a folder; the exit code."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    try:
        answer = profile(folder)
    except Refused as error:
        answer = {"error": error.kind, "what": str(error)}
    except OSError as error:
        answer = {"error": "storage", "what": str(error)}
    answer["python"] = platform.python_version()
    sys.stdout.write(MARK + json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 0


def profile(folder: str) -> dict[str, Any]:
    """Profile the subjects of the job in turns.

    Raises:
        Refused: Something is missing here, or a runtime does not take a model.
        OSError: The disk is full, or not to be written.
    """
    with zipfile.ZipFile(sys.argv[0]) as archive:
        job = json.loads(archive.read("job.json"))
        for subject in job["subjects"]:
            archive.extract(subject["file"], folder)
    numpy = import_numpy(job["threads"])
    before = state()
    peaks = [calibrate(numpy, job["threads"])]
    subjects = [_load(numpy, each, job, folder) for each in job["subjects"]]
    for _ in range(job["blocks"]):
        for subject in subjects:
            subject["blocks"].append({"operators": _operators(subject, job["repeats"])})
        for subject in subjects:
            subject["blocks"][-1]["cpu_ms"] = []
            subject["blocks"][-1]["wall_ms"] = []
        for _ in range(job["repeats"]):
            for subject in subjects:
                _time(subject)
    peaks.append(calibrate(numpy, job["threads"]))
    told = ("blocks", "memory_bytes", "version")
    return {
        "before": before,
        "after": state(),
        "peaks": peaks,
        "subjects": [{key: each[key] for key in told} for each in subjects],
    }


def state() -> dict[str, float | None]:
    """The hottest sensor and the fastest core's clock."""
    heats = _numbers("/sys/class/thermal/thermal_zone*/temp")
    clocks = _numbers("/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")
    return {
        "temperature_c": max(heats) / 1000 if heats else None,
        "clock_mhz": max(clocks) / 1000 if clocks else None,
    }


def import_numpy(threads: int) -> Any:
    """Import numpy; it reads at its start how many threads a product may use.

    Raises:
        Refused: It is not here.
    """
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[library + "_NUM_THREADS"] = str(threads)
    try:
        import numpy  # noqa: ICN001 - it is handed on by its name
    except ImportError:
        raise Refused("missing", "numpy") from None
    return numpy


def calibrate(numpy: Any, threads: int) -> dict[str, float]:
    """The peaks of this machine: one product, one copy; the fastest of some tries.

    The copy is of one thread, and its bytes count twice, read and written. Of one
    thread the CPU time counts, which a neighbour cannot stretch so easily.
    """
    of_one = time.process_time
    read_s = of_one if threads == 1 else time.perf_counter
    chance = numpy.random.RandomState(0)
    left = chance.standard_normal((SIDE, SIDE)).astype(numpy.float32)
    made = numpy.empty_like(left)
    product_s = _fastest(lambda: numpy.dot(left, left, out=made), read_s)
    source = numpy.ones(COPIED_BYTES // 4, numpy.float32)
    target = numpy.zeros_like(source)
    copy_s = _fastest(lambda: numpy.copyto(target, source), of_one)
    return {
        "gops": 2 * SIDE**3 / product_s / 1e9,
        "bandwidth_gb_s": 2 * COPIED_BYTES / copy_s / 1e9,
    }


def _load(
    numpy: Any, subject: dict[str, Any], job: dict[str, Any], folder: str
) -> dict[str, Any]:
    name = subject["runtime"]
    path = os.path.join(folder, subject["file"])  # noqa: PTH118 - a plain path
    chance = numpy.random.RandomState(0)
    inputs = {}
    for spec in subject["inputs"]:
        shape = tuple(spec["shape"])
        is_float = spec["dtype"].startswith("float")
        values = chance.standard_normal(shape) if is_float else numpy.zeros(shape)
        inputs[spec["name"]] = values.astype(spec["dtype"])
    try:
        RUNTIMES[name].library()
    except ImportError:
        raise Refused("missing", PACKAGES.get(name, name)) from None
    held = _forget_peak()
    try:
        session = RUNTIMES[name](path, job["threads"])
        session.run(inputs)
    except Exception as error:  # noqa: BLE001 - a library's own; said, not hidden
        raise Refused("model", str(error).strip()[:500] or repr(error)[:500]) from None
    return {
        "session": session,
        "inputs": inputs,
        "blocks": [],
        "version": session.version,
        "memory_bytes": None if held is None else max(0, _resident("VmHWM") - held),
    }


def _operators(subject: dict[str, Any], repeats: int) -> list[Operator]:
    found: list[Operator] = subject["session"].operators(subject["inputs"], repeats)
    return found


def _time(subject: dict[str, Any]) -> None:
    """One inference to warm the caches, and one that is timed."""
    session, inputs = subject["session"], subject["inputs"]
    session.run(inputs)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    session.run(inputs)
    block = subject["blocks"][-1]
    block["wall_ms"].append((time.perf_counter() - wall_s) * 1000)
    block["cpu_ms"].append((time.process_time() - cpu_s) * 1000)


def _whole(content: bytes) -> list[dict[str, Any]]:
    """The events of a trace; where it is cut off, the disk was full."""
    try:
        found: list[dict[str, Any]] = json.loads(content)
    except ValueError:
        raise Refused("storage", "the profile is cut off: no room is left") from None
    return found


def _pairs(shapes: list[dict[str, list[int]]]) -> list[list[Any]]:
    return [[dtype, sizes] for each in shapes for dtype, sizes in each.items()]


def _ms(duration: Any) -> float:
    return float(duration.total_seconds() * 1000)


def _fastest(call: Callable[[], Any], read_s: Callable[[], float]) -> float:
    call()
    times: list[float] = []
    while len(times) < TRIES or sum(times) < TRIED_S:
        began_s = read_s()
        call()
        times.append(read_s() - began_s)
    return max(min(times), 1e-9)


def _numbers(pattern: str) -> list[float]:
    found = []
    for path in glob.glob(pattern):  # noqa: PTH207 - a plain path
        try:
            with open(path) as file:  # noqa: PTH123 - a plain path
                found.append(float(file.read()))
        except (OSError, ValueError):
            continue
    return found


def _forget_peak() -> int | None:
    """Have Linux forget the peak of this process; what it holds now."""
    try:
        with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123 - a plain path
            file.write("5")
        return _resident("VmRSS")
    except OSError:
        return None


def _resident(field: str) -> int:
    with open("/proc/self/status") as file:  # noqa: PTH123 - a plain path
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


def _end_with_input() -> None:
    """End this process when whoever asked has gone."""
    while os.read(0, 4096):
        pass
    os._exit(GONE)


if __name__ == "__main__":
    if sys.argv[1] == CALIBRATE:
        wanted = int(sys.argv[2])
        sys.stdout.write(MARK + json.dumps(calibrate(import_numpy(wanted), wanted)))
        sys.exit(0)
    sys.exit(main(sys.argv[1]))
