"""What quantizers cost where bars compare it: in turns, on a quiet machine."""

from __future__ import annotations

import compileall
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

import skerry
from benchmarks._compress_ptq_make import Told, Workshop, digest
from benchmarks._compress_ptq_plan import (
    FIXED,
    ORT_PER_CHANNEL,
    ORT_PER_TENSOR,
    Net,
)
from skerry.core.durable import make_folder, write_file
from skerry.core.errors import SkerryError
from skerry.tasks.measure import ChildCost

ROUNDS = 3
IN_TURNS = (FIXED, ORT_PER_CHANNEL, ORT_PER_TENSOR)
"""What is compared on every net, by the median of `ROUNDS`."""

ROOT = Path(__file__).parents[1]


class Costs:
    """Costs measured in turns, kept in a work folder.

    Args:
        work: Where they are kept.
        shop: Knows how each quantizer is run.
        told: Told of what is under way.
    """

    def __init__(self, work: Path, shop: Workshop, told: Told) -> None:
        self._work = work
        self._shop = shop
        self._told = told

    def look(self, net: Net, names: Sequence[str]) -> dict[str, ChildCost]:
        """The costs there are of quantizers as they are now, without measuring."""
        keys = {name: self._shop.key(net, name) for name in names}
        return {
            name: cost
            for name, (key, cost) in self._read(net).items()
            if keys.get(name) == key
        }

    def measure(self, net: Net, names: Sequence[str]) -> dict[str, ChildCost]:
        """Measure those that are compared, unless that was done already.

        Args:
            net: The net.
            names: The quantizers that made a model of it.
        """
        # pip compiled the peers when it installed them; a source tree may not be.
        compileall.compile_dir(Path(skerry.__file__).parent, quiet=1)
        kept = self.look(net, names)
        in_turns = [name for name in IN_TURNS if name in names]
        if not all(name in kept for name in in_turns):
            self._told(f"{net.label}: costs in turns")
            kept |= self._turns(net, in_turns)
        entries = {
            name: (self._shop.key(net, name), cost) for name, cost in kept.items()
        }
        make_folder(self._path(net).parent)
        write_file(self._path(net), msgspec.json.encode(entries))
        return kept

    def _turns(self, net: Net, names: Sequence[str]) -> dict[str, ChildCost]:
        found: dict[str, list[ChildCost]] = {name: [] for name in names}
        with tempfile.TemporaryDirectory(prefix="skerry-") as scratch:
            folder = Path(scratch) / "out"
            for _ in range(ROUNDS):
                for name in names:
                    try:
                        command = self._shop.command(net, name, folder)
                        found[name].append(self._shop.cost(command, folder))
                    except SkerryError as error:
                        self._told(f"{net.label}: {name}: {error}")
        return {
            name: ChildCost(
                cpu_s=statistics.median(one.cpu_s for one in costs),
                wall_s=statistics.median(one.wall_s for one in costs),
                peak_rss_bytes=max(one.peak_rss_bytes for one in costs),
            )
            for name, costs in found.items()
            if costs
        }

    def _read(self, net: Net) -> dict[str, tuple[str, ChildCost]]:
        try:
            content = self._path(net).read_bytes()
            return msgspec.json.decode(content, type=dict[str, tuple[str, ChildCost]])
        except (OSError, msgspec.DecodeError):
            return {}

    def _path(self, net: Net) -> Path:
        return self._work / "costs" / f"{net.label}.json"


def install_mb(work: Path, told: Told, *, is_allowed: bool) -> float | None:
    """Install `skerry[compress]` into a new environment and weigh what that brought.

    Args:
        work: Where the figure is kept.
        told: Told of what is under way.
        is_allowed: Whether to install; else only a figure kept before is returned.

    Returns:
        MB of site-packages, less those of an empty environment; None where that was
        not, or could not be, measured.
    """
    key = digest((ROOT / "pyproject.toml").read_bytes(), sys.version)
    path = work / "install.json"
    if path.exists():
        kept_key, kept = msgspec.json.decode(path.read_bytes(), type=tuple[str, float])
        if kept_key == key:
            return kept
    if not is_allowed:
        return None
    told("installing skerry[compress] into a new environment")
    with tempfile.TemporaryDirectory(prefix="skerry-") as scratch:
        place = Path(scratch) / "venv"
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        try:
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            empty = _site_mb(place)
            subprocess.run([*pip, f"{ROOT}[compress]"], check=True)
        except subprocess.CalledProcessError as error:
            told(f"cannot install: {error}")
            return None
        found = _site_mb(place) - empty
    make_folder(path.parent)
    write_file(path, msgspec.json.encode((key, found)))
    return found


def _site_mb(place: Path) -> float:
    (site,) = (place / "lib").glob("python3*/site-packages")
    sizes = (file.lstat().st_size for file in site.rglob("*") if file.is_file())
    return sum(sizes) / 1e6
