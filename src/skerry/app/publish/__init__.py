"""Publish: make a release, sign it, pack its deltas."""
