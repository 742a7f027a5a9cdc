"""The gateway: an engine that serves, an agent that updates, a field watch.

A script on the gateway asks a service through shared memory, or runs the engine
itself:

```python
from skerry.edge import LocalClient

with LocalClient(path) as client:
    answer = client.infer("meter", {"x": x}, timeout_s=0.5)
print(answer.release, answer.outputs["y"])
```

```python
from skerry.edge import EmbeddedEngine

with EmbeddedEngine() as service:
    service.load(installed)
    answer = service.infer("meter", {"x": x}, timeout_s=0.5)
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skerry.edge.embedded import EmbeddedEngine
    from skerry.edge.engine import Engine
    from skerry.edge.installed import Installed
    from skerry.edge.protocol.client import LocalAnswer, LocalClient

__all__ = ["EmbeddedEngine", "Engine", "Installed", "LocalAnswer", "LocalClient"]

_HOMES = {
    "Engine": "engine",
    "EmbeddedEngine": "embedded",
    "Installed": "installed",
    "LocalAnswer": "protocol.client",
    "LocalClient": "protocol.client",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for, and nothing else: a client needs no engine."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
