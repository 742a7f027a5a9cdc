"""What a retraining made becomes the next version of its release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.app.publish.adopt import adopt
from skerry.app.publish.build import make_release
from skerry.core.errors import ModelError
from skerry.core.release import Blob
from skerry.graph import open_model
from skerry.tasks.golden import parse_golden
from skerry.tasks.samples import MemorySource, Sample
from skerry.tasks.steps import TopK
from skerry.tasks.task import Task, TaskKind
from tests.operators import operator_library, operator_net

TASK = Task(
    kind=TaskKind.CLASSIFICATION,
    metric="top1",
    labels=("a", "b"),
    post=(TopK(k=1),),
)
X = np.array([[2, 0], [0, 4]], np.float32)


def test_a_candidate_runs_with_the_operators_of_its_release(tmp_path: Path) -> None:
    """Its golden outputs are made with the libraries for this machine."""
    path = tmp_path / "inverse.onnx"
    path.write_bytes(operator_net())
    model = open_model(path)
    samples = MemorySource(samples=(Sample(inputs={"x": X}, label=0, name="x"),))
    library = operator_library()
    manifest, blobs = make_release(
        "inverse", 1, model, TASK, samples, golden_from=model, libraries=(library,)
    )
    assert manifest.golden is not None
    golden = blobs[manifest.golden.sha256]
    adopted, made = adopt(
        manifest,
        version=2,
        model=operator_net(),
        golden=golden,
        libraries=(library.read_bytes(),),
    )
    assert str(adopted.id) == "inverse/2"
    assert adopted.models[0].libraries == manifest.models[0].libraries
    assert adopted.models[0].blob == Blob.of(operator_net())
    assert adopted.golden is not None
    (sample,) = parse_golden(made[adopted.golden.sha256], name="golden").samples
    np.testing.assert_allclose(sample.outputs["y"], np.linalg.inv(X))
    with pytest.raises(ModelError, match="Inverse"):
        adopt(manifest, version=2, model=operator_net(), golden=golden)
