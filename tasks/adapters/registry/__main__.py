"""Bring the registry's database to this program's revision."""

import sys

from blocks.settings import settings
from tasks.adapters.registry import Registry, migrate
from tasks.adapters.registry.schema import REVISION
from tasks.domain.errors import BuilderError

if __name__ == "__main__":
    try:
        migrate(settings().registry_url)
        registry = Registry.open(settings().registry_url)
    except (BuilderError, ConnectionError, ValueError) as error:
        sys.exit(str(error))
    sys.stdout.write(f"the registry at {registry.where} is at revision {REVISION}\n")
    registry.close()
