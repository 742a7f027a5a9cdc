from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks import _serving_cpu, _stages, serving
from benchmarks._found import Found, Plan, median_of, row
from benchmarks._harness import BARS, compare_with_bars
from benchmarks._serving_cost import open_files, pss_mb, tree, usage
from benchmarks._serving_cpu import Block, interleave
from benchmarks._serving_load import (
    Connection,
    Reply,
    Stream,
    ask_for,
    get,
    post,
)
from benchmarks._serving_models import (
    Served,
    checking,
    infer_request,
    null_model,
    read_outputs,
    read_release,
    write_release,
)
from benchmarks._serving_peers import PEERS, title_of
from benchmarks._serving_runtime import ScriptedRuntime
from benchmarks._serving_service import Program
from benchmarks._serving_swap import longest_gap_ms
from benchmarks.serving import STAGES
from skerry.core.config import read_toml
from skerry.core.errors import ModelError
from skerry.core.model import Model, ModelFormat
from skerry.core.seams import LoadOptions

POPEN = subprocess.Popen


@pytest.fixture
def small(tmp_path: Path) -> Served:
    """A null model of a few numbers."""
    del tmp_path
    whole = null_model(2)
    spec = dataclasses.replace(whole.inputs[0], dtype="float32", shape=(1, 4))
    samples = tuple({"x": np.full((1, 4), i, np.float32)} for i in (1, 2))
    return dataclasses.replace(whole, inputs=(spec,), samples=samples)


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that answers each request with its path, and drops `/gone`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def talk(peer: socket.socket) -> None:
        got = b""
        with peer:
            while piece := peer.recv(4096):
                got += piece
                while b"\r\n\r\n" in got:
                    head, _, got = got.partition(b"\r\n\r\n")
                    path = head.split()[1]
                    if path == b"/gone":
                        return
                    length = head.lower().partition(b"content-length: ")[2].split()
                    got = got[int(length[0]) if length else 0 :]
                    size = b"content-length: %d\r\n\r\n" % len(path)
                    peer.sendall(b"HTTP/1.1 200 OK\r\n" + size + path)

    def run() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(peer,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_every_bar_has_a_figure_even_where_nothing_was_measured() -> None:
    """The bars of the issue's table; the plot says so, too."""
    found = {name: STAGES.nothing(name, "not yet") for name in STAGES.parts}
    measured = [one for part in found.values() for one in part.measured]
    bars = compare_with_bars("serving", measured, read_toml(BARS))
    assert len(bars) == 14
    assert {bar.holds for bar in bars} == {None}
    serving.draw(found, Figure())


def test_stages_are_found_by_name() -> None:
    """All by default, few when quick; one that there is not is an error."""
    assert STAGES.choose("", quick=False) == list(STAGES.parts)
    assert set(STAGES.choose("", quick=True)) < set(STAGES.parts)
    assert STAGES.choose("kill,leak", quick=True) == ["kill", "leak"]
    with pytest.raises(SystemExit, match="leak"):
        STAGES.choose("leek", quick=False)


def test_a_stage_that_fails_is_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its last words; so is one that takes too long."""
    command = [sys.executable, "-c", "raise SystemExit('no such thing')"]
    _replace_command(monkeypatch, command)
    found = STAGES.run("leak", tmp_path / "leak", quick=True)
    assert "no such thing" in str(found.rows[0]["note"])
    assert found.measured[0].figure is None
    monkeypatch.setattr(_stages, "QUICK_LIMIT_S", 0.2)
    _replace_command(monkeypatch, [sys.executable, "-c", "import time;time.sleep(60)"])
    found = STAGES.run("leak", tmp_path / "leak", quick=True)
    assert "longer than 0.2 s" in str(found.rows[0]["note"])


def _replace_command(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    def start(_: list[str], **more: object) -> subprocess.Popen[str]:
        return POPEN(command, **more)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(_stages.subprocess, "Popen", start)


def test_what_a_stage_found_is_kept(tmp_path: Path) -> None:
    """Unless it is damaged, or of other bars."""
    assert STAGES.look("leak", tmp_path) is None
    kept = Found(
        rows=[row("growth", "skerry", figure=0.5, p50_ms=1.0)],
        measured=STAGES.nothing("leak", "").measured,
        series={"a": [1.0]},
    )
    text = json.dumps(dataclasses.asdict(kept))
    (tmp_path / "found.json").write_text(text)
    again = STAGES.look("leak", tmp_path)
    assert again is not None
    assert again.rows[0]["p50 ms"] == 1.0
    assert STAGES.look("kill", tmp_path) is None
    (tmp_path / "found.json").write_text("{")
    assert STAGES.look("leak", tmp_path) is None


def test_cpu_time_of_a_tree_counts_children() -> None:
    """Those that run, and those that have ended."""
    busy = "t=time.process_time()\nwhile time.process_time()<t+0.1: pass"
    code = f"import os,time\np=os.fork()\n{busy}\nif p: os.wait(); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        until_s = time.monotonic() + 30
        before = usage(os.getpid())
        assert child.pid in tree(os.getpid())
        while (used := usage(child.pid)).reaped_s.get(child.pid, 0) < 0.05:
            assert time.monotonic() < until_s
            time.sleep(0.01)
        assert used.own_s[child.pid] >= 0.1
        assert sum(used.reaped_s.values()) + sum(used.own_s.values()) >= 0.15
        assert usage(os.getpid()).since(before) >= 0
        assert pss_mb(child.pid) > 1
        assert open_files(child.pid) >= 3
        child.communicate(b"\n")
    assert not usage(os.getpid()).is_same_tree(
        dataclasses.replace(before, own_s={**before.own_s, 1: 0.0})
    )


def test_the_median_has_an_interval() -> None:
    """The same each time."""
    figure, (low, high) = median_of([1.0, 2.0, 3.0, 4.0, 100.0])
    assert low <= figure == 3.0 <= high
    assert median_of([1.0, 2.0, 3.0, 4.0, 100.0]) == (figure, (low, high))


def test_contenders_run_in_turns() -> None:
    """Each second round in the reversed order, after a warm-up."""
    order: list[str] = []

    def contender(name: str) -> _serving_cpu.Contender:
        def run(seconds: float) -> Block:
            order.append(f"{name}{seconds:g}")
            return Block(n=1, cpu_ms=len(order))

        return run

    found = interleave({n: contender(n) for n in "ab"}, rounds=2, block_s=2)
    assert order == ["a1", "b1", "a2", "b2", "b2", "a2"]
    assert [block.cpu_ms for block in found["a"]] == [3, 6]


def test_clients_ask_and_check(echo: str) -> None:
    """In turns, at a rate; what is lost or wrong is told."""

    def check(index: int, reply: Reply) -> str:
        return "" if reply.body == b"/%d" % index else f"got {reply.body!r}"

    requests = [get("/0"), post("/1", b"abc")]
    tally = ask_for(echo, requests, check, clients=3, seconds=0.2)
    assert tally.n == len(tally.ended_s) > 3
    assert tally.faults == []
    with Stream(echo, requests, check, rate_hz=200, clients=2) as stream:
        until_s = time.monotonic() + 30
        while stream.tally.n < 10 and time.monotonic() < until_s:
            time.sleep(0.01)
    assert len(stream.tally.took_ms) == stream.tally.n >= 10
    wrong = ask_for(echo, [get("/7")], check, clients=1, seconds=0.01)
    assert wrong.faults[0] == "got b'/7'"
    with Connection(echo) as connection:
        assert connection.ask(get("/gone")).status == 0
        assert connection.ask(get("/0")).status == 200
    with Connection("http://127.0.0.1:9", timeout_s=1) as connection:
        assert connection.ask(get("/0")).status == 0


def test_the_longest_gap() -> None:
    """Answers come in any order."""
    assert longest_gap_ms([3.0, 1.0, 1.5]) == 1500
    assert longest_gap_ms([1.0]) == 0


def test_a_release_is_written_and_read(tmp_path: Path, small: Served) -> None:
    """Its golden samples multiplied as its script says."""
    plain = read_release(write_release(tmp_path, small))
    assert plain.model.runtime == "null"
    scripted = read_release(write_release(tmp_path, small, version=2, gain=2.0))
    assert (scripted.id.version, scripted.model.runtime) == (2, "scripted")
    assert json.loads(scripted.files["model"].read_bytes()) == {"onnx": "", "gain": 2}


def test_answers_are_checked(small: Served) -> None:
    """Their status, their form, their release, their numbers."""
    head = {
        "outputs": [
            {
                "name": "y",
                "datatype": "FP32",
                "shape": [1, 1000],
                "parameters": {"binary_data_size": 4000},
            }
        ],
        "parameters": {"release": "det/1"},
    }
    text = json.dumps(head).encode()
    good = Reply(status=200, head_bytes=len(text), body=text + bytes(4000))
    assert read_outputs(good)[0] == "det/1"
    assert checking(small)(0, good) == ""
    assert checking(small, {"det/1": 1.0})(1, good) == ""
    assert checking(small, {"det/2": 1.0})(0, good) == "answered by det/1"
    ones = np.ones(1000, np.float32).tobytes()
    wrong = dataclasses.replace(good, body=text + ones)
    assert checking(small)(0, wrong) == "the output y is wrong"
    assert checking(small)(0, Reply(status=429, body=b"busy")) == "429: busy"
    assert checking(small)(0, Reply(status=200)).startswith("not an answer")
    assert b"Skerry-Timeout-Ms" in infer_request("det", small.samples[0])


def test_the_runtime_does_harm_as_it_is_told(tmp_path: Path, small: Served) -> None:
    """What a worker process survives is left to the stages themselves."""

    def model(**script: object) -> Model:
        path = tmp_path / "model"
        path.write_text(json.dumps(script))
        return Model(
            path=path,
            format=ModelFormat.ONNX,
            inputs=small.inputs,
            outputs=small.outputs,
            sha256="",
            size_bytes=1,
        )

    runtime = ScriptedRuntime()
    outputs = {}
    for harm in ("nan", "misshape", ""):
        session = runtime.load(model(on_run=harm, gain=2), LoadOptions())
        outputs[harm] = session.run(small.samples[0])["y"]
        session.close()
    assert np.isnan(outputs["nan"]).all()
    assert outputs["misshape"].shape == (1000,)
    assert outputs[""].shape == (1, 1000)
    with pytest.raises(ModelError, match="broken"):
        runtime.load(model(on_load="broken"), LoadOptions())
    (tmp_path / "model").write_bytes(b"no script")
    odd = dataclasses.replace(model(), path=tmp_path / "odd")
    odd.path.write_bytes(b"no script")
    with pytest.raises(ModelError, match="script"):
        runtime.load(odd, LoadOptions())


def test_a_peer_that_is_not_installed_is_named_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its name; each has a script."""
    monkeypatch.setenv("SKERRY_TOOLCHAINS", str(tmp_path))
    for peer in PEERS:
        assert title_of(peer) == f"{peer} (missing)"
        script = Path(serving.__file__).parent / "peers" / f"{peer}_serving.py"
        compile(script.read_text(), peer, "exec")


def test_a_program_is_ended_with_all_that_it_started() -> None:
    """Its last words are kept."""
    code = "import os,time\nos.fork()\nprint('here', flush=True)\ntime.sleep(60)"
    program = Program([sys.executable, "-c", code], dict(os.environ))
    assert program.has_ended
    program.start()
    until_s = time.monotonic() + 30
    while program.last_words().count("here") < 2:
        assert time.monotonic() < until_s
        time.sleep(0.01)
    program.stop()
    assert program.has_ended


def test_plans_are_full_or_quick(tmp_path: Path) -> None:
    """Lengths and counts."""
    plan = Plan(work=tmp_path, quick=True)
    assert (plan.of(3.0, 1.0), plan.count(9, 2)) == (1.0, 2)
    full = dataclasses.replace(plan, quick=False)
    assert (full.of(3.0, 1.0), full.count(9, 2)) == (3.0, 9)
