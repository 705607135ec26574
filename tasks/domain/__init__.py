"""Nouns, rules, Protocols and errors. Standard library and pydantic only; no I/O."""
