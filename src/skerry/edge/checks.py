"""What a release must show on this gateway before it serves.

It is checked beside the one that serves: its size, that it loads and runs, that it
gives the golden outputs, and that it keeps the limits of its budget that can be
measured here: latency, memory and size. The accuracy drop needs labelled data and the
energy a meter: both are proven on the bench.

- **Latency** is a rate over a window, not one time: a CPU quota is spent and refilled
  in periods of about 0.1 s, so each window of 0.15 s has some of the waiting in it,
  while a neighbour's burst spoils one window and not the best of five. A session that
  runs in a process of its own is woken once for many inferences: to wake a process
  takes as long as the machine's other work lets it, which no model can help.
- **Memory** is the growth of this process's share of physical memory over loading and
  the first inference. It is a lower bound: what the runtime shares between sessions,
  and what other releases freed in the meantime, is not in it. A session that runs in a
  process of its own tells what it takes there.

A model that was never released (`skerry serve FILE`) has no golden samples
(`skerry.core.release.NOTHING`), but inputs without outputs: that it runs, what it
gives, and that it gives no NaN is seen, and not whether it is right.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from skerry.core.clock import Clock
from skerry.core.errors import (
    DataError,
    MissingExtraError,
    NewerSchemaError,
    RefusedError,
    SkerryError,
    StateError,
    UsageError,
)
from skerry.core.model import Model, TensorSpec
from skerry.core.release import NOTHING, Reason
from skerry.core.seams import Array, LoadOptions, Runtime, Session, Tensors
from skerry.edge.installed import Installed
from skerry.runtimes.libraries import machine_abi
from skerry.tasks.evaluate import output_distance
from skerry.tasks.golden import Golden, parse_golden
from skerry.tasks.measure import pss_bytes

log = logging.getLogger(__name__)

LIMIT_S = 120.0
"""Most seconds that one release is checked for."""

WINDOWS = 5
"""Most windows in which latency is measured; the best counts."""

WINDOW_S = 0.15
"""Shortest window, longer than the period of a CPU quota."""

MOST_REPEATS = 100
"""Most inferences that a session is asked for at once, where it can repeat them."""

WINDOW_RUNS = (3, 10_000)
"""Fewest and most inferences in a window."""

GetRuntime = Callable[[str], Runtime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the check of a release measured here.

    Attributes:
        golden_error: Largest relative squared error of a golden sample.
        size_bytes: Of the model file.
        latency_ms: Mean time of one inference in the best window, or None where the
            budget says nothing of it.
        memory_bytes: What loading and the first inference took, or None where the
            budget says nothing of it.
        tolerance: Largest error that the golden samples allow.
        changes: What it takes or gives otherwise than the release that serves, a
            sentence each; producers and consumers of both are to look at them.
    """

    golden_error: float
    size_bytes: int
    latency_ms: float | None
    memory_bytes: int | None
    tolerance: float = 0.0
    changes: tuple[str, ...] = ()


class _WorkerFigures(Protocol):
    """What a session that runs in a process of its own tells of it."""

    @property
    def memory_bytes(self) -> int:
        """What its model takes."""
        ...


@runtime_checkable
class _Isolated(Protocol):
    """A session that runs in a process of its own."""

    def figures(self) -> _WorkerFigures:
        """Tell of the process."""
        ...


@runtime_checkable
class _Repeating(Protocol):
    """A session that can run the same inference many times at one call."""

    def repeat(self, inputs: Tensors, *, times: int) -> None:
        """Run it so many times."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A release that is loaded, warm and checked, but does not serve yet.

    Attributes:
        installed: The release.
        session: Its model, loaded.
        findings: What was measured.
        typical_s: How long the quickest of its golden samples took.
    """

    installed: Installed
    session: Session
    findings: Findings
    typical_s: float = 0.0

    def close(self) -> None:
        """Give the session back: the release will not serve after all."""
        self.session.close()


