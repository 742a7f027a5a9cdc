"""thin"""
from __future__ import annotations
import onnx, numpy as np
from onnx import version_converter
import onnx_ir as ir
from skerry.graph.model_graph import Graph
from skerry.graph.files import parse_graph
def upgrade_opset(g, n):
    if g.opset>=n: return g.copy()
    m=version_converter.convert_version(onnx.load_from_string(g.to_bytes()), n)
    return parse_graph(m.SerializeToString(), name=g.name)
def constants_to_initializers(g):
    from onnx_ir.passes.common import LiftConstantsToInitializersPass
    g=g.copy(); LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(g.ir); return g
def fold_constants(g): return g.copy()
def fold_batch_norm(g): return g.copy()
def name_all_nodes(g):
    g=g.copy()
    used=set()
    for n in g.nodes:
        if not n.name: n.name=n.outputs[0].name+'.'+n.op_type
    return g
def remove_dead(g):
    from onnx_ir.passes.common import RemoveUnusedNodesPass
    RemoveUnusedNodesPass()(g.ir)
def insert_after(g, value, nodes):
    p=value.producer()
    gg=g.ir.graph
    if p is None: insert_first(g,nodes)
    else: gg.insert_after(p, nodes)
def insert_first(g, nodes):
    f=next(iter(g.ir.graph)); g.ir.graph.insert_before(f, nodes)
