"""Runtimes that load on execution providers which nobody had to ask for each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from skerry.core.model import Model
from skerry.core.profile import Profile
from skerry.core.seams import LoadOptions, Runtime, Session, Tensors

GetRuntime = Callable[[str], Runtime]

WITH_PROVIDERS = frozenset({"onnxruntime"})
"""The runtimes that have execution providers to choose from."""


def preferring(providers: tuple[str, ...], get_runtime: GetRuntime) -> GetRuntime:
    """Find runtimes as before, but have them load on these execution providers.

    It is for who loads releases: what they run on is the machine's affair, and not
    the release's. Runtimes without execution providers are left as they are, and so is
    a load that asks for others.

    Args:
        providers: In order of wish, as `LoadOptions.providers`.
        get_runtime: Finds a runtime by name.
    """

    def find(name: str) -> Runtime:
        found = get_runtime(name)
        if not providers or name not in WITH_PROVIDERS:
            return found
        return _Preferring(found, providers)

    return find


class _Preferring:
    """A runtime that loads on other execution providers unless told otherwise."""

    def __init__(self, runtime: Runtime, providers: tuple[str, ...]) -> None:
        self.name = runtime.name
        self.version = runtime.version
        self._runtime = runtime
        self._providers = providers

    def load(self, model: Model, options: LoadOptions) -> Session:
        return self._runtime.load(model, self._completed(options))

    def profile(
        self, model: Model, inputs: Tensors, options: LoadOptions, *, repeats: int
    ) -> Profile:
        completed = self._completed(options)
        return self._runtime.profile(model, inputs, completed, repeats=repeats)

    def _completed(self, options: LoadOptions) -> LoadOptions:
        return replace(options, providers=options.providers or self._providers)
