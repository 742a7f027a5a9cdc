"""Move the outliers of activations into the weights of matrix products.

In transformers a few channels of an activation are far wider than all others, and the
one scale that it has leaves these with few steps; weights have room. In front of a
matrix product each channel is divided by s, and its row of weights multiplied by it,
with s = max|x|^alpha ÷ max|w|^(1 - alpha) (Xiao et al., "SmoothQuant",
arXiv:2211.10438, equation 4). What divides is folded into what stands before: a
normalization's scale, a layer, or a product with constants. Where nothing does, the
product is left alone: a `Mul` of its own costs time at each inference.

`equalize` by activations searches the exponents that this fixes, for the least noise
that it expects; it knows convolutions too, and no normalization as one operator.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from skerry.compress.ptq.calibrate import Progress
from skerry.compress.ptq.equalize import measure_channels, raised
from skerry.compress.ptq.layer_weights import LayerWeights
from skerry.compress.ptq.regions import Region, find_regions
from skerry.core.seams import Runtime, Tensors
from skerry.graph import Graph

_PRODUCTS = frozenset({"Gemm", "MatMul"})


def smooth(
    graph: Graph,
    samples: Iterable[Tensors],
    *,
    alpha: float,
    runtime: Runtime,
    threads: int = 1,
    progress: Progress | None = None,
) -> Graph:
    """Return a copy that computes the same, with less outliers before its products.

    No operator is added.

    Args:
        graph: Its nodes are named, the types of its values known.
        samples: Inputs of single inferences.
        alpha: How much of the difficulty weights take over: 0.5 shares it evenly.
        runtime: What runs the samples.
        threads: CPU threads.
        progress: Told of each sample.

    Raises:
        DataError: The samples do not fit the graph, or there are none.
        RuntimeFailure: The runtime cannot run it.
    """
    changed = graph.copy()
    regions = [
        one for one in find_regions(changed, normalizations=True) if _is_product(one)
    ]
    if not regions:
        return changed
    found = measure_channels(
        changed, regions, samples, runtime=runtime, threads=threads, progress=progress
    )
    weights = LayerWeights(changed)
    for region in regions:
        read, behind = np.zeros(region.channels), np.zeros(region.channels)
        for sink in region.sinks:
            seen = found[str(sink.value.name)]
            read = np.maximum(read, np.maximum(-seen.low, seen.high))
            rows = np.abs(weights.read_by(sink, region.channels))
            behind = np.maximum(behind, rows.max(axis=(0, 1, 3)))
        weights.divide(region, raised([read, behind], (alpha, alpha - 1)))
    weights.write()
    return changed


def _is_product(region: Region) -> bool:
    return all(sink.node.op_type in _PRODUCTS for sink in region.sinks)
