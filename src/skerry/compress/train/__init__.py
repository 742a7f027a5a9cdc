"""Compress by training a torch module that stands for the model: extra `train`."""
