from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from skerry.core.clock import SystemClock
from skerry.core.errors import LateError, RuntimeFailure
from skerry.core.messages import LARGEST_MESSAGE_BYTES
from skerry.core.profile import OperatorTime, Profile
from skerry.edge import profiling
from skerry.edge.profiling import ProfileJob, Profiler, _fitting, run_job
from skerry.edge.update_steps import Serving
from skerry.edge.vault import CLEAR
from skerry.evolve.probation import Figures
from skerry.runtimes import open_any
from tests import models


@pytest.fixture
def job(tmp_path: Path) -> ProfileJob:
    """A small model to profile."""
    path = tmp_path / "mlp.onnx"
    path.write_bytes(models.mlp())
    model = open_any(path)
    return ProfileJob(
        path=str(path),
        name="meter/1",
        format=model.format,
        runtime="onnxruntime",
        inputs=model.inputs,
        outputs=model.outputs,
        sha256=model.sha256,
        libraries=(),
        threads=1,
        repeats=6,
    )


def test_a_process_of_its_own_profiles(job: ProfileJob) -> None:
    """And answers with what it measured."""
    found = asyncio.run(run_job(job))
    assert found.model == "meter/1"
    assert {each.op_type for each in found.operators} >= {"Gemm"}
    assert found.inference is not None


def test_what_does_not_run_is_said(job: ProfileJob) -> None:
    """A file that is damaged, and a profile that takes too long."""
    Path(job.path).write_bytes(b"no model")
    with pytest.raises(RuntimeFailure, match=r"mlp\.onnx"):
        asyncio.run(run_job(job))
    with pytest.raises(LateError, match="longer than"):
        asyncio.run(run_job(job, limit_s=0.001))


@dataclass
class Engine:
    """An engine that serves one release, to as many requests as the test says."""

    job: ProfileJob
    requests: list[int] = field(default_factory=lambda: [0])

    def active(self, name: str) -> Any:
        """The release, as far as it is looked at."""
        blob = type("Blob", (), {"sha256": self.job.sha256})()
        model = type("Model", (), {"blob": blob, **_fields(self.job)})()
        fields = {
            "model": model,
            "id": name,
            "files": {"model": self.job.path},
            "libraries": lambda _, __: (),
            "vault": CLEAR,
        }
        return type("Installed", (), fields)()

    def figures(self, name: str) -> Any:
        """How many requests came; the next look sees the next number."""
        del name
        count = self.requests.pop(0) if len(self.requests) > 1 else self.requests[0]
        return type("Counted", (), {"on_probation": Figures(requests=count)})()


def _fields(job: ProfileJob) -> dict[str, Any]:
    names = ("format", "runtime", "inputs", "outputs")
    return {name: getattr(job, name) for name in names}


def ask(
    engine: Engine,
    body: dict[str, Any],
    *,
    times: int = 1,
    is_updating: bool = False,
) -> list[dict[str, Any]]:
    """What a gateway answers."""

    async def main() -> list[dict[str, Any]]:
        profiler = Profiler(
            cast("Serving", engine),
            names=lambda: ["meter"],
            is_updating=lambda: is_updating,
            abi=None,
            clock=SystemClock(),
        )
        asked = (profiler.answer({"id": "q", **body}) for _ in range(times))
        return list(await asyncio.gather(*asked))

    return asyncio.run(main())


def test_only_what_is_installed_is_run(
    job: ProfileJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hash that no release has is refused, and so are odd numbers."""
    monkeypatch.setattr(profiling, "IDLE_S", 0.01)
    engine = Engine(job)
    good = {"sha256": job.sha256, "repeats": 6, "threads": 1}
    (answer,) = ask(engine, good)
    assert answer["id"] == "q"
    assert msgspec.convert(answer["profile"], Profile).operators
    other = hashlib.sha256(b"other").hexdigest()
    for spoilt, words in (
        ({"sha256": other}, "serves no release"),
        ({"sha256": None}, "serves no release"),
        ({"repeats": 0}, "repeats is 0"),
        ({"repeats": True}, "repeats is True"),
        ({"threads": 10**9}, "threads is"),
        ({"threads": "1"}, "threads is 1"),
    ):
        (answer,) = ask(engine, {**good, **spoilt})
        assert words in answer["error"]["what"]
        assert answer["error"]["code"] == "UsageError"


def test_a_gateway_that_is_not_idle_refuses(
    job: ProfileJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests, an update, another profile: each is said."""
    monkeypatch.setattr(profiling, "IDLE_S", 0.01)
    good = {"sha256": job.sha256, "repeats": 6, "threads": 1}
    (answer,) = ask(Engine(job, [10, 15]), good)
    assert "5 requests came" in answer["error"]["what"]
    (answer,) = ask(Engine(job), good, is_updating=True)
    assert "an update is under way" in answer["error"]["what"]
    answers = ask(Engine(job), good, times=2)
    refused = [each for each in answers if "error" in each]
    assert "another model" in refused[0]["error"]["what"]
    assert refused[0]["error"]["code"] == "BusyError"


def test_an_answer_fits_one_message() -> None:
    """Of very many operators the shortest are left out, and it says so."""
    operators = tuple(
        OperatorTime(name=f"op {place}", op_type="Conv" * 9, latency_ms=place + 1.0)
        for place in range(3000)
    )
    profile = Profile(runtime="r", threads=1, repeats=1, operators=operators)
    found = _fitting(profile)
    assert len(msgspec.json.encode(found)) < LARGEST_MESSAGE_BYTES
    kept = cast("list[Any]", found["operators"])
    assert kept[-1]["name"] == "op 2999"
    assert "left out" in str(found["notes"])
    small = replace(profile, operators=operators[:3])
    assert len(cast("list[Any]", _fitting(small)["operators"])) == 3
