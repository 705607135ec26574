"""Keys and links: 256 random bits each, of which the record holds the SHA-256."""

import hashlib
import secrets

KEY, LINK = "tbk_", "tbl_"


def mint(kind: str) -> str:
    return kind + secrets.token_urlsafe(32)


def sha256_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
