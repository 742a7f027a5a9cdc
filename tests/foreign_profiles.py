"""Profiles as other tools write them, small: made by hand in their forms."""

from __future__ import annotations

CHROME = b"""{"traceEvents": [
 {"ph": "M", "name": "process_name", "pid": 7, "args": {"name": "detector"}},
 {"ph": "M", "name": "thread_name", "pid": 7, "tid": 1, "args": {"name": "main"}},
 {"ph": "X", "name": "run", "pid": 7, "tid": 1, "ts": 0, "dur": 100},
 {"ph": "X", "name": "conv_kernel_time", "cat": "Node", "pid": 7, "tid": 1,
  "ts": 10, "dur": 50, "args": {"op_name": "Conv"}},
 {"ph": "B", "name": "relu", "cat": "Relu", "pid": 7, "tid": 1, "ts": 60},
 {"ph": "E", "pid": 7, "tid": 1, "ts": 90},
 {"ph": "X", "name": "run", "pid": 7, "tid": 1, "ts": 200, "dur": 90},
 {"ph": "X", "name": "conv_kernel_time", "cat": "Node", "pid": 7, "tid": 1,
  "ts": 210, "dur": 40, "args": {"op_name": "Conv"}},
 {"ph": "C", "name": "memory", "pid": 7, "ts": 5, "args": {"bytes": 1}}]}"""

FTRACE = b"""# tracer: nop
#           TASK-PID    TGID   CPU#  ||||    TIMESTAMP  FUNCTION
  camera-app-42    (   40) [001] ...1  12.000100: tracing_mark_write: B|40|Invoke
  camera-app-42    (   40) [001] ...1  12.000200: tracing_mark_write: B|40|CONV_2D
  camera-app-42    (   40) [001] ...1  12.002200: tracing_mark_write: E|40
  camera-app-42    (   40) [001] ...1  12.002300: tracing_mark_write: B|40|SOFTMAX
  camera-app-42    (   40) [001] ...1  12.002400: tracing_mark_write: E
  camera-app-42    (   40) [001] ...1  12.002500: tracing_mark_write: E
       swapper-0     (-----) [000] d..2  12.002600: sched_switch: prev_comm=swapper
"""

TRTEXEC = b"""[
  { "count" : 200 }
, { "name" : "conv1 + relu1", "timeMs" : 40.0, "averageMs" : 0.2,
    "medianMs" : 0.19, "percentage" : 80 }
, { "name" : "fc", "timeMs" : 10.0, "averageMs" : 0.05, "percentage" : 20 }
]"""

BENCHMARK_TEXT = b"""STARTING!
Num threads: [4]
Graph: [/data/local/tmp/net.tflite]
Peak memory footprint (MB): init=0 overall=12.5
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t         AllocateTensors\t  158.000\t  158.000\t100.000%\t100.000%\t     0.000\t        1\tAllocateTensors/0

Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t  [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\tConvolution (NHWC, F32) GEMM\t    0.000\t    4.269\t    4.100\t 80.000%\t 80.000%\t     0.000\t        1\tDelegate/Convolution (NHWC, F32) GEMM:0
\t                 SOFTMAX\t    4.270\t    1.150\t    1.025\t 20.000%\t100.000%\t     0.000\t        1\t[probs]:1

============================== Top by Computation Time ==============================
\t             [node type]\t  [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 SOFTMAX\t    4.270\t    1.150\t    1.025\t 20.000%\t100.000%\t     0.000\t        1\t[probs]:1
Number of nodes executed: 2
Timings (microseconds): count=50 first=5419 curr=5120 min=5100 max=5419 avg=5125 std=9
"""  # noqa: E501 - the tool's own lines

BENCHMARK_CSV = b"""Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
node type, start, first, avg_ms, %, cdf%, mem KB, times called, name
CONV_2D, 0, 0.11, 0.0930388, 44.8994%, 44.8994%, 0, 1, [net/conv2d/Conv2D, net/a]:0
ELU, 0.0931277, 0.034, 3.00884e-02, 14.5203%, 59.4197%, 0, 1, [net/conv2d/Elu]:1

============================== Summary by node type ==============================
node type, count, avg_ms, avg %, cdf %, mem KB, times called
"""

COUNTERS = b"""layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms);
input;NOT_RUN;Parameter;unknown_f32;0.000;0.000;
conv1;EXECUTED;Convolution;brgconv_avx2_f32;0.420;0.400;
relu1;NOT_RUN;Relu;undef;0.000;0.000;
prob;Status.EXECUTED;Softmax;jit_avx2_f32;0.020;0.020;
Total;;;;0.440;0.420;
"""

ALL = {
    "chrome": CHROME,
    "ftrace": FTRACE,
    "trtexec": TRTEXEC,
    "benchmark_model text": BENCHMARK_TEXT,
    "benchmark_model CSV": BENCHMARK_CSV,
    "counters": COUNTERS,
}
