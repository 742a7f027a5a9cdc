from __future__ import annotations

import json
from pathlib import Path

import pytest

from skerry.adapt.profiles import parse_profiles, read, read_profiles
from skerry.core.errors import DataError, UsageError
from skerry.core.profile import Profile, join_profiles
from tests import foreign_profiles
from tests.trace_schema import check_trace
from tests.velas import LAYERS, SUMMARY


def one(content: bytes) -> Profile:
    """Read what holds one profile."""
    (found,) = parse_profiles(content, name="it")
    assert found.source == "it"
    return found


def times(profile: Profile) -> dict[str, float]:
    """Milliseconds by operator."""
    return {each.name: round(each.latency_ms, 6) for each in profile.operators}


def test_chrome_traces() -> None:
    """The innermost slices are the operators, of complete and of paired events."""
    found = one(foreign_profiles.CHROME)
    assert found.runtime == "detector"
    assert times(found) == {"conv": 0.04, "relu": 0.03}
    assert [each.op_type for each in found.operators] == ["Conv", "Relu"]
    assert found.operators[0].noise == pytest.approx(0.25)
    assert found.repeats == 2


def test_a_list_of_events_may_lack_its_end() -> None:
    """Chrome's format allows a trace whose writer was killed."""
    whole = b'[{"ph": "X", "name": "a", "pid": 1, "tid": 1, "ts": 1, "dur": 5},'
    assert times(one(whole)) == {"a": 0.005}


@pytest.mark.parametrize("since_us", [2_000_000_000_000, 1_790_000_000_000_000])
def test_clocks_may_have_run_for_long(since_us: int) -> None:
    """Of a machine that is up since three weeks, or of one that counts from 1970."""
    events = [
        {"ph": "B", "name": "a", "pid": 1, "tid": 1, "ts": since_us},
        {"ph": "E", "pid": 1, "tid": 1, "ts": since_us + 500},
        {"ph": "X", "name": "b", "pid": 1, "tid": 1, "ts": since_us + 600, "dur": 40},
    ]
    (found,) = parse_profiles(json.dumps(events).encode(), name="it")
    assert [one.latency_ms for one in found.operators] == [0.5, 0.04]


def test_each_process_is_a_profile() -> None:
    """The longest first; threads tell operators apart where there are several."""
    event = '{"ph": "X", "name": "a", "pid": %d, "tid": %d, "ts": 1, "dur": %d}'
    events = ", ".join(event % each for each in ((1, 1, 5), (2, 1, 9), (2, 2, 3)))
    first, second = parse_profiles(f"[{events}]".encode(), name="it")
    assert (first.runtime, second.runtime) == ("process 2", "process 1")
    assert {each.processor for each in first.operators} == {"1", "2"}
    many = ", ".join(event % (pid, 1, 5) for pid in range(20))
    found = parse_profiles(f"[{many}]".encode(), name="it")
    assert len(found) == 16
    assert found[0].notes == ("4 shorter processes are left out.",)


def test_systrace() -> None:
    """Marks of a thread nest; other lines of the kernel say nothing here."""
    found = one(foreign_profiles.FTRACE)
    assert found.runtime == "process 40"
    assert times(found) == {"CONV_2D": 2.0, "SOFTMAX": 0.1}


def test_trtexec() -> None:
    """The median where it is told, else the average."""
    found = one(foreign_profiles.TRTEXEC)
    assert (found.runtime, found.repeats) == ("tensorrt", 200)
    assert times(found) == {"conv1 + relu1": 0.19, "fc": 0.05}
    with pytest.raises(DataError, match="no times of layers") as caught:
        parse_profiles(b'[{"startComputeMs": 1}]', name="times.json")
    assert "--exportProfile" in caught.value.hint


def test_benchmark_model() -> None:
    """The regular runs, in order; the types of a delegate hold commas and spaces."""
    found = one(foreign_profiles.BENCHMARK_TEXT)
    assert times(found) == {
        "Delegate/Convolution (NHWC, F32) GEMM:0": 4.1,
        "[probs]:1": 1.025,
    }
    assert found.operators[0].op_type == "Convolution (NHWC, F32) GEMM"
    assert (found.model, found.threads, found.repeats) == ("net.tflite", 4, 50)
    assert found.memory_bytes == 12.5 * 2**20
    found = one(foreign_profiles.BENCHMARK_CSV)
    assert times(found) == {
        "[net/conv2d/Conv2D, net/a]:0": 0.093039,
        "[net/conv2d/Elu]:1": 0.030088,
    }
    assert [each.op_type for each in found.operators] == ["CONV_2D", "ELU"]


