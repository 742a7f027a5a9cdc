"""Run benchmarks quickly and print them: `python -m benchmarks [NAME …]`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from skerry.core.names import did_you_mean

RESULTS = Path("out/bench")


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; each in a process of its own.

    Returns:
        0, or the exit code of the first one that failed.
    """
    known = sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if not path.stem.startswith("_")
    )
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            print(f"there is no benchmark {name!r}. {hint}", file=sys.stderr)
            return 2
    for name in names or known:
        print(f"== {name}", flush=True)
        result = RESULTS / f"{name}.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json"]
        done = subprocess.run([*command, str(result)], check=False)
        if done.returncode:
            return done.returncode
        print(f"written: {result}, {result.with_suffix('.png')}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
