"""Typed configuration. Imports nothing of the other rooms."""
