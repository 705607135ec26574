"""The offline agent: a template generator that sits in a tmux pane and obeys the prompts that Claude Code obeys.

It has no language model. It runs inside the sandbox with nothing but the standard library, so its modules import
each other relatively and nothing else of the project. The same requirement text gives the same bytes: no clock, no
randomness, variety comes from a digest of the text.
"""
