"""Benchmark `compress_ptq`: the figure of each bar, as issue 4's table words it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from benchmarks._compress_ptq_plan import (
    COMPRESS,
    COMPRESS_OPENVINO,
    FIXED,
    FLOAT,
    NNCF_CONTROL,
    OPENVINO,
    ORT,
    ORT_PER_CHANNEL,
    ORT_PER_TENSOR,
    OURS,
    PER_TENSOR,
    QUANTIZERS,
)
from benchmarks._compress_ptq_table import Board, Entry, points
from benchmarks._harness import Measured
from skerry.tasks.measure import ChildCost, Ratio

OCR, DEPTHWISE, WIDE, DETECTOR = "ocr", "ds", "ds_wide", "yolox_nano"
LISTED = (
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "resnet8",
    "kws",
    "vww",
    "yolox_nano",
    "fastestdet",
    "rfb320",
    "centerface",
)
"""The nets on which no peer may be better."""

LEAST_INT8 = 0.9
LEAST_SPEED_UP = 0.8
LINES_UPPER = 1.5
SEEDS = 3


def figures(
    boards: Sequence[Board],
    *,
    memory: Mapping[str, ChildCost],
    install_mb: float | None,
) -> list[Measured]:
    """Compute the figure of each bar.

    Args:
        boards: One a net and seed.
        memory: What each method used on 1,000 images of the OCR net, by name.
        install_mb: Size of what `skerry[compress]` installs; None if not measured.
    """
    return [
        lines_lost(boards),
        cpu_vs_control(boards),
        peak(boards, memory),
        latency(boards),
        fixed_cpu(boards),
        mean_lost("ptq.ds.lost", boards, DEPTHWISE, COMPRESS, seeds=SEEDS),
        mean_lost("ptq.ds_pt.lost", boards, DEPTHWISE, PER_TENSOR, seeds=SEEDS),
        mean_lost("ptq.wide.lost", boards, WIDE, COMPRESS, seeds=SEEDS),
        mean_lost("ptq.wide_pt.lost", boards, WIDE, PER_TENSOR, seeds=SEEDS),
        detector(boards),
        below_best_peer(boards),
        slower(boards),
        Measured(id="ptq.install_mb", figure=install_mb, n=1),
    ]


def of_net(boards: Iterable[Board], name: str) -> list[Board]:
    """The boards of a net, one a seed."""
    return [board for board in boards if board.net.name == name]


def mean_lost(
    bar: str, boards: Sequence[Board], net: str, by: str, *, seeds: int = 1
) -> Measured:
    """Points that a quantizer loses on a net, the mean over its seeds.

    The interval is that of a mean of independent figures: the half-widths of the
    seeds' paired intervals are added as squares.
    """
    found = [
        lost
        for board in of_net(boards, net)
        if (entry := board.entry(by)) and (lost := board.lost(entry))
    ]
    if not found:
        return Measured(id=bar, figure=None, n=0)
    figure = sum(lost for lost, _, _ in found) / len(found)
    down, up = (
        math.hypot(*(ends[0] - end for ends, end in zip(found, side, strict=True)))
        / len(found)
        for side in ([low for _, low, _ in found], [high for _, _, high in found])
    )
    n = sum(
        entry.score.n for board in of_net(boards, net) if (entry := board.entry(by))
    )
    few = f"{len(found)} of {seeds} seeds" if len(found) < seeds else ""
    return Measured(
        id=bar, figure=figure, n=n, interval=(figure - down, figure + up), unmet=few
    )


def lines_lost(boards: Sequence[Board]) -> Measured:
    """Lines that the OCR net loses at defaults, if it is really INT8."""
    one = mean_lost("ptq.ocr.lines_lost", boards, OCR, COMPRESS, seeds=SEEDS)
    unmet = [one.unmet] if one.unmet else []
    for board in of_net(boards, OCR):
        entry = board.entry(COMPRESS)
        share = entry.int8_share if entry else None
        if share is not None and share < LEAST_INT8:
            unmet.append(f"{100 * share:.0f} % of weight layers are INT8")
    if one.interval is not None and one.interval[1] > LINES_UPPER:
        unmet.append(f"the upper bound is {one.interval[1]:.2f}")
    return replace(one, unmet="; ".join(unmet))


def cpu_vs_control(boards: Sequence[Board]) -> Measured:
    """The compressor's CPU time on the OCR net against NNCF's accuracy control."""
    ratios = [
        ours.cpu_s / theirs.cpu_s
        for board in of_net(boards, OCR)
        if (ours := board.cost(COMPRESS)) and (theirs := board.cost(NNCF_CONTROL))
    ]
    return Measured(
        id="ptq.ocr.cpu_vs_nncf_ac",
        figure=max(ratios, default=None),
        n=len(ratios),
        peer=NNCF_CONTROL if ratios else f"{NNCF_CONTROL} (missing)",
    )


def peak(boards: Sequence[Board], memory: Mapping[str, ChildCost]) -> Measured:
    """The most memory that any method of ours needs on 1,000 images."""
    peaks = {name: cost.peak_rss_bytes for name, cost in memory.items()}
    if not peaks:
        return Measured(id="ptq.ocr.peak_mb", figure=None, n=0)
    for board in of_net(boards, OCR):
        if cost := board.cost(COMPRESS):
            peaks[f"{COMPRESS} {board.net.label}"] = cost.peak_rss_bytes
    return Measured(
        id="ptq.ocr.peak_mb", figure=max(peaks.values()) / 1e6, n=len(peaks)
    )


def latency(boards: Sequence[Board]) -> Measured:
    """Time of the OCR net's chosen model on onnxruntime; the worst of the seeds."""
    found = [
        entry.ratios[ORT]
        for board in of_net(boards, OCR)
        if (entry := board.entry(COMPRESS)) and ORT in entry.ratios
    ]
    if not found:
        return Measured(id="ptq.ocr.latency_vs_fp32", figure=None, n=0)
    worst = max(found, key=lambda one: one.median)
    return Measured(
        id="ptq.ocr.latency_vs_fp32",
        figure=worst.median,
        n=len(found),
        interval=(worst.low, worst.high),
    )


