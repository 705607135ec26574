"""Where a site lives: the contract that every host keeps."""

from typing import Protocol

from pydantic import BaseModel, ConfigDict

from tasks.domain.release import Release


class Site(BaseModel):
    """A user-visible address that serves exactly one release.

    ``dial`` is ``address:port`` where our own checks connect instead of resolving the URL's name; None: resolve it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    url: str
    release_id: str
    dial: str | None = None
    uploaded: int = 0
    kept: int = 0


class Receipt(BaseModel):
    """What a teardown removed, and what it found still there afterwards (empty when it worked)."""

    model_config = ConfigDict(frozen=True)

    removed: tuple[str, ...]
    left: tuple[str, ...] = ()


class Host(Protocol):
    """Keeps releases of one site and serves exactly one of them.

    Publishing the same release twice uploads nothing the second time. Until `publish` returns, visitors see the
    release that was live before; a publish that is killed leaves it live, and the next one goes on. The N newest
    releases and the live one are kept. ``fence`` is the number of the caller's lease: once a higher one was seen, a
    lower one changes nothing. Raises HostingError, and nothing else, when the provider refuses.
    """

    def publish(self, release: Release, fence: int = 0) -> Site: ...

    def activate(self, release_id: str, fence: int = 0) -> Site:
        """Serve a kept release: one pointer write."""

    def releases(self) -> list[str]:
        """Ids of kept releases, newest first."""

    def live(self) -> str | None:
        """Id of the release that is served."""

    def teardown(self, fence: int | None = None) -> Receipt:
        """Stop serving, then remove everything. With a ``fence``, a run that was frozen cannot bring the site back."""
