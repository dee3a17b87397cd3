"""Stands for a requirement that was vendored."""

TWIGS = 12
