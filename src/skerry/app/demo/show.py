"""The demo from beginning to end: its figures as they come, its page, its result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from skerry.adapt.audit import Audit
from skerry.adapt.compare import Comparison
from skerry.app import figures
from skerry.app.demo import acts
from skerry.app.demo.acts import MeterAct, Misread, TextAct, TextNet
from skerry.app.demo.day import FLEET_FOLDER, Day, Kept, run_day
from skerry.app.demo.field import FieldAccuracy
from skerry.app.demo.fleet import Fleet
from skerry.app.demo.page import demo_page
from skerry.app.demo.ship import ShipFigures
from skerry.app.demo.stage import Refused
from skerry.app.output import Output
from skerry.app.report_page import sum_up
from skerry.app.reports import write_report
from skerry.core.durable import make_folder, write_file
from skerry.core.report import Report
from skerry.graph import write_graph

SHOWN_MISREAD = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFigures:
    """What a target makes of the text net.

    Attributes:
        target: Its short name.
        would_run: Whether it is known that the net runs there.
        fallbacks: Operators that leave the most wanted processor.
        accelerated_macs: Share of the work on the most wanted processor, 0–1.
        problems: Why it would not run.
        remedies: What would help, most gain first.
    """

    target: str
    would_run: bool
    fallbacks: int
    accelerated_macs: float
    problems: tuple[str, ...]
    remedies: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFigures:
    """What one runtime makes of the text net; None where it did not run.

    Attributes:
        runtime: Its name.
        version: Its version.
        latency_ms: Median time of one line, one thread.
        speedup: How many times as fast as the first runtime.
        same_text: Lines read as the first runtime reads them.
        lines: Lines compared.
        refusal: Why it did not run, or empty.
    """

    runtime: str
    version: str
    latency_ms: float | None
    speedup: float | None
    same_text: int | None
    lines: int
    refusal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """The demo's figures; accuracies are fractions of the report half.

    Attributes:
        seconds: How long it took.
        page: The page it wrote.
        audits: The text net on each target.
        runtimes: The text net on each runtime.
        text_lines: Lines of the report half.
        text_fp32: Lines that the text net reads right.
        text_plain_per_tensor: Lines right after plain MinMax INT8 of every operator,
            one scale a tensor.
        text_plain_int8: The same with one scale a channel of the weights.
        text_int8: Lines right after Skerry's choice.
        text_kept_float: Operators that the choice keeps float.
        misread: Lines that only plain INT8 misreads.
        text_report: The whole evidence for the text net.
        accuracy_fp32: Digits that the meter reader reads right.
        accuracy_int8: Digits right after Skerry's choice.
        size_fp32_bytes: The meter reader's file.
        size_int8_bytes: The file of Skerry's choice.
        readings: Meter readings of five digits.
        readings_right: How many are right, before and after.
        meter_report: The whole evidence for the meter reader.
        requests_total: Requests of the load to the gateways.
        requests_failed: Those without an answer.
        answers_wrong: Answers that were not their release's own.
        naive_failed: Requests that failed where the swap was done naively.
        swap: Act 3's swap under load, and the naive one.
        refused: Each refusal, as the shadow tells it.
        killed_converged: Whether the gateway that was killed in mid-update runs what
            it should.
        drift_found_after: Fogged frames until the alarm.
        accuracy_field: What the fleet read right: clear, fogged, healed.
        samples_sent: Pictures that the fleet sent to the hub.
        delta_bytes: The healed release as a delta; None where it was sent whole.
        full_bytes: The same release whole.
        logs: The folder with the logs of hub and gateways.
        kept: What `--keep` left up, or None.
    """

    seconds: float
    page: Path
    audits: tuple[AuditFigures, ...]
    runtimes: tuple[RuntimeFigures, ...]
    text_lines: int
    text_fp32: float
    text_plain_per_tensor: float
    text_plain_int8: float
    text_int8: float
    text_kept_float: int
    misread: tuple[Misread, ...]
    text_report: Report
    accuracy_fp32: float
    accuracy_int8: float
    size_fp32_bytes: int
    size_int8_bytes: int
    readings: int
    readings_right: tuple[int, int]
    meter_report: Report
    requests_total: int
    requests_failed: int
    answers_wrong: int
    naive_failed: int
    swap: ShipFigures
    refused: tuple[Refused, ...]
    killed_converged: bool
    drift_found_after: int
    accuracy_field: FieldAccuracy
    samples_sent: int
    delta_bytes: int | None
    full_bytes: int
    logs: Path
    kept: Kept | None


def run_demo(folder: Path, output: Output, *, keep: bool = False) -> DemoResult:
    """Run all acts, tell their figures as they come, and write the page.

    Args:
        folder: Where the page, the models and their reports go; made if missing.
        output: Who is told.
        keep: Whether hub and gateways are left running.

    Raises:
        StateError: A model or data set of the demo is not installed, or an act did
            not go as it should.
        StorageError: The folder cannot be written.
    """
    started_s = time.monotonic()
    make_folder(folder)
    fleet = Fleet(folder / FLEET_FOLDER)
    tell = _Teller(output)
    tell.act("1. Run: will it run there, and where fastest?")
    net = acts.prepare_text()
    tell.net(net)
    audits = acts.audit_text(net)
    tell.audits(audits)
    with output.progress() as progress:
        comparison = acts.compare_text(net, progress)
    tell.comparison(comparison)
    tell.act("2. Run fast: smaller and faster, as far as the budget allows")
    with output.progress() as progress:
        text = acts.squeeze_text(net, progress)
    tell.text(text)
    with output.progress() as progress:
        meter = acts.squeeze_meter(progress)
    tell.meter(meter)
    day = run_day(fleet, net, text, meter, output.talk, keep=keep)
    page = folder / "demo.html"
    write_file(page, demo_page(net, audits, comparison, text, meter, day).encode())
    for name, act in (("text", text), ("meter", meter)):
        write_graph(act.compressed.graph, folder / f"{name}.int8.onnx")
        write_report(act.compressed.report, folder / f"{name}.report.json")
    seconds = time.monotonic() - started_s
    return _result(seconds, page, audits, comparison, text, meter, day)


class _Teller:
    """Says on standard error what came out of each step."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def act(self, title: str) -> None:
        self._output.talk(f"\n{title}")

    def net(self, net: TextNet) -> None:
        size = figures.show_bytes(net.model.size_bytes)
        self._say(
            f"PP-OCRv4 text recognition, {size}, a production net; "
            f"{len(net.lines.texts)} lines printed and photographed by a poor camera"
        )

    def audits(self, audits: tuple[Audit, ...]) -> None:
        for audit in audits:
            found = _audit_figures(audit)
            self._say(
                f"{audit.target}: {audit.said}; {found.fallbacks} of "
                f"{len(audit.operators)} operators fall back, "
                f"{figures.show_percent(found.accelerated_macs)} of the work stays on "
                "its best processor"
            )
            for problem in found.problems:
                self._say(f"  {problem}")
            if found.remedies:
                self._say(f"  best remedy: {found.remedies[0]}")

    def comparison(self, comparison: Comparison) -> None:
        for row in _runtime_figures(comparison):
            if row.refusal:
                self._say(f"{row.runtime}: {row.refusal}")
                continue
            said = f"{row.runtime} {row.version}: {figures.show_ms(row.latency_ms)}"
            if row.speedup is not None and row.same_text is not None:
                same = (
                    "same text"
                    if row.same_text == row.lines
                    else f"same text on {row.same_text} of {row.lines} lines"
                )
                word = "faster" if row.speedup >= 1 else "as fast"
                said += f" a line: {row.speedup:.1f} × {word}, {same}"
            self._say(said)

    def text(self, act: TextAct) -> None:
        report = act.compressed.report
        lines = len(act.plain.per_sample)
        self._say(
            f"plain INT8 (MinMax, every operator), of {lines} lines right: "
            f"{figures.show_percent(act.compressed.before.value)} → "
            f"{figures.show_percent(act.per_tensor.value)} per tensor, the usual "
            f"default; {figures.show_percent(act.plain.value)} per channel"
        )
        for wrong in act.misread[:SHOWN_MISREAD]:
            self._say(f"  {wrong.truth!r} is read as {wrong.plain!r}")
        kept = [row for row in report.layers if row.why.startswith("kept float")]
        self._say(
            f"Skerry's choice: {figures.show_percent(act.compressed.after.value)} "
            f"right, {len(kept) or 'no'} operators kept float by measurement"
        )
        self._report(report)

    def meter(self, act: MeterAct) -> None:
        report = act.compressed.report
        self._say(
            f"meter reader (our own net): "
            f"{figures.show_percent(act.compressed.before.value)} → "
            f"{figures.show_percent(act.compressed.after.value)} of "
            f"{len(act.compressed.before.labels):,} digits right; readings of five "
            f"digits right: {act.readings_right_before} → {act.readings_right_after} "
            f"of {act.readings}"
        )
        self._report(report)

    def _report(self, report: Report) -> None:
        self._say(f"  {sum_up(report)}")
        if report.accuracy:
            low, high = (value * 100 for value in report.accuracy.ci95)
            metric = figures.show_metric(report.accuracy.metric)
            self._say(
                f"  95 % interval of the change in {metric}: "
                f"{low:+.1f} to {high:+.1f} points"
            )
        for breach in report.breaches:
            self._say(f"  misses the budget: {breach}")
        for note in report.notes:
            self._say(f"  {note}")

    def _say(self, line: str) -> None:
        self._output.talk(f"   {line}")


