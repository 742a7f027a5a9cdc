"""Who may import whom: rooms, doors, the quiet rooms, and no cycles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.architecture.source import PACKAGE, Module, imports_of

_FOUNDATIONS = {"core", "graph", "runtimes", "tasks"}
_VERBS = {"adapt", "compress", "evolve"}
_PLACES = {"device", "edge", "cloud"}
_BELOW_A_PLACE = _FOUNDATIONS | _VERBS | {"comms"}
ALLOWED_ROOMS = {
    "": set(),
    "core": set(),
    "graph": {"core"},
    "runtimes": {"core", "graph"},
    "tasks": {"core", "graph", "runtimes"},
    **dict.fromkeys(_VERBS, _FOUNDATIONS),
    "comms": {"core"},
    **dict.fromkeys(_PLACES, _BELOW_A_PLACE),
    "app": _BELOW_A_PLACE | _PLACES,
    "testing": _BELOW_A_PLACE | _PLACES | {"app"},
}
"""The table of DESIGN, section 2; each room may also import itself and the root."""

DOORS = {
    "onnx": {"skerry.graph._onnx"},
    "onnx_ir": {"skerry.graph._onnx"},
    "onnxruntime": {"skerry.runtimes.onnxruntime"},
    "openvino": {"skerry.runtimes.openvino"},
    "torch": {"skerry.runtimes.torch"},
    "optuna": {"skerry.compress.tune._optuna"},
    "torch_pruning": {"skerry.compress.train.prune.dependency"},
    "PIL": {"skerry.tasks._image"},
    "av": {"skerry.device._video"},
    "mqtt5": {"skerry.comms._mqtt5"},
    "grpc": {"skerry.edge.protocol.grpc"},
    "flatbuffers": {"skerry.adapt.tflite._schema"},
    "tflite": {"skerry.adapt.tflite._schema"},
    "httpx": {"skerry.comms.http"},
    "uvicorn": {"skerry.comms.asgi"},
    "tuf.api": {"skerry.evolve.trust", "skerry.edge.trust"},
    "tuf.ngclient": {"skerry.edge.trust"},
    "securesystemslib": {"skerry.evolve.trust"},
    "cryptography": {"skerry.evolve.trust"},
    "zstandard": {"skerry.evolve.delta._zstd"},
    "sqlalchemy": {"skerry.cloud"},
    "alembic": {"skerry.cloud"},
    "fastapi": {"skerry.cloud"},
    "starlette": {"skerry.cloud"},
    "pydantic": {"skerry.cloud"},
    "jinja2": {"skerry.cloud.pages"},
    "obstore": {"skerry.cloud.s3"},
}
"""The modules, or the room, through which each heavy library enters."""

QUIET_ROOMS = {"core", "evolve"}
LOUD_LIBRARIES = {
    "asyncio",
    "random",
    "socket",
    "sqlite3",
    "subprocess",
    "threading",
    "time",
}
CLOCK = "skerry.core.clock"


def rooms(modules: Iterable[Module]) -> Iterator[str]:
    """Each import from one room into another that the table does not allow."""
    for module in modules:
        if module.room not in ALLOWED_ROOMS:
            yield f"{module.place}: {module.room!r} is no room of the design"
            continue
        allowed = ALLOWED_ROOMS[module.room] | {module.room}
        for found in imports_of(module):
            package, _, rest = found.target.partition(".")
            room = rest.partition(".")[0]
            if package != PACKAGE or room in {"", "__version__"}:
                continue
            if room not in allowed:
                yield f"{module.place}:{found.line}: {module.room} imports {room}"


def doors(modules: Iterable[Module]) -> Iterator[str]:
    """Each import of a heavy library elsewhere than through its door."""
    for module in modules:
        for found in imports_of(module):
            for library, allowed in DOORS.items():
                if not _is_within(found.target, library):
                    continue
                if not any(_is_within(module.name, door) for door in allowed):
                    where = f"{module.place}:{found.line}"
                    yield f"{where}: {found.target}, door {' or '.join(allowed)}"


def _is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def quiet(modules: Iterable[Module]) -> Iterator[str]:
    """Each import of time, chance or the outside in a room that must do without."""
    for module in modules:
        if module.room not in QUIET_ROOMS or module.name == CLOCK:
            continue
        for found in imports_of(module):
            if found.target.partition(".")[0] in LOUD_LIBRARIES:
                yield f"{module.place}:{found.line}: {found.target}"


def cycles(modules: Iterable[Module]) -> Iterator[str]:
    """Each cycle of imports between modules, lazy imports included."""
    by_name = {module.name: module for module in modules}
    edges = {
        name: sorted({_module_named(found.target, by_name) for found in imports_of(m)})
        for name, m in by_name.items()
    }
    done: set[str] = set()
    for start in by_name:
        yield from _cycles_from(start, edges, [], done)


def _module_named(target: str, by_name: dict[str, Module]) -> str:
    return target if target in by_name else target.rpartition(".")[0]


def _cycles_from(
    name: str, edges: dict[str, list[str]], path: list[str], done: set[str]
) -> Iterator[str]:
    if name in path:
        yield " → ".join([*path[path.index(name) :], name])
    elif name not in done:
        for target in edges.get(name, []):
            yield from _cycles_from(target, edges, [*path, name], done)
        done.add(name)
