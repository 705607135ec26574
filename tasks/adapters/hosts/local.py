"""Sites on this machine: releases in folders, one pointer, served by the site server (`caddy`).

``{home}/sites/{site}/releases/{release_id}/`` holds what visitors get, ``manifests/{release_id}.json`` says what that
is, and ``live`` is a link to one of the releases, replaced by one rename. Who may write is `fencing`'s matter.
"""

import hashlib
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from tasks.adapters.disk import disk_trouble, make_durable, sync
from tasks.adapters.hosts.fencing import LOCK_S, Fence
from tasks.adapters.packaging import encoded, files_below, marker
from tasks.adapters.workspace import read_bounded, write_atomic
from tasks.domain.errors import HostingError
from tasks.domain.hosting import Receipt, Site
from tasks.domain.ids import SITE_NAME
from tasks.domain.release import MARKER_PATH, Release

BLOCK = "local-hosting"
"""How errors name this host: the type of its block."""

_RELEASE_ID = re.compile(r"r(?P<number>[1-9][0-9]{0,8})-[0-9a-f]{12}")
TEMPORARY = ".incoming-"
_MANIFEST_LIMIT_BYTES = 8 * 2**20
_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


def sites_folder(home: Path) -> Path:
    return home / "sites"


def content_mtime_ns(sha256: str) -> int:
    """The modification time that a published file gets: a function of its content, between 2001 and 2019.

    Caddy's ETag is modification time and size. With this one, equal content keeps its ETag over releases, so that
    returning visitors download only what changed, and other content never has it, whatever its size.

    >>> content_mtime_ns("0" * 64) == 10**18, content_mtime_ns("f" * 64) < 1_600_000_000 * 10**9
    (True, True)
    """
    return 10**18 + (int(sha256[:15], 16) >> 1)


