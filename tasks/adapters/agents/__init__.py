"""Coding programs that live in a tmux pane."""
