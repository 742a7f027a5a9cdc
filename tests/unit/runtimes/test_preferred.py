from pathlib import Path

import pytest

from skerry.core.model import Model, ModelFormat
from skerry.core.seams import LoadOptions, Runtime
from skerry.runtimes.null import NullRuntime, NullSession
from skerry.runtimes.preferred import preferring
from tests.twins import inputs_for, twin


class Noting(NullRuntime):
    """Notes the providers that it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, ...]] = []

    def load(self, model: Model, options: LoadOptions) -> NullSession:
        self.asked.append(options.providers)
        return super().load(model, options)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A small net."""
    return twin(ModelFormat.ONNX, tmp_path)


def test_a_load_that_asks_for_none_has_the_preferred(model: Model) -> None:
    """One that asks for others has those; profiles are measured alike."""
    runtime = Noting()
    found = preferring(("cuda", "cpu"), lambda _: runtime)("onnxruntime")
    assert (found.name, found.version) == (runtime.name, runtime.version)
    found.load(model, LoadOptions())
    found.load(model, LoadOptions(providers=("coreml",)))
    found.profile(model, inputs_for(model), LoadOptions(), repeats=1)
    assert runtime.asked == [("cuda", "cpu"), ("coreml",), ("cuda", "cpu")]


@pytest.mark.parametrize(
    ("providers", "name"), [((), "onnxruntime"), (("cuda",), "openvino")]
)
def test_other_runtimes_are_left_as_they_are(
    providers: tuple[str, ...], name: str
) -> None:
    """Those without execution providers, and all where none is preferred."""
    runtime: Runtime = Noting()
    assert preferring(providers, lambda _: runtime)(name) is runtime
