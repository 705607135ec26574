"""Hosting on this machine."""

from prefect.blocks.core import Block
from pydantic import Field


class LocalHosting(Block):
    """Serves sites from this machine, each at an address of its own under localhost."""

    _block_type_name = "Local hosting"
    _block_type_slug = "local-hosting"
    _logo_url = None
    _description = "Keeps releases in folders on this machine and serves the live one at http://{site}.localhost."

    keep_releases: int = Field(
        5, ge=1, le=100, title="Releases to keep", description="How many releases of a site stay ready for a rollback."
    )

    app_deadline: float = Field(
        60.0,
        gt=0,
        le=600,
        title="Seconds for an app to answer",
        description="How long the program of a dynamic site may take until it answers, before the old one stays.",
    )
    python_index: str = Field(
        "",
        pattern=r"^(https://[^@\s]+)?$",
        title="Python package index",
        description="Where dynamic sites' Python packages come from, such as https://mirror.example/simple. "
        "Empty: pip's own.",
    )
    python_files: str = Field(
        "",
        pattern=r"^(https://[^@\s]+)?$",
        title="Python package files",
        description="The host of the index's files, where it is another one: https://files.example. Empty: the same.",
    )
    npm_registry: str = Field(
        "",
        pattern=r"^(https://[^@\s]+)?$",
        title="Node package registry",
        description="Where dynamic sites' node packages come from. Empty: what npm is configured for.",
    )
