"""The stages of the delta benchmark: what patches of real pairs of versions cost."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import onnx.numpy_helper

from benchmarks._delta_int8 import accuracy, drop, quantize
from benchmarks._delta_peers import full_sizes, peer_sizes
from benchmarks._delta_train import VERSIONS, Part, make_versions, read_parts, shift
from benchmarks._found import Found, Plan, row, tell
from benchmarks._harness import Measured, Row
from benchmarks.nets.places import data, data_folder
from skerry.compress.alike.choose import Alike, make_alike
from skerry.core.durable import make_folder
from skerry.evolve.delta import diff, patch
from skerry.graph import read_graph

SEEDS = (0, 1, 2)
MOST_DROP = 0.005
"""Half a point, which a delta-friendly release may lose."""

LARGE_BYTES, QUICK_LARGE_BYTES = 100_000_000, 10_000_000
APPLICATIONS = 5


def checked_diff(old: bytes, new: bytes) -> bytes:
    """Our delta, applied."""
    delta = diff(old, new)
    if patch(old, delta, largest_bytes=len(new)) != new:
        raise ValueError("a delta gives another blob")
    return delta


def versions(plan: Plan, seed: int) -> tuple[dict[str, Path], dict[str, Part]]:
    """The quantized versions of a seed by name, and the pictures."""
    # Beside the stage's own folder, which each run begins anew.
    nets = plan.work.parents[1] / "nets"
    make_folder(nets)
    parts = read_parts(seed, quick=plan.quick)
    made = make_versions(nets, seed, quick=plan.quick)
    return {name: quantize(made[name], parts["calibration"]) for name in VERSIONS}, (
        parts
    )


def measure_pairs(plan: Plan) -> Found:
    """Each version from the first, by us and the peers; the two that go on, alike."""
    seeds = SEEDS[: plan.count(len(SEEDS), 1)]
    # Sizes, not times: the seeds may go on side by side.
    with ProcessPoolExecutor(len(seeds), mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(measure_seed, plan), seeds))
    ratios: dict[str, list[float]] = {}
    for one in found:
        for name, values in one.series.items():
            ratios.setdefault(name, []).extend(values)
    rows = [row for one in found for row in one.rows]
    return Found(rows=rows, measured=pair_bars(ratios), series=ratios)


def measure_seed(plan: Plan, seed: int) -> Found:
    """The pairs of one seed, without bars."""
    rows: list[Row] = []
    ratios: dict[str, list[float]] = {}
    paths, parts = versions(plan, seed)
    old = paths["v1"].read_bytes()
    for name in VERSIONS[1:]:
        tell(f"seed {seed}: {name}")
        new = paths[name].read_bytes()
        sizes, missing = peer_sizes(old, new)
        sizes["skerry"] = len(checked_diff(old, new))
        full = full_sizes(new)
        rows += _size_rows(f"{name}, seed {seed}", len(new), sizes, full, missing)
        compare(ratios, name, sizes, missing)
        if name in {"finetune", "drift", "scratch"}:
            made, size = _alike(paths["v1"], paths[name], parts, name)
            rows += made
            if peer := sizes.get("bsdiff4"):
                ratios.setdefault(f"{name}.like", []).append(size / peer)
    return Found(rows=rows, series=ratios)


def compare(
    ratios: dict[str, list[float]],
    name: str,
    sizes: dict[str, int],
    missing: dict[str, str],
) -> None:
    """Add our size ÷ that of bsdiff4, and ÷ the best peer's where none is missing."""
    others = {who: size for who, size in sizes.items() if who != "skerry"}
    against = {"vs_bsdiff": others.get("bsdiff4")}
    if others and not missing:
        against["vs_best"] = min(others.values())
    for what, other in against.items():
        if other:
            ratios.setdefault(f"{name}.{what}", []).append(sizes["skerry"] / other)


def pair_bars(ratios: dict[str, list[float]]) -> list[Measured]:
    """Figures of the bars; those that lack a peer are not measured."""
    heads = [ratios.get(f"{one}.vs_best", []) for one in ("head", "head_norms")]
    names = ("finetune.vs_bsdiff", "finetune.like", "drift.vs_bsdiff", "drift.like")
    figures = {f"delta.{name}": ratios.get(name, []) for name in names}
    figures["delta.head.vs_best"] = [max(map(median, heads))] if all(heads) else []
    counts = {"delta.head.vs_best": sum(map(len, heads))}
    return [
        Measured(
            id=name,
            figure=float(median(values)) if values else None,
            n=counts.get(name, len(values)),
            interval=(min(values), max(values)) if len(values) > 1 else None,
            peer="best of all peers" if "best" in name else "bsdiff4",
        )
        for name, values in figures.items()
    ]


def _alike(
    first: Path, later: Path, parts: dict[str, Part], name: str
) -> tuple[list[Row], int]:
    """A delta-friendly release of a version: what it costs, and what it loses."""
    moves = [lambda one: one, *([shift] if name == "drift" else [])]
    selection, test = (
        [(move(parts[part][0]), parts[part][1]) for move in moves]
        for part in ("selection", "test")
    )
    old = first.read_bytes()
    wanted = Alike(
        previous=read_graph(first),
        patch_size_bytes=lambda graph: len(diff(old, graph.to_bytes())),
    )
    native = read_graph(later)
    lose = drop(native, selection)
    made = make_alike(native, wanted, lose, allowed=MOST_DROP)
    chosen = next(one for one in made.rows if one.chosen)
    size = len(checked_diff(old, made.graph.to_bytes()))
    before, after = (
        [accuracy(graph, part) for part in test] for graph in (native, made.graph)
    )
    words = ", ".join(
        f"{100 * one:.2f} → {100 * two:.2f} %"
        for one, two in zip(before, after, strict=True)
    )
    note = f"{chosen.name}; test pictures right: {words}. {' '.join(made.notes)}"
    tried = "; ".join(f"{one.name}: {one.patch_bytes}" for one in made.rows)
    return [
        row(later.stem, "skerry --like", figure=size, unit="bytes", note=note),
        row(later.stem, "skerry --like, tried", note=tried),
    ], size


