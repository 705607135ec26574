"""Programs of ours that run inside the sandbox, bound there read-only. None is imported outside."""
