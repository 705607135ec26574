"""How the schema came to be, and how a database gets there. Only this package loads alembic."""

import os
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from tasks.adapters.registry.database import engine_for, in_our_words, is_known, parse, revision_of
from tasks.adapters.registry.errors import RevisionMismatch
from tasks.adapters.registry.schema import REVISION

_LOCK = 0x746D7578
"""Key of PostgreSQL's advisory lock that migrations take turns by. On SQLite they queue like all writers."""

_TURN = threading.Lock()
"""alembic's context is one per process."""


def config_for(connection: Connection) -> Config:
    """alembic's settings for one open transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "v%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    return config


def upgrade(url: str) -> None:
    """All or nothing: a migration that is killed leaves the database as it was. Raises RevisionMismatch where the
    database is at a revision that this program does not know.
    """
    parsed = parse(url)
    if parsed.get_backend_name() == "sqlite":
        _create_private(Path(str(parsed.database)))
    engine = engine_for(parsed, migrating=True)
    where = parsed.render_as_string(hide_password=True)
    try:
        with _TURN, in_our_words(where), engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            found = revision_of(connection)
            if found is not None and not is_known(found):
                raise RevisionMismatch(where, found, REVISION, False)
            command.upgrade(config_for(connection), "head")
            if engine.dialect.name == "sqlite":
                _check_parents(connection)
    finally:
        engine.dispose()


def _check_parents(connection: Connection) -> None:
    """SQLite copies tables to change them, with foreign keys off."""
    orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if orphans:
        raise ValueError(f"the migration would leave rows without their parents: {orphans[:3]}; nothing was changed")


def _create_private(path: Path) -> None:
    """The record holds people's addresses: nobody else on this machine reads it. SQLite's side files copy the mode."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
