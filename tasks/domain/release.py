"""Releases: immutable, numbered versions of a site's files, and the headers they are served with."""

import hashlib
import json
import re
from pathlib import PurePosixPath

from pydantic import BaseModel, ConfigDict

MARKER_PATH = ".well-known/release.json"
"""Every release carries this file; the health check reads it to learn which release is served."""


class Limits(BaseModel):
    """How much untrusted ``source/`` may hold; sizes in bytes."""

    model_config = ConfigDict(frozen=True)

    files: int = 5_000
    file_bytes: int = 25 * 2**20
    total_bytes: int = 200 * 2**20
    depth: int = 16
    name_bytes: int = 200
    path_bytes: int = 800  # S3 and Azure take keys of 1,024; a release's prefix goes before the path


class FileEntry(BaseModel):
    """One file of a release. ``path`` is relative, with forward slashes; ``headers`` are what a visitor gets."""

    model_config = ConfigDict(frozen=True)

    path: str
    size: int
    sha256: str
    headers: dict[str, str]


class Manifest(BaseModel):
    """What a release consists of. Entries are sorted by path; the marker is not among them."""

    model_config = ConfigDict(frozen=True)

    release_id: str
    files: tuple[FileEntry, ...]

    @property
    def total_bytes(self) -> int:
        return sum(entry.size for entry in self.files)


class Release(BaseModel):
    """A packaged version. ``root`` holds the files, the marker included; ``number`` counts up from 1 per session."""

    model_config = ConfigDict(frozen=True)

    number: int
    release_id: str
    root: str
    manifest: Manifest


def release_id_for(number: int, files: tuple[FileEntry, ...]) -> str:
    """``r{number}-{digest}``: the digest covers path, content and headers, so the same content is the same release.

    >>> release_id_for(3, ())
    'r3-4f53cda18c2b'
    """
    return f"r{number}-{content_digest(files)}"


def content_digest(files: tuple[FileEntry, ...]) -> str:
    """The first 12 hex digits of a SHA-256 over paths, contents and headers."""
    canonical = json.dumps(
        [[entry.path, entry.sha256, sorted(entry.headers.items())] for entry in sorted(files, key=lambda e: e.path)],
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".xml": "application/xml",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".ico": "image/x-icon",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".ttf": "font/ttf",
    ".otf": "font/otf",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".pdf": "application/pdf",
    ".wasm": "application/wasm",
    ".map": "application/json",
}

EXTENSIONS = tuple(_TYPES)
"""Every extension with a type of its own; a site server's configuration is generated from it."""

REVALIDATE = "no-cache"
"""Pages, their styles and scripts, and data: kept, but asked for again each time. A release shows at once and whole:
a new page with yesterday's stylesheet is broken."""

SHORT = "public, max-age=300, must-revalidate"
"""Pictures and the like under a stable name: a release changes them within five minutes."""

HASHED = "public, max-age=31536000, immutable"
"""Assets whose name carries a digest of their content: never asked for again."""


HASHED_NAME = (
    r"\.(?:"
    + "|".join(rf"[0-9]{{{digits}}}[a-f][0-9a-f]{{{7 - digits},}}" for digits in range(8))
    + r"|[0-9]{8,}[a-f][0-9a-f]*)\.[^./]+$"
)
"""A name such as ``site.3f2a9c1b.css``: 8 or more hex digits, a letter among them, or every date would be one.
Written without look-ahead, which the engine of Go, and so Caddy's, does not have."""


def content_type(path: str) -> str:
    return _TYPES.get(PurePosixPath(path).suffix.lower(), "application/octet-stream")


def cache_control(path: str) -> str:
    """
    >>> cache_control("index.html"), cache_control("assets/site.css")
    ('no-cache', 'no-cache')
    >>> cache_control("assets/site.3f2a9c1b.css")
    'public, max-age=31536000, immutable'
    >>> cache_control("menu.20260124.pdf")
    'public, max-age=300, must-revalidate'
    """
    name = PurePosixPath(path)
    suffix = name.suffix.lower()
    if suffix in {".html", ".json", ".xml", ".txt", ".md", ".webmanifest", ""}:
        return REVALIDATE
    if re.search(HASHED_NAME, name.name):
        return HASHED
    return REVALIDATE if suffix in {".css", ".js", ".mjs"} else SHORT


def headers_for(path: str) -> dict[str, str]:
    return {"Content-Type": content_type(path), "Cache-Control": cache_control(path)}
