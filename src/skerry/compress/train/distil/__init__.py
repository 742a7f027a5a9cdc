"""Distillation: a small module learns from what larger models answer."""
