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
