"""Write cases: `python -m benchmarks.nets NAME FOLDER [--seed N] [--quick]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.nets.catalogue import NETS, make_case
from skerry.core.errors import SkerryError


def list_nets() -> None:
    """Print each net, and what is missing to make it here."""
    for name, net in NETS.items():
        missing = net.missing()
        print(f"{name:20} {net.title}")
        if missing is not None:
            print(f"{'':20} skipped: {missing}")


def main() -> int:
    """Do what the command line says.

    Returns:
        0, or 1 where the case cannot be made.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nets")
    parser.add_argument("name", nargs="?", choices=NETS)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true", help="what can be made here")
    chosen = parser.parse_args()
    if chosen.list:
        list_nets()
        return 0
    if chosen.name is None or chosen.folder is None:
        parser.error("give a NAME and a FOLDER, or --list")
    try:
        made = make_case(
            chosen.name, chosen.folder, seed=chosen.seed, quick=chosen.quick
        )
    except SkerryError as error:
        print(f"{error}\n{error.hint}", file=sys.stderr)
        return 1
    print(
        f"{made.net}: float32 {made.metric} {made.value:.4f} on {made.n} samples, "
        f"made in {made.seconds:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
