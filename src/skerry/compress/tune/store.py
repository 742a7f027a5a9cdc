"""An experiment in a folder: what is asked, and one file a trial.

Each file is put in place whole, so a kill at any instruction leaves the trials as they
were before or after it. A trial is claimed under a lock that the system lets go when
its holder dies; so does each worker hold a lock of its own for as long as it lives, and
a claim is as good as the lock of its worker: that of a dead one is taken over at once,
on this machine and on any that shares the folder and its locks (NFS does, from version
4 on), and no clock is asked.

    experiment.json              what is asked, schema skerry.experiment/1
    trials/000007.json           one trial, schema skerry.trial/1
    workers/NAME.lock            held while a worker lives
    cache/                       what was made and measured, by content
"""

from __future__ import annotations

import os
import re
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from skerry.compress.search.request import Preference
from skerry.compress.tune.sampler import SamplerName
from skerry.compress.tune.trial import Outcome, Trial
from skerry.core.budget import Budget
from skerry.core.documents import from_json, to_json
from skerry.core.durable import hold, make_folder, write_file
from skerry.core.errors import ConflictError, UsageError
from skerry.core.files import read_file
from skerry.core.recipe import Recipe

EXPERIMENT_SCHEMA = "skerry.experiment/1"
TRIAL_SCHEMA = "skerry.trial/1"

EXPERIMENT_FILE = "experiment.json"
CACHE = "cache"

MOST_CLAIMS = 2
"""Workers that may die of one trial before it is given up."""

LARGEST_BYTES = 1 << 20

_TRIAL = re.compile(r"(\d{6})\.json")

Propose = Callable[[Sequence[Trial]], Recipe | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What is asked of an experiment.

    Attributes:
        model: The source model's file.
        sha256: Its hash.
        created_ms: When it was begun, milliseconds since 1970.
        budget: What must hold.
        prefer: What counts among those that hold.
        sampler: What proposes recipes.
        seed: Of all chance.
        space: The search file's content; empty for the default space.
        given: Where samples, task and the rest lie, by name of the option.
    """

    model: str
    sha256: str
    created_ms: int
    budget: Budget
    prefer: Preference = "latency"
    sampler: SamplerName = "bandit"
    seed: int = 0
    space: str = ""
    given: Mapping[str, str] = field(default_factory=dict)


class Store:
    """The folder of one experiment.

    Args:
        folder: The folder; `create` makes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._worker = ""

    @property
    def is_there(self) -> bool:
        """Whether the folder holds an experiment."""
        return (self.folder / EXPERIMENT_FILE).is_file()

    def create(self, experiment: Experiment) -> None:
        """Put a new experiment into the folder.

        Raises:
            ConflictError: There is one already.
            StorageError: The disk refused.
        """
        for name in ("trials", "workers", CACHE):
            make_folder(self.folder / name)
        with self._locked():
            if self.is_there:
                raise ConflictError(
                    f"{self.folder} holds an experiment already",
                    hint="Go on with it: skerry experiment resume, or take another "
                    "folder.",
                )
            content = to_json(experiment, schema=EXPERIMENT_SCHEMA)
            write_file(self.folder / EXPERIMENT_FILE, content)

    def experiment(self) -> Experiment:
        """What is asked.

        Raises:
            UsageError: The folder holds no experiment, or one that cannot be read.
        """
        if not self.is_there:
            raise UsageError(
                f"{self.folder} holds no experiment",
                hint="skerry tune --store FOLDER begins one.",
            )
        path = self.folder / EXPERIMENT_FILE
        content = read_file(path, largest_bytes=LARGEST_BYTES)
        return from_json(Experiment, content, schema=EXPERIMENT_SCHEMA, name=str(path))

    def trials(self) -> list[Trial]:
        """All trials in the order of their numbers, those under way too.

        Raises:
            UsageError: One cannot be read.
        """
        return [read_trial(path) for _, path in self._files()]

    @contextmanager
    def working(self) -> Iterator[None]:
        """Be a worker while the context is open; what it claims is its own."""
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
        self._worker = f"{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        with hold(self._lock(self._worker), who="worker"):
            yield

    def claim(self, propose: Propose, *, most: int) -> Trial | None:
        """Claim a trial: one whose worker died, else what is proposed.

        Args:
            propose: Says what to try next, from all trials so far.
            most: Trials that there may be.

        Returns:
            The trial, which no living worker has; None where nothing is left to claim.

        Raises:
            UsageError, StorageError: The folder cannot be read or written.
        """
        with self._locked():
            trials = self.trials()
            for trial in trials:
                if trial.outcome is None and not self._lives(trial.worker):
                    again = replace(trial, worker=self._worker, claims=trial.claims + 1)
                    if again.claims <= MOST_CLAIMS:
                        return self._put(again)
                    self._put(replace(trial, outcome=_GIVEN_UP))
            if len(trials) >= most:
                return None
            recipe = propose(self.trials())
            if recipe is None:
                return None
            number = trials[-1].number + 1 if trials else 0
            return self._put(Trial(number=number, recipe=recipe, worker=self._worker))

    def finish(self, trial: Trial, outcome: Outcome) -> None:
        """Keep what a trial came to; a claim that was lost meanwhile changes nothing.

        Raises:
            StorageError: The disk refused.
        """
        with self._locked():
            known = read_trial(self._path(trial.number))
            if known.worker == trial.worker:
                self._put(replace(known, outcome=outcome))

    def let_go(self, trial: Trial) -> None:
        """Give a claim back as if it had never been: the trial has no part in why.

        Raises:
            StorageError: The disk refused.
        """
        with self._locked():
            known = read_trial(self._path(trial.number))
            if known.worker == trial.worker:
                self._put(replace(known, worker="", claims=known.claims - 1))

    def _put(self, trial: Trial) -> Trial:
        write_file(self._path(trial.number), to_json(trial, schema=TRIAL_SCHEMA))
        return trial

    def _path(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:06}.json"

    def _files(self) -> list[tuple[int, Path]]:
        files = (self.folder / "trials").glob("*.json")
        matches = ((_TRIAL.fullmatch(path.name), path) for path in files)
        return sorted((int(match[1]), path) for match, path in matches if match)

    def _lock(self, worker: str) -> Path:
        return self.folder / "workers" / f"{worker}.lock"

    def _locked(self) -> AbstractContextManager[None]:
        lock = self.folder / "workers" / ".claims"
        return hold(lock, who="worker", is_waiting=True)

    def _lives(self, worker: str) -> bool:
        lock = self._lock(worker)
        if not lock.exists():
            return False
        try:
            with hold(lock, who="worker"):
                return False
        except ConflictError:
            return True


_GIVEN_UP = Outcome(
    violation=1.0,
    refusal=f"given up: {MOST_CLAIMS} processes died of it (out of memory?)",
)


def read_trial(path: Path) -> Trial:
    """Read the file of one trial.

    Raises:
        UsageError: It cannot be read, or is none.
    """
    content = read_file(path, largest_bytes=LARGEST_BYTES)
    return from_json(Trial, content, schema=TRIAL_SCHEMA, name=str(path))
