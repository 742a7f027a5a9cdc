"""Serving without a fleet, and load for servers of any kind."""
