"""Profiles as people see them, and the way to devices on which they are measured."""
