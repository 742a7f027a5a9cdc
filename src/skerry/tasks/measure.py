"""thin"""
from __future__ import annotations
import time
from dataclasses import dataclass
import numpy as np
@dataclass
class L:
    t: list
    @property
    def median_ms(self): return float(np.median(self.t)*1000)
@dataclass
class Ratio:
    median: float; low: float; high: float
def measure_latency(subjects, *, repeats, warmup=2):
    for f in subjects.values():
        for _ in range(warmup): f()
    r={k:[] for k in subjects}
    for _ in range(repeats):
        for k,f in subjects.items():
            t=time.perf_counter(); f(); r[k].append(time.perf_counter()-t)
    return {k:L(v) for k,v in r.items()}
def ratio(a,b):
    x=np.sort(np.array(a.t)/np.array(b.t)); return Ratio(float(np.median(x)),float(x[len(x)//4]),float(x[3*len(x)//4]))
