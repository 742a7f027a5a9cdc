"""Quantization-aware training: fine-tune a network while its numbers are rounded."""
