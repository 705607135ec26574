"""Operators' keys: ``python -m deployments.front.keys create|list|revoke``.

A key is shown once, when it is made; the registry holds its hash. Needs the environment of ``service.env``.
"""

import argparse
import sys
from collections.abc import Sequence

from blocks.settings import settings
from deployments.front.scopes import Scope
from deployments.front.settings import listed
from deployments.front.tokens import KEY, mint, sha256_of
from tasks.adapters.redaction import redact
from tasks.adapters.registry import Registry
from tasks.domain.errors import BuilderError

ALL = ",".join(Scope)


def create(registry: Registry, label: str, scopes: str, user: str) -> str:
    """The new key. Raises ValueError for an unknown scope, and UnknownPerson."""
    wanted = [Scope(name) for name in listed(scopes)]
    person = registry.person(user) if user else None
    if person is not None and person.user_id is None:
        raise ValueError("--user: nobody with this address has ordered anything; leave it out, or give another")
    key = mint(KEY)
    registry.add_key(label, sha256_of(key), wanted, person.user_id if person else None)
    return key


def listing(registry: Registry) -> str:
    lines = [
        f"{key.key_id}  {key.created_at:%Y-%m-%d}  {'revoked' if key.revoked_at else 'good':<7}  "
        f"{','.join(sorted(key.scopes))}  {key.label}{'  user ' + key.user_id if key.user_id else ''}"
        for key in registry.api_keys()
    ]
    return "\n".join(lines) or "there are no keys; make one with: python -m deployments.front.keys create LABEL"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m deployments.front.keys", description=__doc__)
    words = parser.add_subparsers(dest="word", required=True)
    making = words.add_parser("create", help="make a key and show it, once")
    making.add_argument("label", help="who it is for")
    making.add_argument("--scopes", default=ALL, help=f"with commas between; all by default: {ALL}")
    making.add_argument("--user", default="", help="an address or id: good for this user's executions alone")
    words.add_parser("list", help="show all keys, without their secrets")
    words.add_parser("revoke", help="make a key worthless").add_argument("key_id")
    told = parser.parse_args(arguments)
    try:
        registry = Registry.open(settings().registry_url)
        try:
            match told.word:
                case "create":
                    sys.stdout.write(create(registry, told.label, told.scopes, told.user) + "\n")
                case "list":
                    sys.stdout.write(listing(registry) + "\n")
                case _:
                    if not registry.revoke_key(told.key_id):
                        raise ValueError("there is no such key that is good; list shows them")
        finally:
            registry.close()
    except (BuilderError, ConnectionError, ValueError) as error:
        sys.stderr.write(f"keys: {redact(str(error))}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
