"""Compile for Ethos-U by Arm's Vela, in its own environment, with files in and out."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from skerry.adapt.vela import parse_compiled
from skerry.app import toolchains
from skerry.core.compiled import Compiled
from skerry.core.durable import storage_errors, write_file
from skerry.core.errors import ModelError, TargetError, ToolchainError
from skerry.core.model import Model, ModelFormat
from skerry.core.target import Target

NAME = "vela"
COMPILE_TIMEOUT_S = 600.0


class VelaToolchain:
    """Vela as it was installed by `skerry toolchain install vela`.

    Args:
        folder: Where environments stand; `toolchains_folder` says if None.
    """

    name = NAME

    def __init__(self, *, folder: Path | None = None) -> None:
        self._toolchain = toolchains.find_toolchain(NAME)
        self._folder = folder
        self._version = ""

    @property
    def version(self) -> str:
        """The compiler and its version.

        Raises:
            ToolchainError: It is not installed, or an older one is.
        """
        if not self._version:
            there = toolchains.find_installed(self._toolchain, folder=self._folder)
            self._version = there.versions
        return self._version

    def compile(
        self, model: Model, target: Target, out: Path | None = None
    ) -> Compiled:
        """Compile a TFLite file.

        Args:
            model: A TFLite file.
            target: A target whose first processor names `vela` as its toolchain.
            out: Where the compiled model is put; None keeps none.

        Returns:
            Where each operator runs, and what the whole costs.

        Raises:
            ModelError: It is no TFLite file, or Vela cannot compile it.
            TargetError: The target is not one that Vela compiles for.
            ToolchainError: Vela is not installed, or too old, or took too long.
            StorageError: The disk refused.
        """
        options = vela_options(target)
        if model.format is not ModelFormat.TFLITE:
            raise ModelError(
                f"Vela compiles TFLite files, {model.path.name} is {model.format}",
                hint=f"skerry export {model.path} --to tflite",
            )
        version = self.version
        place = Path(gettempdir())
        with storage_errors(place), TemporaryDirectory(dir=place) as scratch:
            folder = Path(scratch)
            arguments = ["vela", str(model.path.resolve()), *options]
            arguments += ["--verbose-performance", "--output-dir", scratch]
            self._run(arguments, model)
            layers = _only(folder, "*_per-layer.csv").read_bytes()
            summary = _only(folder, "*_summary_*.csv").read_bytes()
            if out is not None:
                write_file(out, _only(folder, "*_vela.tflite").read_bytes())
        return parse_compiled(layers, summary, toolchain=version)

    def _run(self, arguments: list[str], model: Model) -> None:
        exit_code, said = toolchains.run_in(
            self._toolchain,
            arguments,
            timeout_s=COMPILE_TIMEOUT_S,
            folder=self._folder,
        )
        if exit_code != 0:
            raise ModelError(
                f"Vela does not compile {model.path.name}: exit code {exit_code}: "
                f"{toolchains.last_words(said)}",
                hint="See what Vela says; skerry audit says what it would not place.",
            )


def vela_options(target: Target) -> tuple[str, ...]:
    """The flags that make Vela compile for a target.

    Raises:
        TargetError: The target is not one that Vela compiles for.
    """
    first = target.processors[0]
    if first.toolchain != NAME or not first.toolchain_options:
        raise TargetError(
            f"Vela does not compile for {target.name}: {first.name} names "
            f"{first.toolchain or 'no toolchain'!r}, expected 'vela' and its options",
            hint="Choose an Ethos-U target; skerry target ls lists them.",
        )
    return first.toolchain_options


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise ToolchainError(
            f"vela: it wrote {len(found)} files {pattern}, expected one",
            hint="Install the Vela that is known: skerry toolchain install vela",
        )
    return found[0]