def prepare(
    installed: Installed,
    *,
    runtimes: GetRuntime,
    clock: Clock,
    serving: Installed | None = None,
    limit_s: float = LIMIT_S,
) -> Prepared:
    """Load a release and check it, in a thread of its own.

    Nothing interrupts a runtime that hangs: past the limit it is left alone, and what
    it loaded is closed should it ever come back.

    Args:
        installed: The release, whose files have been verified.
        runtimes: Finds a runtime by name.
        clock: What measures latency.
        serving: What serves under its name now, to be compared with, or None.
        limit_s: Most seconds that all of it may take, by this machine's clock.

    Raises:
        RefusedError: It does not hold here what it promises; `reason` says which.
    """
    check = _Check(installed, runtimes, clock, serving)
    ended: Future[Prepared] = Future()

    def run() -> None:
        try:
            prepared = check.run()
        except Exception as error:  # noqa: BLE001 (it is raised where it is awaited)
            with suppress(InvalidStateError):
                ended.set_exception(error)
            return
        try:
            ended.set_result(prepared)
        except InvalidStateError:
            prepared.close()

    threading.Thread(target=run, name="skerry-check", daemon=True).start()
    try:
        return ended.result(timeout=limit_s)
    except TimeoutError:
        if not ended.cancel():
            return ended.result()
    reason = Reason.LATENCY if check.is_loaded else Reason.LOAD
    verb = "checked" if check.is_loaded else "loaded"
    raise RefusedError(
        f"{installed.id} was not {verb} within {limit_s:g} s",
        hint="Try a smaller model, or fewer golden samples.",
        reason=reason,
    )