def _audit_figures(audit: Audit) -> AuditFigures:
    fallbacks = sum(bool(operator.reason) for operator in audit.operators)
    on_best = [operator for operator in audit.operators if not operator.reason]
    total = sum(operator.macs for operator in audit.operators)
    return AuditFigures(
        target=audit.target,
        would_run=audit.would_run,
        fallbacks=fallbacks,
        accelerated_macs=(
            sum(operator.macs for operator in on_best) / total if total else 0.0
        ),
        problems=audit.problems,
        remedies=tuple(remedy.advice for remedy in audit.remedies),
    )


def _runtime_figures(comparison: Comparison) -> tuple[RuntimeFigures, ...]:
    return tuple(
        RuntimeFigures(
            runtime=row.runtime,
            version=row.version,
            latency_ms=row.latency.median_ms if row.latency else None,
            speedup=1 / row.ratio.median if row.ratio else None,
            same_text=row.agreement.same_predictions if row.agreement else None,
            lines=comparison.samples,
            refusal=row.refusal,
        )
        for row in comparison.rows
    )


def _result(  # noqa: PLR0917 — one argument an act
    seconds: float,
    page: Path,
    audits: tuple[Audit, ...],
    comparison: Comparison,
    text: TextAct,
    meter: MeterAct,
    day: Day,
) -> DemoResult:
    text_report, meter_report = text.compressed.report, meter.compressed.report
    chosen = text.compressed.choice.chosen
    step = chosen.step if chosen else None
    return DemoResult(
        seconds=seconds,
        page=page,
        audits=tuple(_audit_figures(audit) for audit in audits),
        runtimes=_runtime_figures(comparison),
        text_lines=len(text.plain.per_sample),
        text_fp32=text.compressed.before.value,
        text_plain_per_tensor=text.per_tensor.value,
        text_plain_int8=text.plain.value,
        text_int8=text.compressed.after.value,
        text_kept_float=len(step.keep_float) if step else 0,
        misread=text.misread,
        text_report=text_report,
        accuracy_fp32=meter.compressed.before.value,
        accuracy_int8=meter.compressed.after.value,
        size_fp32_bytes=round(meter_report.size_bytes.before),
        size_int8_bytes=round(meter_report.size_bytes.after),
        readings=meter.readings,
        readings_right=(meter.readings_right_before, meter.readings_right_after),
        meter_report=meter_report,
        requests_total=len(day.replies),
        requests_failed=sum(reply.outcome == "failed" for reply in day.replies),
        answers_wrong=sum(reply.outcome == "wrong" for reply in day.replies),
        naive_failed=day.shipped.naive_failed,
        swap=day.shipped,
        refused=day.refused.refused,
        killed_converged=day.refused.killed_converged,
        drift_found_after=day.field.found_after,
        accuracy_field=day.field.accuracy,
        samples_sent=day.field.samples,
        delta_bytes=day.field.delta_bytes,
        full_bytes=day.field.full_bytes,
        logs=day.logs,
        kept=day.kept,
    )
