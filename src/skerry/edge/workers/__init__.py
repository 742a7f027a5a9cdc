"""Models in processes of their own: they may crash, hang and grow, and nobody notices.

A pool keeps one spare a runtime: a process with the runtime imported and nothing
loaded. It forks a worker for each model that is loaded. Tensors pass through memory
that gateway and worker share, one request at a time on each channel; a worker that dies
or is killed is replaced by the next, which loads the model again.

    pool = WorkerPool()
    engine = Engine(clock=clock, runtimes=IsolatedRuntimes(pool))
    ...
    engine.close()
    pool.close()
"""

from __future__ import annotations

from skerry.edge.workers.limits import Limits
from skerry.edge.workers.pool import IsolatedRuntimes, WorkerPool
from skerry.edge.workers.session import WorkerFigures, WorkerSession

__all__ = [
    "IsolatedRuntimes",
    "Limits",
    "WorkerFigures",
    "WorkerPool",
    "WorkerSession",
]
