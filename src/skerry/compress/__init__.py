"""Make a model smaller and faster: quantize numbers, tensors, layers.

The functions here need numpy alone:

>>> import numpy as np
>>> weights = np.array([[0.5, -1.0], [0.02, 0.015]], np.float32)
>>> quantized = quantize_tensor(weights, INT8_WEIGHTS)
>>> quantized.values
array([[  64, -127],
       [ 127,   95]], dtype=int8)
>>> round(quantization_error(weights, quantized).sqnr_db)
49
"""

from __future__ import annotations

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

__all__ = [
    "INT8_ACTIVATIONS",
    "INT8_WEIGHTS",
    "UINT8_ACTIVATIONS",
    "Method",
    "QuantizationError",
    "QuantizedLayer",
    "QuantizedTensor",
    "Range",
    "RangeObserver",
    "Scheme",
    "choose_range",
    "quantization_error",
    "quantize_layer",
    "quantize_tensor",
    "scale_and_zero_point",
]
