"""Ordered state over small per-frame records; no pixels."""