class _Check:
    """The check of one release, from its size to its latency."""

    def __init__(
        self,
        installed: Installed,
        runtimes: GetRuntime,
        clock: Clock,
        serving: Installed | None,
    ) -> None:
        self.is_loaded = False
        self._serving = serving
        self._typical_s = math.inf
        self._installed = installed
        self._runtimes = runtimes
        self._clock = clock
        self._budget = installed.manifest.budget

    def run(self) -> Prepared:
        size_bytes = self._check_size()
        golden = self._read_golden()
        wants_memory = self._budget.memory_bytes is not None
        before_bytes = self._memory_bytes() if wants_memory else 0
        session = self._load(size_bytes)
        self.is_loaded = True
        try:
            self._run(session, golden.samples[0].inputs)
            memory_bytes = None
            if wants_memory:
                memory_bytes = self._check_memory(session, before_bytes)
            error = self._check_golden(session, golden)
            latency_ms = self._check_latency(session, golden)
        except BaseException:
            session.close()
            raise
        findings = Findings(
            golden_error=error,
            size_bytes=size_bytes,
            latency_ms=latency_ms,
            memory_bytes=memory_bytes,
            tolerance=golden.tolerance,
            changes=self._changes(),
        )
        log.info(
            "release.prepared",
            extra={"release": str(self._installed.id), "changes": findings.changes},
        )
        return Prepared(
            installed=self._installed,
            session=session,
            findings=findings,
            typical_s=self._typical_s,
        )

    def _changes(self) -> tuple[str, ...]:
        """What the signature has otherwise than that of what serves."""
        if self._serving is None:
            return ()
        old, new = self._serving.model, self._installed.model
        return (
            *_changes_of("input", old.inputs, new.inputs),
            *_changes_of("output", old.outputs, new.outputs),
        )

    def _refuse(
        self,
        what: str,
        reason: Reason,
        *,
        hint: str,
        measured: float | None = None,
        allowed: float | None = None,
    ) -> RefusedError:
        return RefusedError(
            f"{self._installed.id} {what}",
            hint=hint,
            reason=reason,
            measured=measured,
            allowed=allowed,
        )

    def _check_size(self) -> int:
        path = self._installed.files["model"]
        try:
            size_bytes = self._installed.vault.size_bytes(path)
        except OSError as error:
            raise self._refuse(
                f"cannot be read here: {error.strerror or error}",
                Reason.STORAGE,
                hint="Look after the gateway's disk.",
            ) from error
        allowed = self._budget.size_bytes
        if allowed is not None and size_bytes > allowed:
            raise self._refuse(
                f"has a model of {size_bytes} bytes, its budget allows {allowed}",
                Reason.SIZE,
                hint="Compress it further, or raise the budget.",
                measured=size_bytes,
                allowed=allowed,
            )
        return size_bytes

    def _read_golden(self) -> Golden:
        try:
            golden = parse_golden(
                self._installed.read("golden"),
                name=str(self._installed.files["golden"]),
            )
        except NewerSchemaError as error:
            raise self._refuse(
                f"has golden samples that are too new: {error}",
                Reason.TOO_NEW,
                hint=error.hint,
            ) from error
        except (KeyError, UsageError) as error:
            raise self._refuse(
                f"has no golden samples that can be read: {error}",
                Reason.GOLDEN,
                hint="Make the release again.",
            ) from error
        for sample in golden.samples:
            for name, output in sample.outputs.items():
                if output.dtype.kind == "U" or not np.isfinite(output).all():
                    raise self._refuse(
                        f"has a golden sample {sample.name[:80]!r} whose output "
                        f"{name[:80]!r} is not of finite numbers",
                        Reason.GOLDEN,
                        hint="Make the release again.",
                    )
        return golden

    def _load(self, size_bytes: int) -> Session:
        chosen = self._installed.model
        try:
            runtime = self._runtimes(chosen.runtime)
        except (MissingExtraError, UsageError, StateError) as error:
            raise self._refuse(
                f"needs the runtime {chosen.runtime[:80]!r}, which is not here: "
                f"{error}",
                Reason.UNFIT,
                hint=error.hint,
            ) from error
        options = LoadOptions(threads=1, libraries=self._libraries())
        model = Model(
            path=self._installed.files["model"],
            format=chosen.format,
            inputs=chosen.inputs,
            outputs=chosen.outputs,
            sha256=chosen.blob.sha256,
            size_bytes=size_bytes,
        )
        try:
            return runtime.load(model, options)
        except Exception as error:
            raise self._broken("cannot be loaded here", error) from error

    def _libraries(self) -> tuple[Path, ...]:
        abi = machine_abi()
        try:
            found = self._installed.libraries(abi)
        except KeyError:
            found = ()
        if self._installed.model.libraries and not found:
            raise self._refuse(
                f"needs a library of operators, and has none for {abi}",
                Reason.UNFIT,
                hint="Release it again, with a library for this machine.",
            )
        return found

    def _run(self, session: Session, inputs: Tensors) -> dict[str, Array]:
        with self._running():
            return session.run(inputs)

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Refuse what cannot be run."""
        try:
            yield
        except DataError as error:
            raise self._refuse(
                f"has golden samples that do not fit its model: {error}",
                Reason.GOLDEN,
                hint="Make the release again.",
            ) from error
        except Exception as error:
            raise self._broken("cannot be run here", error) from error

    def _broken(self, what: str, error: Exception) -> RefusedError:
        # A runtime of a third party may raise anything: then its kind says enough.
        said = str(error) if isinstance(error, SkerryError) else type(error).__name__
        return self._refuse(
            f"{what}: {said}",
            Reason.LOAD,
            hint="Try the model on this runtime: skerry compare lists what runs it.",
        )

    def _memory_bytes(self) -> int:
        try:
            return pss_bytes()
        except StateError as error:
            raise self._refuse(
                f"has a budget for memory, which cannot be measured here: {error}",
                Reason.MEMORY,
                hint=error.hint,
                allowed=self._budget.memory_bytes,
            ) from error

    def _check_memory(self, session: Session, before_bytes: int) -> int:
        if isinstance(session, _Isolated):
            grown_bytes = session.figures().memory_bytes
        else:
            grown_bytes = max(0, self._memory_bytes() - before_bytes)
        allowed = self._budget.memory_bytes
        if allowed is not None and grown_bytes > allowed:
            raise self._refuse(
                f"takes {grown_bytes} bytes of memory here, its budget allows "
                f"{allowed}",
                Reason.MEMORY,
                hint="Take a smaller model, or raise the budget.",
                measured=grown_bytes,
                allowed=allowed,
            )
        return grown_bytes

    def _check_golden(self, session: Session, golden: Golden) -> float:
        worst, which, n_beyond = 0.0, "", 0
        is_made_up = self._installed.manifest.golden == NOTHING
        for sample in golden.samples:
            began_s = self._clock.wall_s()
            outputs = self._run(session, sample.inputs)
            self._typical_s = min(self._typical_s, self._clock.wall_s() - began_s)
            self._check_outputs(session, outputs)
            # Numbers near the end of float64 overflow when squared: then they differ.
            with np.errstate(all="ignore"):
                known = outputs if is_made_up else sample.outputs
                error = output_distance(known, outputs)
            n_beyond += not error <= golden.tolerance
            if not error <= worst:
                worst, which = error, sample.name
        if n_beyond:
            raise self._refuse(
                f"differs from {n_beyond} of {len(golden.samples)} golden samples, by "
                f"{worst:.3g} for {which[:80]!r}, its tolerance is "
                f"{golden.tolerance:g}",
                Reason.GOLDEN,
                hint="Compare the model with its source on this runtime.",
                measured=worst,
                allowed=golden.tolerance,
            )
        return worst

    def _check_outputs(self, session: Session, outputs: Tensors) -> None:
        for spec in session.outputs:
            output = outputs[spec.name]
            if output.dtype.name != spec.dtype or not spec.accepts(output.shape):
                raise self._refuse(
                    f"gives {output.dtype}{list(output.shape)} for its output {spec}",
                    Reason.LOAD,
                    hint="The manifest's signature is not the model's: release again.",
                )
            if output.dtype.kind == "f" and not np.isfinite(output).all():
                raise self._refuse(
                    f"gives NaN or infinities in its output {spec.name!r}",
                    Reason.NOT_FINITE,
                    hint="Look for an overflow: skerry compare shows where it begins.",
                )

    def _check_latency(self, session: Session, golden: Golden) -> float | None:
        allowed = self._budget.latency_ms
        if allowed is None:
            return None
        best_ms = float("inf")
        inputs = itertools.cycle([sample.inputs for sample in golden.samples])
        for _ in range(WINDOWS):
            best_ms = min(best_ms, self._window_ms(session, inputs))
            if best_ms <= allowed:  # the best of all of them holds, too
                return best_ms
        raise self._refuse(
            f"takes {best_ms:.3g} ms for one inference here, its budget allows "
            f"{allowed:g} ms",
            Reason.LATENCY,
            hint="Give the gateway more CPU, compress further, or raise the budget.",
            measured=best_ms,
            allowed=allowed,
        )

    def _window_ms(
        self, session: Session, inputs: itertools.cycle[dict[str, Array]]
    ) -> float:
        fewest, most = WINDOW_RUNS
        repeating = session if isinstance(session, _Repeating) else None
        began_s = self._clock.wall_s()
        count, times = 0, 1
        while True:
            with self._running():
                if repeating is not None:
                    repeating.repeat(next(inputs), times=times)
                else:
                    session.run(next(inputs))
            count += times
            elapsed_s = self._clock.wall_s() - began_s
            if count >= most or (count >= fewest and elapsed_s >= WINDOW_S):
                break
            if repeating is not None:
                times = min(count, most - count, MOST_REPEATS)
        return elapsed_s * 1000 / count


def _changes_of(
    kind: str, old: tuple[TensorSpec, ...], new: tuple[TensorSpec, ...]
) -> list[str]:
    before = {spec.name: spec for spec in old}
    after = {spec.name: spec for spec in new}
    changes = [f"{kind} {spec} is gone" for spec in old if spec.name not in after]
    for spec in new:
        was = before.get(spec.name)
        if was is None:
            changes.append(f"{kind} {spec} is new")
        elif was != spec:
            changes.append(f"{kind} {was} has become {spec}")
    return changes
