"""Pipelines: where the verbs are joined."""
