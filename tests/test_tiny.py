"""The whole promise in one file: read it from top to bottom.

A small picture classifier is compressed, signed, and delivered to three gateways. What
is broken or not signed by us is refused, with a reason, and stops by itself. Then the
lens of one camera fogs: the gateway notices, sends a few pictures, and the labels that
a person gives them heal the model for everybody.

Model, compression, signatures, agents, hub and database are the real ones. Only the
network and the passing of time are simulated.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from skerry.app.pipelines.embedding import (
    EMBEDDING,
    find_head,
    make_drift_blob,
    read_head,
    with_embedding,
    with_head,
)
from skerry.app.pipelines.heal import make_trainer
from skerry.app.publish.build import make_release
from skerry.app.publish.publisher import Publisher
from skerry.app.simulate.gateway import SimulatedGateway
from skerry.cloud.retraining import RetrainingState
from skerry.compress.ptq.prepare import prepare
from skerry.compress.ptq.quantize import Quantize, StepContext
from skerry.core.budget import Budget
from skerry.core.errors import TrustError
from skerry.core.fleet import Outcome, RolloutState
from skerry.core.model import Model
from skerry.core.seams import LoadOptions
from skerry.evolve.refit import Head, Labelled, RefitSettings, refit_head
from skerry.graph import open_model, parse_graph, write_graph
from skerry.runtimes import get_runtime
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.steps import Softmax, TopK
from skerry.tasks.task import Task, TaskKind
from skerry.testing import FleetSimulator, simulate
from tests.models import model_bytes, random_weights

Pictures = NDArray[np.float32]
Labels = NDArray[np.int64]

SIDE = 16
CLASSES = ("level", "upright", "rising", "falling")
TASK = Task(
    kind=TaskKind.CLASSIFICATION,
    metric="top1",
    labels=CLASSES,
    post=(Softmax(), TopK()),
)
MOST_SAMPLES = 60
RUNTIME = get_runtime("onnxruntime")


def test_the_whole_promise(tmp_path: Path) -> None:
    """Run it, run it well on a fleet, refuse what is bad, and heal a drift."""
    simulate(story(tmp_path))


async def story(folder: Path) -> None:
    """A model's life, in five chapters."""
    # 1. Somebody has trained a model: here, in numpy, to tell how a pointer stands.
    trained = train(folder)
    clean, fogged = photograph(200, seed=1), fog(photograph(200, seed=2))
    before = accuracy(trained, clean)
    assert before > 0.9

    # 2. Compressed to eight bits it is a third of the size and as good.
    small = compress(trained, folder / "small.onnx")
    assert small.size_bytes < trained.size_bytes / 2
    assert accuracy(small, clean) > before - 0.03

    async with FleetSimulator(folder, trainer=make_trainer()) as fleet:
        for name in fleet.gateways:
            collect = {"most": MOST_SAMPLES, "window_frames": 10, "per_window": 4}
            await fleet.hub.shadows.set_desired(name, {"collect": collect})

        # 3. It is shipped, and three gateways answer with it.
        await ship(fleet, small, trained)
        first = fleet.gateways["gateway-1"]
        assert await field_accuracy(first, clean) == accuracy(small, clean)

        # 4. What is broken, or not ours, gets nowhere.
        await refuse_the_broken(fleet, trained, folder)
        await refuse_the_stranger(fleet, small, trained, folder)
        assert await field_accuracy(first, clean) == accuracy(small, clean)

        # 5. The lens fogs; the fleet notices, learns, and is well again.
        drifted = await field_accuracy(first, fogged)
        assert drifted < before - 0.2
        truth = await let_it_notice(fleet)
        await label(fleet, truth)
        healed = await heal(fleet, small, trained, folder)
        assert set(fleet.versions("pointer").values()) == {3}
        assert await field_accuracy(first, fogged) > before - 0.1
        assert await field_accuracy(first, clean) > before - 0.03
        assert await field_accuracy(first, fogged) == accuracy(healed, fogged)


# Chapter 1: a model.


@dataclass(frozen=True, slots=True, kw_only=True)
class Photographs:
    """Pictures float32 [n, 1, 16, 16] and what they show, int64 [n]."""

    pictures: Pictures
    labels: Labels

    def source(self) -> MemorySource:
        """The same as samples for a model."""
        both = zip(self.pictures, self.labels, strict=True)
        return MemorySource(
            samples=tuple(
                Sample(inputs={"x": picture[None]}, label=int(label), name=f"p{index}")
                for index, (picture, label) in enumerate(both)
            )
        )