def _size_rows(
    what: str,
    whole: int,
    sizes: dict[str, int],
    full: dict[str, int],
    missing: dict[str, str],
) -> list[Row]:
    rows = [row(what, "the file itself", figure=whole, unit="bytes")]
    rows += [
        row(what, who, figure=size, unit="bytes", note=f"{size / whole:.1%}")
        for who, size in {**full, **sizes}.items()
    ]
    return rows + [row(what, who, note=why) for who, why in missing.items()]


def measure_retrained(plan: Plan) -> Found:
    """Versions that were trained anew, against the best packed file."""
    pairs: dict[str, tuple[bytes, bytes]] = {}
    rows: list[Row] = []
    if why := data("version_pairs")():
        rows.append(row("version pairs", "skerry", note=f"skipped: {why}"))
    else:
        files = sorted(data_folder("version_pairs").glob("*/*.onnx"))
        for one, two in pairwise(files):
            if one.parent == two.parent:
                pair = one.read_bytes(), two.read_bytes()
                pairs[f"{one.stem} to {two.stem}"] = pair
    for seed in SEEDS[: plan.count(len(SEEDS), 1)]:
        paths, _ = versions(plan, seed)
        pairs[f"scratch, seed {seed}"] = (
            paths["v1"].read_bytes(),
            paths["scratch"].read_bytes(),
        )
    ratios = []
    for what, (old, new) in pairs.items():
        tell(what)
        full = full_sizes(new)
        size = len(checked_diff(old, new))
        ratios.append(size / min(full.values()))
        rows += _size_rows(what, len(new), {"skerry": size}, full, {})
    bar = Measured(
        id="delta.retrained.vs_full",
        figure=max(ratios),
        n=len(ratios),
        peer="smallest of xz -9e, zstd -19 and -22; the worst pair",
    )
    return Found(rows=rows, measured=[bar])


def measure_cost(plan: Plan) -> Found:
    """What making and applying a delta costs."""
    paths, _ = versions(plan, SEEDS[0])
    old, new = (paths[name].read_bytes() for name in ("v1", "drift"))
    took_s = []
    for _ in range(plan.count(3, 1)):
        began = time.process_time()
        delta = diff(old, new)
        took_s.append(time.process_time() - began)
    applied = [
        _apply(plan.work, old, delta, new) for _ in range(plan.count(APPLICATIONS, 1))
    ]
    idle_mb = median(_device([])["peak_kb"] / 1024 for _ in range(3))
    pair = large_pair(plan.count(LARGE_BYTES, QUICK_LARGE_BYTES))
    tell(f"a model of {len(pair[1]) / 1e6:.0f} MB")
    large_delta = diff(*pair)
    large = _apply(plan.work, pair[0], large_delta, pair[1])
    peaks_mb = [
        one["peak_kb"] / 1024 - idle_mb
        for one in (max(applied, key=lambda one: one["peak_kb"]), large)
    ]
    figures = {
        "delta.build_s": (median(took_s), len(took_s)),
        "delta.apply_cpu_s": (
            median(one["cpu_s"] for one in applied),
            len(applied),
        ),
        "delta.apply_mb": (peaks_mb[0], len(applied)),
        "delta.apply_large_mb": (peaks_mb[1], 1),
    }
    rows = [
        row("cost", name, figure=figure, n=n) for name, (figure, n) in figures.items()
    ]
    rows.append(row("cost", "a large model: CPU s", figure=large["cpu_s"], n=1))
    return Found(
        rows=rows,
        measured=[
            Measured(id=name, figure=float(figure), n=n)
            for name, (figure, n) in figures.items()
        ],
    )


def large_pair(size_bytes: int) -> tuple[bytes, bytes]:
    """Two versions of a large model of INT8 weights, of which a third changed."""
    rng = np.random.default_rng(1)
    side = 2048
    models = (onnx.ModelProto(ir_version=8), onnx.ModelProto(ir_version=8))
    for index in range(max(size_bytes // side**2, 1)):
        codes = rng.normal(0, 30, (side, side)).astype(np.int8)
        steps = rng.integers(-1, 2, codes.shape) * (rng.random(codes.shape) < 0.5)
        for model, array in zip(models, (codes, codes + steps), strict=True):
            stored = onnx.numpy_helper.from_array(array.astype(np.int8), f"w{index}")
            model.graph.initializer.append(stored)
    old, new = (model.SerializeToString() for model in models)
    return old, new


def _apply(folder: Path, old: bytes, delta: bytes, new: bytes) -> dict[str, float]:
    paths = [folder / name for name in ("old", "delta", "new")]
    for path, content in zip(paths, (old, delta), strict=False):
        path.write_bytes(content)
    digest = hashlib.sha256(new).hexdigest()
    return _device([*map(str, paths), digest, str(len(new))])


def _device(arguments: Sequence[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks._delta_device", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found
