"""A model behind mosec: raw bytes in, raw bytes out.

`python mosec_serving.py SETTINGS.json` where the settings are `onnx` (a file, or empty
for a model that answers zeros), `name`, `dtype` and `shape` of the input, and `port`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mosec import Server, Worker

SETTINGS = json.loads(Path(os.environ["SERVING_SETTINGS"]).read_text())


class Detector(Worker):
    """One session of onnxruntime on one thread."""

    def __init__(self) -> None:
        self._session: Any = None
        if SETTINGS["onnx"]:
            import onnxruntime

            onnxruntime.disable_telemetry_events()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.inter_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(SETTINGS["onnx"], options)

    def deserialize(self, data: bytes) -> Any:
        """Take the bytes as they are."""
        return np.frombuffer(data, SETTINGS["dtype"]).reshape(SETTINGS["shape"])

    def serialize(self, data: bytes) -> bytes:
        """Send the bytes as they are."""
        return data

    def forward(self, data: Any) -> bytes:
        """Run one inference."""
        if self._session is None:
            return bytes(4000)
        return b"".join(
            output.tobytes()
            for output in self._session.run(None, {SETTINGS["name"]: data})
        )


if __name__ == "__main__":
    sys.argv[1:] = [
        *("--port", str(SETTINGS["port"]), "--address", "127.0.0.1"),
        *("--timeout", "20000", "--log-level", "error"),
    ]
    server = Server()
    server.append_worker(Detector, num=1)
    server.run()
