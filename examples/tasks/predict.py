"""Ask a model one thing: a picture, a recording or a window, and print the answer.

    python examples/tasks/predict.py MODEL TASK FILE [GALLERY]

What `POST /v2/models/NAME/predict` answers of a release, for a model and a task that
lie here. MODEL is an ONNX file, TASK one of the `.toml` files beside this one or your
own, GALLERY an `.npz` with `names` and `vectors`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from skerry.core.seams import LoadOptions
from skerry.graph import open_model
from skerry.runtimes import get_runtime
from skerry.tasks.matching import read_gallery
from skerry.tasks.pipeline import Answer, Pipeline
from skerry.tasks.task import load_task

MEDIA_TYPES = {".csv": "text/csv", ".json": "application/json"}
"""What a file does not say itself, by the end of its name."""


def predict(model: Path, task: Path, file: Path, gallery: Path | None = None) -> Answer:
    """Answer one file.

    Raises:
        SkerryError: One of the files is not what it should be.
    """
    session = get_runtime("onnxruntime").load(open_model(model), LoadOptions())
    try:
        pipeline = Pipeline(
            task=load_task(task),
            inputs=session.inputs,
            gallery=read_gallery(gallery.read_bytes(), name=str(gallery))
            if gallery
            else None,
        )
        media_type = MEDIA_TYPES.get(file.suffix, "")
        reading = pipeline.read(file.read_bytes(), media_type)
        return pipeline.tell(session.run(reading.inputs), reading)
    finally:
        session.close()


if __name__ == "__main__":
    print(json.dumps(predict(*map(Path, sys.argv[1:]))))
