"""Four versions of a release whose data changes: tests' schemas and real small nets.

1. `raw` uint8 [N, 2] in 0–255 → `percent` float32 [N, 1].
2. `x` float32 [N, 2] in 0–1 → the same.
3. `x` float32 [N, 4] and `bias` float32 [N, 1] → `y` float32 [N, 1] in 0–1.
4. `z` float32 [N, 9], with no way from the others → `y` as in 3.

Each net answers the mean of its numbers, and adds the bias.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from skerry.core.model import TensorSpec
from skerry.core.release import (
    Blob,
    Manifest,
    ReleaseModel,
    check_schemas,
    write_manifest,
)
from skerry.core.schemas import Change, SchemaAdapter, Schemas
from skerry.core.seams import Array
from skerry.tasks.golden import Golden, GoldenSample, golden_to_bytes
from tests.models import model_bytes
from tests.releases import TASK, SmallRelease

NAME = "meter"


def _spec(name: str, size: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=("N", size))


RAW, PAIR, FOUR, NINE = (
    _spec("raw", 2, "uint8"),
    _spec("x", 2),
    _spec("x", 4),
    _spec("z", 9),
)
BIAS, PERCENT, Y = _spec("bias", 1), _spec("percent", 1), _spec("y", 1)

FROM_1 = SchemaAdapter(
    version="1",
    to="2",
    tensors=(RAW,),
    changes=(Change(tensor="x", source="raw", factor=1 / 255),),
)
FROM_2 = SchemaAdapter(
    version="2",
    to="3",
    tensors=(PAIR,),
    changes=(Change(tensor="x", resize=True), Change(tensor="bias", default=0.0)),
)
TO_1 = SchemaAdapter(
    version="1",
    to="2",
    tensors=(PERCENT,),
    changes=(Change(tensor="percent", source="y", factor=100.0),),
)

SPOKEN = {
    1: Schemas(input="1", output="1"),
    2: Schemas(input="2", output="1"),
    3: Schemas(input="3", output="2"),
    4: Schemas(input="4", output="2"),
}
"""What producers and consumers of the time of each version speak."""

_NETS = {
    1: "net (uint8[N, 2] raw) => (float[N, 1] percent) { "
    "c = Cast<to = 1>(raw) s = Constant<value = float {0.39215687}>() "
    "m = Mul(c, s) percent = ReduceMean<axes = [1]>(m) }",
    2: "net (float[N, 2] x) => (float[N, 1] percent) { "
    "s = Constant<value = float {100.0}>() m = Mul(x, s) "
    "percent = ReduceMean<axes = [1]>(m) }",
    3: "net (float[N, 4] x, float[N, 1] bias) => (float[N, 1] y) { "
    "m = ReduceMean<axes = [1]>(x) y = Add(m, bias) }",
    4: "net (float[N, 9] z) => (float[N, 1] y) { y = ReduceMean<axes = [1]>(z) }",
}
_INPUTS = {1: (RAW,), 2: (PAIR,), 3: (FOUR, BIAS), 4: (NINE,)}
_OUTPUTS = {1: (PERCENT,), 2: (PERCENT,), 3: (Y,), 4: (Y,)}
_TAKEN = {1: (), 2: (FROM_1,), 3: (FROM_1, FROM_2), 4: ()}
_GIVEN = {1: (), 2: (), 3: (TO_1,), 4: (TO_1,)}


def sent(version: int) -> dict[str, Array]:
    """What a producer of the time of a version sends: a fifth and three fifths."""
    values = {
        1: {"raw": np.array([[51, 153]], np.uint8)},
        2: {"x": np.array([[0.2, 0.6]], np.float32)},
        3: {
            "x": np.array([[0.2, 0.3, 0.5, 0.6]], np.float32),
            "bias": np.zeros((1, 1), np.float32),
        },
        4: {"z": np.full((1, 9), 0.4, np.float32)},
    }
    return dict(values[version])


def read(version: int) -> dict[str, float]:
    """What a consumer of that time reads then."""
    return {"percent": 40.0} if version < 3 else {"y": 0.4}


def changing_release(version: int) -> SmallRelease:
    """The release of a version, with its real net."""
    inputs = sent(version)
    outputs = {
        name: np.full((1, 1), value, np.float32)
        for name, value in read(version).items()
    }
    sample = GoldenSample(name="s0", inputs=inputs, outputs=outputs)
    contents = {
        "model": model_bytes(_NETS[version]),
        "golden": golden_to_bytes(Golden(samples=(sample,), tolerance=0.01)),
        "task": TASK,
    }
    blobs = {role: Blob.of(content) for role, content in contents.items()}
    manifest = Manifest(
        name=NAME,
        version=version,
        created_at_ms=0,
        models=(
            ReleaseModel(
                target="any",
                runtime="onnxruntime",
                blob=blobs["model"],
                inputs=_INPUTS[version],
                outputs=_OUTPUTS[version],
            ),
        ),
        golden=blobs["golden"],
        task=blobs["task"],
        input_schema=SPOKEN[version].input,
        output_schema=SPOKEN[version].output,
        input_adapters=_TAKEN[version],
        output_adapters=_GIVEN[version],
    )
    check_schemas(manifest, name="the release")
    manifest = replace(manifest, requires=manifest.needs_level)
    return SmallRelease(
        manifest=manifest, signed=write_manifest(manifest), contents=contents
    )


def as_request(inputs: dict[str, Array]) -> bytes:
    """The body of an inference request."""
    kinds = {"uint8": "UINT8", "float32": "FP32"}
    return json.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "datatype": kinds[array.dtype.name],
                    "shape": list(array.shape),
                    "data": array.ravel().tolist(),
                }
                for name, array in inputs.items()
            ]
        }
    ).encode()
