"""The front door: what people and programs reach over HTTP. It opens the registry, and nothing else.

`app.create_app` makes it; ``python -m deployments.front`` runs it. Routes call the functions of `service.py`, which
are the one place where a right or a limit is looked at.
"""
