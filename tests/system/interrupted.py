"""A fleet that is started like the demo's, to be interrupted.

`python -m tests.system.interrupted FOLDER`
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from skerry.app.demo.day import stopped_by_sigterm
from skerry.app.demo.fleet import Fleet


async def wait(fleet: Fleet) -> None:
    """Start a hub, then wait for ever."""
    with stopped_by_sigterm():
        await fleet.start_hub()
        await asyncio.Event().wait()


if __name__ == "__main__":
    made = Fleet(Path(sys.argv[1]) / "fleet")
    try:
        asyncio.run(wait(made))
    finally:
        made.stop()
