"""The one tree of errors, split by who must act.

```
SkerryError
├── UsageError            2   you: a flag, a file name, a setting
│   └── DataError         3   you: samples or labels that do not fit the model
│       └── NewerSchemaError 4  you: a document that only a newer Skerry reads
├── ModelError           10   the model: not one, damaged, or beyond what we handle
│   └── RuntimeFailure   11   the model, on one runtime: it refused or failed to run it
│       └── WorkerLostError 12 the model, in a process of its own, which it brings down
├── TargetError          20   the hardware: it cannot run or hold the model
├── BudgetError          21   the result: it misses what the budget demands
├── StateError           30   the machine we run on, or a bug of ours
│   ├── StorageError     31   the disk: full, read-only, not permitted
│   ├── ToolchainError   32   an isolated environment: not installed, or its tool failed
│   ├── ConflictError    33   somebody else changes it, or has since it was read
│   ├── BusyError        34   more was asked at once than is taken in: later it may work
│   └── LateError        35   no answer within the time that it was of use
├── MissingExtraError    40   the installation: an optional part is not there
├── RefusedError         50   the release: this device does not run it
│   └── TrustError       51   the release: it must not be believed
└── LinkError            60   the network: later it may work
```

Each error says *what* happened (with got and expected) and carries a *hint*: what to
do next. The number is the exit code of the command line; 130 is kept for Ctrl-C.
Errors of libraries are turned into these at the door module that imports the library.
"""

from __future__ import annotations

from typing import ClassVar


class SkerryError(Exception):
    """The root of all errors that Skerry raises on purpose.

    Args:
        what: One line: what happened, what was got and what was expected.
        hint: One line: what the reader can do about it.

    Example:
        >>> try:
        ...     raise ModelError("m.onnx is empty", hint="Export the model again.")
        ... except SkerryError as error:
        ...     print(f"{error} [{error.exit_code}] {error.hint}")
        m.onnx is empty [10] Export the model again.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    @property
    def code(self) -> str:
        """The stable name of the kind of error, as `--json` prints it."""
        return type(self).__name__


class UsageError(SkerryError):
    """The request itself is wrong: a flag, a file name, a setting."""

    exit_code = 2


class DataError(UsageError):
    """Samples or labels do not fit the model, or each other."""

    exit_code = 3


class NewerSchemaError(DataError):
    """A document is of a newer schema than this version of Skerry reads."""

    exit_code = 4


class ModelError(SkerryError):
    """The model is not one, is damaged, or uses what is not handled."""

    exit_code = 10


class RuntimeFailure(ModelError):  # noqa: N818 - Python owns RuntimeError
    """A runtime refused to load the model or failed while running it."""

    exit_code = 11


class WorkerLostError(RuntimeFailure):
    """The process that runs the model died, and the one in its place did too."""

    exit_code = 12


class TargetError(SkerryError):
    """The hardware described by a target cannot run or hold the model."""

    exit_code = 20


class BudgetError(SkerryError):
    """A result was produced, but it misses the budget."""

    exit_code = 21


class StateError(SkerryError):
    """The machine we run on is not in the state we need, or we have a bug."""

    exit_code = 30


class StorageError(StateError):
    """The disk refused: full, read-only, or not permitted."""

    exit_code = 31


class ToolchainError(StateError):
    """An isolated tool environment is missing, or the tool in it failed."""

    exit_code = 32


class ConflictError(StateError):
    """Somebody else changes it now, or has since it was read: look again first."""

    exit_code = 33


class BusyError(StateError):
    """More is asked at once than is taken in; a little later it may work.

    Args:
        what: One line: how much was asked, how much is taken in.
        hint: One line: what the one who asked can do about it.
        retry_after_s: After how long it is worth asking again, in seconds.
    """

    exit_code = 34

    def __init__(self, what: str, *, hint: str, retry_after_s: float = 1.0) -> None:
        super().__init__(what, hint=hint)
        self.retry_after_s = retry_after_s


class LateError(StateError):
    """There is no answer within the time in which it was of use."""

    exit_code = 35


class MissingExtraError(SkerryError):
    """An optional part of Skerry is not installed.

    Args:
        module: The module that could not be imported.
        extra: The extra of `skerry` that brings it.
    """

    exit_code = 40

    def __init__(self, module: str, *, extra: str) -> None:
        super().__init__(
            f"this needs the Python package {module!r}, which is not installed",
            hint=f"pip install 'skerry[{extra}]'",
        )
        self.module = module
        self.extra = extra


class RefusedError(SkerryError):
    """A device does not run a release.

    Args:
        what: One line: what was found, what was expected.
        hint: One line: what the publisher can do about it.
        reason: The value of a `skerry.core.release.Reason`.
        measured: The figure that broke the budget, or None.
        allowed: What the budget allows, or None.
    """

    exit_code = 50

    def __init__(
        self,
        what: str,
        *,
        hint: str,
        reason: str = "unfit",
        measured: float | None = None,
        allowed: float | None = None,
    ) -> None:
        super().__init__(what, hint=hint)
        self.reason = reason
        self.measured = measured
        self.allowed = allowed


class TrustError(RefusedError):
    """Something is not signed, not whole, or not of its time: it is refused."""

    exit_code = 51

    def __init__(self, what: str, *, hint: str, reason: str = "untrusted") -> None:
        super().__init__(what, hint=hint, reason=reason)


class LinkError(SkerryError):
    """The other side cannot be reached, or did not answer; later it may."""

    exit_code = 60
