"""Post-training quantization of a whole graph: decide, calibrate, write."""
