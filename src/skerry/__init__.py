"""Skerry: take a trained model and keep it running, well, on a whole fleet."""

__version__ = "0.1.0"
