"""Integers for real numbers: schemes, ranges, codes. Needs numpy alone."""
