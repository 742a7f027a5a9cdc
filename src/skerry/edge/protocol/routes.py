"""Which path of the HTTP service asks for what."""

from __future__ import annotations

from dataclasses import dataclass

from skerry.edge.protocol.service import read_version

_READ = ("GET", "HEAD")
_WRITE = ("POST",)
_PLAIN = {
    ("v2",): "server",
    ("v2", "health", "live"): "live",
    ("v2", "health", "ready"): "ready",
    ("metrics",): "metrics",
}
_OF_MODELS = {
    "ready": ("model_ready", _READ),
    "config": ("model_config", _READ),
    "stats": ("statistics", _READ),
    "infer": ("infer", _WRITE),
    "predict": ("predict", _WRITE),
}
_OF_REGIONS = {
    "status": ("region_status", _READ),
    "register": ("region_register", _WRITE),
    "unregister": ("region_unregister", _WRITE),
}
_MEMORY = {"systemsharedmemory": "", "cudasharedmemory": "cuda_"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a path asks for.

    Attributes:
        kind: What, in one word.
        name: The model, or the region; empty for all of them.
        version: The model's version, or None.
        methods: Those that are allowed.
    """

    kind: str
    name: str = ""
    version: int | None = None
    methods: tuple[str, ...] = _READ


def find_route(path: str) -> Route | None:
    """Read a path; None where it leads nowhere."""
    words = path.strip("/").split("/")
    match words:
        case ["v2", "models", name, *rest] if name:
            return _model(name, rest)
        case ["v2", "repository", *rest]:
            return _repository(rest)
        case ["v2", ("systemsharedmemory" | "cudasharedmemory") as memory, *rest]:
            return _region(_MEMORY[memory], rest)
    kind = _PLAIN.get(tuple(words))
    return Route(kind=kind) if kind else None


def _repository(rest: list[str]) -> Route | None:
    match rest:
        case ["index"]:
            return Route(kind="index", methods=_WRITE)
        case ["models", name, ("load" | "unload") as kind] if name:
            return Route(kind=kind, name=name, methods=_WRITE)
    return None


def _model(name: str, rest: list[str]) -> Route | None:
    version = None
    match rest:
        case ["versions", text, *after] if text:
            version, rest = read_version(text), after
    match rest:
        case []:
            if (name, version) == ("stats", None):
                return Route(kind="statistics")
            return Route(kind="model", name=name, version=version)
        case [word] if word in _OF_MODELS:
            kind, methods = _OF_MODELS[word]
            return Route(kind=kind, name=name, version=version, methods=methods)
    return None


def _region(prefix: str, rest: list[str]) -> Route | None:
    match rest:
        case [word] if word in _OF_REGIONS and word != "register":
            name = ""
        case ["region", name, word] if name and word in _OF_REGIONS:
            pass
        case _:
            return None
    kind, methods = _OF_REGIONS[word]
    return Route(kind=prefix + kind, name=name, methods=methods)
