"""Hosting on this machine."""

from prefect.blocks.core import Block
from pydantic import Field

# A house, drawn here so that the Prefect UI needs no outside request and shows no broken image.
_LOGO = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'%3E"
    "%3Cpath fill='%231860F2' d='M12 3 2 11.5h3V21h5v-6h4v6h5v-9.5h3z'/%3E%3C/svg%3E"
)


class LocalHosting(Block):
    """Serves sites from this machine, each at an address of its own under localhost."""

    _block_type_name = "Local hosting"
    _block_type_slug = "local-hosting"
    _logo_url = _LOGO  # type: ignore[assignment]  # pydantic's HttpUrl in the annotation; Prefect stores any URL
    _description = "Keeps releases in folders on this machine and serves the live one at http://{site}.localhost."

    keep_releases: int = Field(
        5, ge=1, le=100, title="Releases to keep", description="How many releases of a site stay ready for a rollback."
    )
