"""Cameras on one machine: what `skerry stream` runs."""
