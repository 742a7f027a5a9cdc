"""Give a graph another input resolution, and all in it that depends on that."""

from skerry.graph.resolution.change import change_resolution, find_picture

__all__ = ["change_resolution", "find_picture"]
