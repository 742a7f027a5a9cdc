"""The runtime alone in a plain process, to be compared with.

`python -m benchmarks._serving_raw FILE.onnx SAMPLES.npz` runs inferences on one thread
for as many seconds as each line on its input says, and answers each line with how many
they were and the CPU seconds that they took.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import onnxruntime


def main() -> None:
    """Run inferences when told."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(sys.argv[1], options)
    name = session.get_inputs()[0].name
    with np.load(sys.argv[2]) as kept:
        samples = [{name: kept[key]} for key in kept.files]
    session.run(None, samples[0])
    for line in sys.stdin:
        until_s = time.perf_counter() + float(line)
        began_s = time.process_time()
        count = 0
        while time.perf_counter() < until_s or not count:
            session.run(None, samples[count % len(samples)])
            count += 1
        used_s = time.process_time() - began_s
        sys.stdout.write(f"{count} {used_s}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
