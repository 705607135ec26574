from tests.support.databases import (  # noqa: F401  # pytest finds fixtures by name
    empty_registry_url,
    migrated_postgresql,
    migrated_sqlite,
    postgres_cluster,
    postgres_database,
    registry,
    registry_url,
)
