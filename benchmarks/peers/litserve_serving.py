"""A model behind LitServe: a file in a form in, raw bytes out.

The environment variable SERVING_SETTINGS names a file of settings: `onnx` (a file, or
empty for a model that answers zeros), `name`, `dtype` and `shape` of the input, `port`.
LitServe parses a body as JSON or as a form; a form is its cheapest way for bytes.
"""

import json
import os
from pathlib import Path
from typing import Any

import litserve
import numpy as np
from fastapi import Request, Response

SETTINGS = json.loads(Path(os.environ["SERVING_SETTINGS"]).read_text())


class Detector(litserve.LitAPI):  # type: ignore[misc]
    """One session of onnxruntime on one thread."""

    def setup(self, device: str) -> None:
        """Load the model, in LitServe's worker."""
        del device
        self._session: Any = None
        if SETTINGS["onnx"]:
            import onnxruntime

            onnxruntime.disable_telemetry_events()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.inter_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(SETTINGS["onnx"], options)

    def decode_request(self, request: Request) -> Any:
        """Take the file's bytes."""
        data = request["x"].file.read()
        return np.frombuffer(data, SETTINGS["dtype"]).reshape(SETTINGS["shape"])

    def predict(self, x: Any) -> bytes:
        """Run one inference."""
        if self._session is None:
            return bytes(4000)
        outputs = self._session.run(None, {SETTINGS["name"]: x})
        return b"".join(output.tobytes() for output in outputs)

    def encode_response(self, output: bytes) -> Any:
        """Send the bytes as they are."""
        return Response(content=output, media_type="application/octet-stream")


if __name__ == "__main__":
    server = litserve.LitServer(
        Detector(),
        accelerator="cpu",
        workers_per_device=1,
        timeout=20,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=SETTINGS["port"],
        num_api_servers=1,
        generate_client_file=False,
        log_level="error",
    )
