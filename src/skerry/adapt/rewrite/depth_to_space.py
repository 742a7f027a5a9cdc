"""DepthToSpace and SpaceToDepth as Reshape and Transpose, as the ONNX standard defines.

W. Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient
Sub-Pixel Convolutional Neural Network", CVPR 2016. Elements only move: each bit stays.
"""

from __future__ import annotations

from collections.abc import Iterator

from skerry.adapt.rewrite.bounds import EXACT
from skerry.adapt.rewrite.rule import Replacement, Rule, Site


def _to_space(site: Site) -> Iterator[Replacement]:
    shape, block = site.shape(), site.attribute("blocksize", 1)
    if shape is None or len(shape) != 4:
        return
    batch, channels, height, width = shape
    depth = channels // block**2
    if site.attribute("mode", "DCR") == "DCR":
        split, order = (block, block, depth), [0, 3, 4, 1, 5, 2]
    else:
        split, order = (depth, block, block), [0, 1, 4, 2, 5, 3]
    draft = site.draft()
    x = draft.reshape(site.read(draft, 0), (batch, *split, height, width))
    made = draft.op("Transpose", x, perm=order)
    result = (batch, depth, height * block, width * block)
    yield site.to(draft, draft.reshape(made, result), bound=EXACT)


def _to_depth(site: Site) -> Iterator[Replacement]:
    shape, block = site.shape(), site.attribute("blocksize", 1)
    if shape is None or len(shape) != 4:
        return
    batch, channels, height, width = shape
    rows, columns = height // block, width // block
    draft = site.draft()
    x = draft.reshape(
        site.read(draft, 0), (batch, channels, rows, block, columns, block)
    )
    made = draft.op("Transpose", x, perm=[0, 3, 5, 1, 2, 4])
    result = (batch, channels * block**2, rows, columns)
    yield site.to(draft, draft.reshape(made, result), bound=EXACT)


DEPTH_TO_SPACE = Rule(
    name="DepthToSpace as a transpose",
    replaces=frozenset({"DepthToSpace"}),
    advice="Write DepthToSpace out as Reshape and Transpose",
    source="ONNX standard, DepthToSpace; arXiv:1609.05158",
    draw=_to_space,
)
SPACE_TO_DEPTH = Rule(
    name="SpaceToDepth as a transpose",
    replaces=frozenset({"SpaceToDepth"}),
    advice="Write SpaceToDepth out as Reshape and Transpose",
    source="ONNX standard, SpaceToDepth",
    draw=_to_depth,
)