def test_benchmark_model_in_a_log() -> None:
    """Marks before the lines, as loggers set them, do not matter."""
    marked = b"\n".join(
        b"2026-01-01 12:00:00.1: I core/stat.cc:85] " + line
        for line in foreign_profiles.BENCHMARK_TEXT.splitlines()
    )
    found = one(marked)
    assert len(found.operators) == 2


def test_openvino_counters() -> None:
    """What was executed, by its CPU time; tables of several requests are pooled."""
    found = one(foreign_profiles.COUNTERS)
    assert found.runtime == "openvino"
    assert times(found) == {"conv1": 0.4, "prob": 0.02}
    assert found.operators[0].op_type == "Convolution brgconv_avx2_f32"
    twice = foreign_profiles.COUNTERS + foreign_profiles.COUNTERS.replace(
        b"0.400", b"0.300"
    )
    assert one(twice).repeats == 2
    assert times(one(twice))["conv1"] == 0.3


def test_vela(tmp_path: Path) -> None:
    """Cycles are times by the summary beside them; a thread for each processor."""
    layers = tmp_path / "net_per-layer.csv"
    layers.write_text(LAYERS)
    with pytest.raises(DataError, match="counts cycles") as caught:
        read_profiles(layers)
    assert "one folder" in caught.value.hint
    (tmp_path / "net_summary_Internal.csv").write_text(SUMMARY)
    (found,) = read_profiles(layers)
    conv, fallback = found.operators
    assert conv.latency_ms == pytest.approx(26185 / 500e6 * 1000)
    assert (conv.macs, conv.processor) == (320000, "NPU")
    assert (fallback.latency_ms, fallback.processor) == (0, "CPU")
    assert "estimates" in found.notes[0]
    check_trace(join_profiles([found]))


BROKEN = {
    "nothing": (b"", "no profile"),
    "words": (b"hello", "no profile"),
    "JSON of another kind": (b'{"a": 1}', "no profile"),
    "half a JSON": (b'{"traceEvents": [', "damaged JSON"),
    "compressed": (b"\x1f\x8b\x08", "compressed"),
    "protobuf": (b"\x0a\x04\x08", "no text"),
    "no slice": (b'[{"ph": "M", "name": "x"}]', "no operator"),
    "time in words": (b'[{"ph": "X", "ts": "now", "dur": 1}]', "time stamp"),
    "no time": (b'[{"ph": "X", "dur": 1}]', "time stamp"),
    "infinite": (b'[{"ph": "X", "ts": 0, "dur": 1e300}]', "duration"),
    "negative": (b'[{"name": "a", "averageMs": -1}]', "averageMs"),
    "no table": (b"=== Run Order ===\nhello", "cut off"),
    "no column": (b"=== Run Order ===\n[node type] [first]\n", "cut off"),
    "no times": (b"layerName;execStatus;layerType;\n", "no column"),
    "half a row": (
        b"layerName;execStatus;layerType;cpuTime (ms)\na;EXECUTED;b\n",
        "cut off",
    ),
    "not a number": (
        b"layerName;execStatus;layerType;cpuTime (ms)\na;EXECUTED;b;c\n",
        "expected a time",
    ),
}


@pytest.mark.parametrize(("content", "words"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_profile_is_refused(content: bytes, words: str) -> None:
    """With what was found, and what to do."""
    with pytest.raises(DataError, match=words) as caught:
        parse_profiles(content, name="it")
    assert caught.value.hint


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there, a folder, one that is too large."""
    path = tmp_path / "trace.json"
    with pytest.raises(UsageError, match="is not there"):
        read_profiles(path)
    with pytest.raises(UsageError, match="is a folder"):
        read_profiles(tmp_path)
    path.write_bytes(foreign_profiles.CHROME)
    (found,) = read_profiles(path)
    assert found.source == "trace.json"
    monkeypatch.setattr(read, "MAX_FILE_BYTES", 100)
    with pytest.raises(DataError, match="more than"):
        read_profiles(path)