class LocalHost:
    """A Host on this machine. ``keep`` releases stay ready for a rollback, besides the live one and its predecessor.

    ``fence`` is the number of the lease under which a run writes: a number lower than one seen is refused with
    StaleWriter, and nothing is written. ``lock_s`` is how long to wait for another writer.
    """

    _served = "releases"
    """The folder in the site's whose entries ``live`` leads to."""

    def __init__(self, home: Path, site_name: str, sites_port: int, keep: int, lock_s: float = LOCK_S) -> None:
        if not SITE_NAME.fullmatch(site_name):
            raise ValueError(f"site_name: {site_name!r} is not a site's name; expected tmux-xxxxxxxx-xxxxxxxx")
        if keep < 1:
            raise ValueError(f"keep: {keep} is too few; expected 1 or more")
        self._name, self._port, self._keep = site_name, sites_port, keep
        self._folder = sites_folder(home) / site_name
        self._releases = self._folder / "releases"
        self._manifests = self._folder / "manifests"
        self._fence, self._lock_s = Fence(home, site_name, BLOCK), lock_s

    def publish(self, release: Release, fence: int = 0) -> Site:
        with self._in_words(f"publishing {release.release_id}"), self._alone(fence):
            self._lay_out()
            self._sweep_leftovers()
            before = self.live()
            served = len(release.manifest.files) + 1
            is_there = self._holds(release)
            if not is_there:
                self._copy(release)
            self._point_at(release.release_id)
            self._sweep_old(protected={release.release_id, before})
        return self._site(release.release_id, uploaded=0 if is_there else served, kept=served if is_there else 0)

    def activate(self, release_id: str, fence: int = 0) -> Site:
        with self._in_words(f"activating {release_id}"):
            self._refuse_unknown(release_id)
            with self._alone(fence):
                self._refuse_unknown(release_id)
                self._point_at(release_id)
        return self._site(release_id)

    def _refuse_unknown(self, release_id: str) -> None:
        kept = self.releases()
        if release_id not in kept:
            raise HostingError(
                BLOCK,
                f"{self._name} does not keep release {release_id!r}; kept: {', '.join(kept) or 'none'}",
                "choose a kept one, or start redeploy/on-demand to publish anew",
            )

    def _alone(self, fence: int | None) -> AbstractContextManager[None]:
        return self._fence.passed(fence, self._lock_s)

    def _lay_out(self) -> None:
        for folder in (self._releases, self._manifests):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        sync(self._folder.parent)

    def releases(self) -> list[str]:
        with self._in_words("listing releases"):
            names = [entry.name for entry in os.scandir(self._releases)] if self._releases.is_dir() else []
        return sorted((name for name in names if _RELEASE_ID.fullmatch(name)), key=_newness, reverse=True)

    def live(self) -> str | None:
        try:
            release_id = (self._folder / "live").readlink().name
        except OSError:
            return None
        return release_id if _RELEASE_ID.fullmatch(release_id) and (self._releases / release_id).is_dir() else None

    def teardown(self, fence: int | None = None) -> Receipt:
        """Stop serving first, then remove; what could not be removed is in the receipt, found by looking.

        With a ``fence``, a run that was frozen meanwhile cannot bring the site back.
        """
        if not self._folder.exists() and fence is None:
            return Receipt(removed=())
        with self._in_words("taking the site down"), self._alone(fence):
            return self._take_down()

    def _take_down(self) -> Receipt:
        if not self._folder.exists():
            return Receipt(removed=())
        named = {f"release {release_id}": self._releases / release_id for release_id in self.releases()}
        if self.live():
            named = {f"address {self._url}": self._folder / "live", **named}
        named |= self._more_to_remove() | {f"folder {self._folder}": self._folder}
        with suppress(OSError):
            (self._folder / "live").unlink()
        ended, running = self._end_programs()
        shutil.rmtree(self._folder, ignore_errors=True)
        left = sorted(files_below(self._folder)) if self._folder.exists() else []
        return Receipt(
            removed=(*ended, *(name for name, path in named.items() if not os.path.lexists(path))),
            left=(*running, *(left or ([str(self._folder)] if self._folder.exists() else []))),
        )

    def _more_to_remove(self) -> dict[str, Path]:
        """What else a receipt names, and where it is gone from."""
        return {}

    def _end_programs(self) -> tuple[list[str], list[str]]:
        """End what serves the site. What has ended, and what has not, found by looking."""
        return [], []

    @property
    def _url(self) -> str:
        return f"http://{self._name}.localhost:{self._port}"

    def _site(self, release_id: str, uploaded: int = 0, kept: int = 0) -> Site:
        return Site(
            name=self._name,
            url=self._url,
            release_id=release_id,
            dial=f"127.0.0.1:{self._port}",
            uploaded=uploaded,
            kept=kept,
        )

    def _holds(self, release: Release) -> bool:
        """Whether the release lies here as it was published: the manifest, and each file's kind, size and time."""
        if read_bounded(self._manifest_of(release.release_id), _MANIFEST_LIMIT_BYTES) != encoded(release.manifest):
            return False
        root = self._releases / release.release_id
        expected = {entry.path: (entry.size, content_mtime_ns(entry.sha256)) for entry in release.manifest.files}
        content = marker(release.release_id)
        expected[MARKER_PATH] = (len(content), content_mtime_ns(hashlib.sha256(content).hexdigest()))
        found = {path: _size_and_time(root / path) for path in files_below(root)}
        return found == expected

    def _copy(self, release: Release) -> None:
        """Copy into a folder of no release's name, make it durable, then give it its name.

        The manifest is written before that: a folder under its own name always has one.
        """
        incoming = self._releases / f"{TEMPORARY}{secrets.token_hex(6)}"
        incoming.mkdir(mode=0o700)
        try:
            root = Path(release.root)
            for entry in release.manifest.files:
                _copy_file(root / entry.path, incoming / entry.path, entry.sha256, release.release_id)
            digest = hashlib.sha256(marker(release.release_id)).hexdigest()
            _copy_file(root / MARKER_PATH, incoming / MARKER_PATH, digest, release.release_id)
            make_durable(incoming)
            write_atomic(self._manifest_of(release.release_id), encoded(release.manifest))
            final = self._releases / release.release_id
            if final.exists():
                final.rename(self._releases / f"{TEMPORARY}damaged-{secrets.token_hex(6)}")
            incoming.rename(final)
            sync(self._releases)
        except BaseException:
            shutil.rmtree(incoming, ignore_errors=True)
            raise

    def _point_at(self, release_id: str) -> None:
        """The one write that visitors see (rename(2) replaces a link in one step)."""
        pointer = self._folder / f"{TEMPORARY}live"
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(f"{self._served}/{release_id}")
        pointer.rename(self._folder / "live")
        sync(self._folder)

    def _sweep_leftovers(self) -> None:
        (self._folder / f"{TEMPORARY}live").unlink(missing_ok=True)
        for leftover in self._releases.glob(f"{TEMPORARY}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for manifest in self._manifests.iterdir():
            if not (manifest.suffix == ".json" and (self._releases / manifest.stem).is_dir()):
                manifest.unlink()

    def _sweep_old(self, protected: set[str | None]) -> None:
        """Remove what is neither among the newest nor protected. Trouble here is logged: the site is live already."""
        for release_id in self.releases()[self._keep :]:
            if release_id in protected:
                continue
            gone = self._releases / f"{TEMPORARY}gone-{release_id}"
            try:
                (self._releases / release_id).rename(gone)
                self._manifest_of(release_id).unlink(missing_ok=True)
                shutil.rmtree(gone)
            except OSError as error:
                _log.warning("could not remove an old release site=%s release=%s: %s", self._name, release_id, error)

    def _manifest_of(self, release_id: str) -> Path:
        return self._manifests / f"{release_id}.json"

    @contextmanager
    def _in_words(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise disk_trouble(BLOCK, doing, error) from error


def _newness(release_id: str) -> tuple[int, str]:
    match = _RELEASE_ID.fullmatch(release_id)
    return (int(match["number"]) if match else 0, release_id)


def _size_and_time(path: Path) -> tuple[int, int] | None:
    status = path.lstat()
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _copy_file(source: Path, target: Path, sha256: str, release_id: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.sha256()
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            writer.write(chunk)
    if digest.hexdigest() != sha256:
        raise HostingError(
            BLOCK,
            f"{target.name} of {release_id} is not what its manifest says",
            "start redeploy/on-demand, which packages source/ again",
        )
    when = content_mtime_ns(sha256)
    os.utime(target, ns=(when, when))
