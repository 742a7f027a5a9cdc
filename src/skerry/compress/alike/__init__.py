"""Make a quantized model like the version before it, so that its delta is small."""
