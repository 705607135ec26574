"""Prefect's database beside the registry's, on a PostgreSQL server that somebody else runs."""

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from deployments.configuration import ServiceRefused


def create_beside(registry_url: str, prefect_url: str) -> None:
    """Create Prefect's database where it is missing, connected to the registry's. Raises ServiceRefused."""
    registry, wanted = make_url(registry_url), make_url(prefect_url).database
    where = registry.render_as_string(hide_password=True)
    plain = registry.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with psycopg.connect(plain, autocommit=True, connect_timeout=10) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (wanted,)).fetchone():
                return
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(str(wanted))))
    except psycopg.errors.InsufficientPrivilege as error:
        raise ServiceRefused(
            f"TMUX_BUILDER_DATABASE_URL: the role at {where} may not create the database {wanted} that Prefect needs; "
            f'let the server\'s owner type: CREATE DATABASE "{wanted}" OWNER "{registry.username}"'
        ) from error
    except psycopg.errors.DuplicateDatabase:
        return
    except psycopg.OperationalError as error:
        reason = (str(error).strip().splitlines() or ["no word from it"])[-1]
        raise ServiceRefused(
            f"TMUX_BUILDER_DATABASE_URL: {where} did not take a connection: {reason}; "
            "check host, port, user and password there, and that the database exists"
        ) from error
