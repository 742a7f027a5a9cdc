"""Make a model smaller and faster: quantize numbers, tensors, layers.

A whole model, its samples beside it (docs/compress.md has more):

```python
from skerry.compress import quantize_model

samples = [{"x": picture} for picture in pictures]
model = quantize_model("net.onnx", samples, out="small.onnx")
print(model.size_bytes)
```

That reads onnx and a runtime when it is called; the functions below need numpy alone:

>>> import numpy as np
>>> from skerry.compress import INT8_WEIGHTS, quantization_error, quantize_tensor
>>> weights = np.array([[0.5, -1.0], [0.02, 0.015]], np.float32)
>>> quantized = quantize_tensor(weights, INT8_WEIGHTS)
>>> quantized.values
array([[  64, -127],
       [ 127,   95]], dtype=int8)
>>> round(quantization_error(weights, quantized).sqnr_db)
49
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skerry.compress.model import quantize_model
    from skerry.compress.numbers.error import QuantizationError, quantization_error
    from skerry.compress.numbers.layers import QuantizedLayer, quantize_layer
    from skerry.compress.numbers.ranges import (
        Range,
        RangeObserver,
        choose_range,
        scale_and_zero_point,
    )
    from skerry.compress.numbers.schemes import (
        INT8_ACTIVATIONS,
        INT8_WEIGHTS,
        UINT8_ACTIVATIONS,
        Method,
        Scheme,
    )
    from skerry.compress.numbers.tensors import QuantizedTensor, quantize_tensor
    from skerry.compress.ptq.quantize import ACCURATE, Quantize
    from skerry.compress.search.evidence import compress
    from skerry.compress.train.qat.loop import quantization_aware

_LAZY = {
    "ACCURATE": "skerry.compress.ptq.quantize",
    "INT8_ACTIVATIONS": "skerry.compress.numbers.schemes",
    "INT8_WEIGHTS": "skerry.compress.numbers.schemes",
    "Method": "skerry.compress.numbers.schemes",
    "QuantizationError": "skerry.compress.numbers.error",
    "Quantize": "skerry.compress.ptq.quantize",
    "QuantizedLayer": "skerry.compress.numbers.layers",
    "QuantizedTensor": "skerry.compress.numbers.tensors",
    "Range": "skerry.compress.numbers.ranges",
    "RangeObserver": "skerry.compress.numbers.ranges",
    "Scheme": "skerry.compress.numbers.schemes",
    "UINT8_ACTIVATIONS": "skerry.compress.numbers.schemes",
    "choose_range": "skerry.compress.numbers.ranges",
    "compress": "skerry.compress.search.evidence",
    "quantization_aware": "skerry.compress.train.qat.loop",
    "quantization_error": "skerry.compress.numbers.error",
    "quantize_layer": "skerry.compress.numbers.layers",
    "quantize_model": "skerry.compress.model",
    "quantize_tensor": "skerry.compress.numbers.tensors",
    "scale_and_zero_point": "skerry.compress.numbers.ranges",
}
"""Where each name is: what asks for one need not wait for the others."""

__all__ = [
    "ACCURATE",
    "INT8_ACTIVATIONS",
    "INT8_WEIGHTS",
    "UINT8_ACTIVATIONS",
    "Method",
    "QuantizationError",
    "Quantize",
    "QuantizedLayer",
    "QuantizedTensor",
    "Range",
    "RangeObserver",
    "Scheme",
    "choose_range",
    "compress",
    "quantization_aware",
    "quantization_error",
    "quantize_layer",
    "quantize_model",
    "quantize_tensor",
    "scale_and_zero_point",
]


def __getattr__(name: str) -> object:
    """Import a name when it is first asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
