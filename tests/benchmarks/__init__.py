"""Measurements: ratios and medians, side by side in one run. Nothing here asserts a time."""
