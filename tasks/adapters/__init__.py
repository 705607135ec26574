"""The only code that touches tmux, disks, browsers, networks and databases. Knows nothing of Prefect."""