def fixed_cpu(boards: Sequence[Board]) -> Measured:
    """CPU time of a fixed method ÷ the cheaper of onnxruntime's two, worst net."""
    ratios = {}
    for board in boards:
        ours = board.cost(FIXED)
        theirs = [
            cost.cpu_s
            for name in (ORT_PER_CHANNEL, ORT_PER_TENSOR)
            if (cost := board.cost(name))
        ]
        if ours and theirs:
            ratios[board.net.label] = ours.cpu_s / min(theirs)
    worst = max(ratios, key=lambda label: ratios[label], default=None)
    return Measured(
        id="ptq.fixed.cpu_vs_ort",
        figure=None if worst is None else ratios[worst],
        n=len(ratios),
        peer="onnxruntime MinMax" + (f", {worst}" if worst else " (missing)"),
    )


def detector(boards: Sequence[Board]) -> Measured:
    """What the detector loses where its INT8 form is faster.

    The speed-up is time of float32 ÷ time; that of INT8 is the best that anybody's
    fully quantized model reaches on the same runtime. Of the two runtimes it is the one
    on which INT8 gains more, and the model is the one that was made for it.
    """
    name = "ptq.detector.map_lost"
    for board in of_net(boards, DETECTOR):
        gains = {
            runtime: max(_gains(board, runtime), default=0.0)
            for runtime in (ORT, OPENVINO)
        }
        runtime = max(gains, key=lambda key: gains[key])
        made_for = {ORT: COMPRESS, OPENVINO: COMPRESS_OPENVINO}[runtime]
        entry = board.entry(made_for)
        lost = board.lost(entry) if entry else None
        if entry is None or lost is None or runtime not in entry.ratios:
            continue
        share = _gain(entry.ratios[runtime]) / gains[runtime] if gains[runtime] else 0.0
        unmet = ""
        if share < LEAST_SPEED_UP:
            unmet = f"{100 * share:.0f} % of the INT8 speed-up on {runtime}"
        return Measured(
            id=name,
            figure=lost[0],
            n=entry.score.n,
            interval=lost[1:],
            unmet=unmet,
            peer=f"{100 * share:.0f} % of the speed-up on {runtime}",
        )
    return Measured(id=name, figure=None, n=0)


def _gains(board: Board, runtime: str) -> list[float]:
    return [
        _gain(entry.ratios[runtime])
        for entry in board.entries
        if entry.by != FLOAT and runtime in entry.ratios
    ]


def _gain(ratio: Ratio) -> float:
    """How much of its time a model saves others; 0.25 is a quarter more a second."""
    return 1 / ratio.median - 1


def below_best_peer(boards: Sequence[Board]) -> Measured:
    """Nets on which any peer's model is better than ours beyond the interval."""
    beaten, seen = {}, set()
    for board in boards:
        ours = board.entry(COMPRESS)
        if board.net.name not in LISTED or ours is None:
            continue
        peers = [entry for entry in board.entries if _is_scored_peer(entry)]
        if not peers:
            continue
        seen.add(board.net.name)
        for entry in peers:
            # What is lost from a peer's model to ours, at the least.
            if points(entry.score, ours.score)[1] > 0:
                beaten.setdefault(board.net.name, entry.by)
    missing = [name for name in LISTED if name not in seen]
    return Measured(
        id="ptq.nets.below_best_peer",
        figure=float(len(beaten)) if seen else None,
        n=len(seen),
        peer="; ".join(f"{net}: {by}" for net, by in beaten.items()) or None,
        unmet=f"not measured: {', '.join(missing)}" if seen and missing else "",
    )


def _is_scored_peer(entry: Entry) -> bool:
    quantizer = QUANTIZERS.get(entry.by)
    is_peer = quantizer is not None and quantizer.tool != OURS
    return is_peer and entry.score.tally is not None


def slower(boards: Sequence[Board]) -> Measured:
    """Models of the whole command that are slower, of which it said nothing."""
    found, seen = [], 0
    for board in boards:
        for by in (COMPRESS, COMPRESS_OPENVINO):
            entry = board.entry(by)
            if entry is None or entry.home not in entry.ratios:
                continue
            seen += 1
            is_told = any("slower" in note for note in entry.made.notes)
            if entry.ratios[entry.home].low > 1 and not is_told:
                found.append(f"{board.net.label} on {entry.home}")
    return Measured(
        id="ptq.slower_than_fp32",
        figure=float(len(found)) if seen else None,
        n=seen,
        peer=", ".join(found) or None,
    )
