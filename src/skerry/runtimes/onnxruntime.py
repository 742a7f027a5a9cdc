"""thin"""
from __future__ import annotations
import json, os, tempfile, statistics
from pathlib import Path
import onnxruntime as ort
from skerry.core.model import Model, TensorSpec
from skerry.core.profile import OperatorTime, Profile
class _S:
    def __init__(self, s, inputs, outputs): self._s=s; self.inputs=inputs; self.outputs=outputs; self._n=[o.name for o in s.get_outputs()]
    def run(self, inputs): return dict(zip(self._n, self._s.run(self._n, dict(inputs))))
    def close(self): self._s=None
class OnnxRuntime:
    name='onnxruntime'; version=ort.__version__
    def _o(self, options):
        so=ort.SessionOptions(); so.intra_op_num_threads=options.threads; so.log_severity_level=3; return so
    def load(self, model, options):
        return _S(ort.InferenceSession(str(model.path), self._o(options), providers=['CPUExecutionProvider']), model.inputs, model.outputs)
    def profile(self, model, inputs, options, *, repeats):
        so=self._o(options); so.enable_profiling=True
        with tempfile.TemporaryDirectory() as d:
            so.profile_file_prefix=d+'/p'
            s=ort.InferenceSession(str(model.path), so, providers=['CPUExecutionProvider'])
            for _ in range(repeats+1): s.run(None, dict(inputs))
            ev=json.load(open(s.end_profiling()))
        t={}
        for e in ev:
            if e.get('cat')=='Node' and e['name'].endswith('_kernel_time'): t.setdefault((e['name'][:-12], e['args']['op_name']),[]).append(e['dur']/1000)
        return Profile(runtime=self.name, threads=options.threads, repeats=repeats, operators=tuple(OperatorTime(name=n,op_type=o,latency_ms=statistics.median(v)) for (n,o),v in t.items()))
