"""Ways in: the service, its registration with Prefect, the dispatcher, the demo."""