def photograph(n: int, *, seed: int) -> Photographs:
    """Take pictures of pointers: a bright bar somewhere, at one of four angles."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(CLASSES), size=n)
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
    angle = (np.array([0, 90, 45, 135])[labels] + rng.normal(0, 6, n)) * np.pi / 180
    middle = rng.uniform(-2.5, 2.5, size=(2, n, 1, 1))
    across, along = rows - middle[0], columns - middle[1]
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    distance = np.abs(across * cosine + along * sine)
    reach = np.abs(along * cosine - across * sine)
    bars = np.clip(1.8 - distance, 0, 1) * np.clip(6.5 - reach, 0, 1)
    pictures = 0.1 + 0.7 * bars + rng.normal(0, 0.08, bars.shape)
    return Photographs(pictures=pictures[:, None].astype(np.float32), labels=labels)


def fog(taken: Photographs) -> Photographs:
    """The same through a fogged lens: blurred, paler, brighter."""
    blurred = taken.pictures
    for axis in (2, 3):
        parts = [np.roll(blurred, shift, axis) for shift in (-1, 0, 1)]
        blurred = np.mean(parts, axis=0, dtype=np.float32)
    pale = (0.5 * blurred + 0.3).astype(np.float32)
    return Photographs(pictures=pale, labels=taken.labels)


def train(folder: Path) -> Model:
    """Random convolutions, and a head on them that is fitted to 800 pictures."""
    weights = random_weights(
        {
            "a.weight": (8, 1, 3, 3),
            "a.bias": (8,),
            "b.weight": (32, 8, 3, 3),
            "b.bias": (32,),
            "c.weight": (64, 32, 3, 3),
            "c.bias": (64,),
        },
        seed=5,
    )
    for name in ("b.weight", "c.weight"):
        weights[name] = (weights[name] * np.float32(0.25)).astype(np.float32)
    weights["head.weight"] = np.zeros((len(CLASSES), 256), np.float32)
    weights["head.bias"] = np.zeros(len(CLASSES), np.float32)
    layers = "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]"
    graph = with_embedding(
        parse_graph(
            model_bytes(
                f"""pointer (float[1, 1, 16, 16] x) => (float[1, 4] y) {{
                  a = Conv<{layers}>(x, "a.weight", "a.bias")
                  ra = Relu(a)
                  b = Conv<{layers}>(ra, "b.weight", "b.bias")
                  rb = Relu(b)
                  c = Conv<{layers}>(rb, "c.weight", "c.bias")
                  rc = Relu(c)
                  flat = Flatten(rc)
                  y = Gemm<transB = 1>(flat, "head.weight", "head.bias")
                }}""",
                weights,
            )
        )
    )
    untrained = write_graph(graph, folder / "untrained.onnx")
    pictures = photograph(800, seed=0)
    embeddings = np.concatenate(run(untrained, pictures, EMBEDDING))
    seen = Labelled(embeddings=embeddings, labels=pictures.labels)
    nothing = Labelled(embeddings=embeddings[:0], labels=pictures.labels[:0])
    blank = Head(weight=weights["head.weight"], bias=weights["head.bias"])
    settings = RefitSettings(pull=1e-4)
    head = refit_head(blank, field=seen, replay=nothing, settings=settings)
    return write_graph(with_head(graph, head), folder / "trained.onnx")


def run(model: Model, taken: Photographs, output: str) -> list[Any]:
    """One output of a model for each picture."""
    session = RUNTIME.load(model, LoadOptions())
    try:
        return [session.run({"x": one[None]})[output] for one in taken.pictures]
    finally:
        session.close()


def accuracy(model: Model, taken: Photographs) -> float:
    """How often a model is right, on this machine."""
    said = np.concatenate(run(model, taken, "y")).argmax(axis=1)
    return float((said == taken.labels).mean())


# Chapter 2: made small.


def compress(trained: Model, path: Path, *, exposure: float = 1.0) -> Model:
    """Quantize all but the head to INT8, with ranges from 64 pictures."""
    graph = parse_graph(trained.path.read_bytes())
    head = find_head(prepare(graph), output="y").node.name
    taken = photograph(64, seed=3)
    seen = Photographs(pictures=taken.pictures * exposure, labels=taken.labels)
    context = StepContext(calibration=seen.source(), runtime=RUNTIME)
    quantized = Quantize(keep_float=(head or "",)).apply(graph, context)
    return write_graph(quantized, path)


# Chapter 3: shipped.


def release(version: int, model: Model, source: Model, **promises: Any) -> Any:
    """A release: the model, golden samples of its source, what is usual, a budget."""
    drift = promises.pop("drift", None) or make_drift_blob(
        model,
        photograph(200, seed=4).source(),
        task=TASK,
        runtime=RUNTIME,
        rng=np.random.default_rng(0),
    )
    return make_release(
        "pointer",
        version,
        model,
        TASK,
        photograph(16, seed=6).source(),
        golden_from=source,
        budget=Budget(size_bytes=100_000),
        embedding=EMBEDDING,
        drift=drift,
    )


async def ship(fleet: FleetSimulator, small: Model, trained: Model) -> None:
    """Release 1 goes to one gateway first, then to the others."""
    await fleet.publish(*release(1, small, trained))
    rollout = await fleet.roll_out("pointer/1")
    assert rollout.state is RolloutState.SUCCEEDED
    assert [len(wave.devices) for wave in rollout.waves] == [1, 2]
    assert set(fleet.versions("pointer").values()) == {1}


async def field_accuracy(gateway: SimulatedGateway, taken: Photographs) -> float:
    """How often what a gateway serves is right."""
    right = 0
    for picture, label in zip(taken.pictures, taken.labels, strict=True):
        answer = await gateway.ask("pointer", {"x": picture[None]})
        right += int(answer.outputs["y"].argmax()) == label
    return right / len(taken.labels)


# Chapter 4: refused.


async def refuse_the_broken(
    fleet: FleetSimulator, trained: Model, folder: Path
) -> None:
    """Calibrated on pictures taken in the dark, every bright stroke is cut off."""
    broken = compress(trained, folder / "broken.onnx", exposure=0.02)
    await fleet.publish(*release(2, broken, trained))
    rollout = await fleet.roll_out("pointer/2")
    assert rollout.state is RolloutState.UNDONE
    assert rollout.progress["gateway-2"].outcome is Outcome.WAITING
    assert "gateway-1 refused (golden: pointer/2 differs from" in rollout.reason
    assert set(fleet.versions("pointer").values()) == {1}


async def refuse_the_stranger(
    fleet: FleetSimulator, small: Model, trained: Model, folder: Path
) -> None:
    """A release that somebody else has signed does not even enter the hub."""
    stranger = Publisher.create(
        folder / "stranger",
        hub_key=fleet.hub.releases.online_key,
        clock=fleet.clock,
    )
    with pytest.raises(TrustError):
        await fleet.hand_in(stranger.release(*release(3, small, trained)))
    assert [str(one.id) for one in await fleet.hub.releases.list()] == [
        "pointer/2",
        "pointer/1",
    ]


# Chapter 5: healed.


async def let_it_notice(fleet: FleetSimulator) -> list[int]:
    """A clear day, then fog. Returns what each picture truly shows."""
    gateway = fleet.gateways["gateway-1"]

    async def is_drift() -> bool:
        await fleet.run_for(5)
        reported: Any = (await fleet.shadow("gateway-1")).reported
        return bool(reported["drift"]["pointer"]["is_drift"])

    clear, foggy = photograph(100, seed=7), fog(photograph(300, seed=8))
    await gateway.look("pointer", ({"x": one[None]} for one in clear.pictures))
    assert not await is_drift()
    await gateway.look("pointer", ({"x": one[None]} for one in foggy.pictures))
    assert await is_drift()
    told = await fleet.hub.events.read("gateway-1")
    assert "drift.alarm" in {event.name for event in told}
    return [*clear.labels.tolist(), *foggy.labels.tolist()]


async def label(fleet: FleetSimulator, truth: list[int]) -> None:
    """A person looks at the few pictures that the gateway found worth a look."""
    samples = await fleet.hub.samples.ls(release="pointer/1", labelled=False)
    assert 30 <= len(samples) <= MOST_SAMPLES
    kinds = [sample.kind for sample in samples]
    assert abs(kinds.count("uncertain") - kinds.count("random")) <= 2
    for sample in samples:
        await fleet.hub.samples.label(sample.id, CLASSES[truth[sample.frame]])


async def heal(
    fleet: FleetSimulator, small: Model, trained: Model, folder: Path
) -> Model:
    """The hub refits the head, the publisher signs, a few bytes heal the fleet."""
    hub, old = fleet.hub, photograph(1000, seed=9)
    packed = io.BytesIO()
    np.savez(packed, x=old.pictures, label=old.labels)
    replay = hashlib.sha256(packed.getvalue()).hexdigest()
    await hub.blobs.put(replay, packed.getvalue())
    begun = await hub.retrainings.start("pointer/1", replay=replay)
    await hub.retrainings.wait()
    job = await hub.retrainings.show(begun.id)
    assert job.state is RetrainingState.PASSED, job.reason

    path = folder / "healed.onnx"
    path.write_bytes(hub.blobs.path(job.candidate["model"].sha256).read_bytes())
    drift = hub.blobs.path(job.candidate["drift"].sha256).read_bytes()
    healed = open_model(path)
    # Golden samples come from a float model: the trained one, with the new head.
    graph = parse_graph(path.read_bytes())
    head = read_head(graph, find_head(graph, output="y"))
    source = with_head(parse_graph(trained.path.read_bytes()), head, output="y")
    bundle = await fleet.publish(
        *release(3, healed, write_graph(source, folder / "source.onnx"), drift=drift),
        deltas_from={small.sha256: small.path.read_bytes()},
    )
    assert bundle.delta_bytes[small.sha256] < healed.size_bytes / 2

    rollout = await fleet.roll_out("pointer/3")
    assert rollout.state is RolloutState.SUCCEEDED, rollout.reason
    for gateway in fleet.gateways.values():
        assert healed.sha256 not in gateway.blobs.sent  # The delta was enough.
    return healed
