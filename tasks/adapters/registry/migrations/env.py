"""alembic's entry: migrations run inside the transaction that the caller opened."""

from typing import Any, Literal

from alembic import context
from sqlalchemy.types import TypeDecorator

from tasks.adapters.registry.schema import metadata


def render_plain(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """A migration names the database's types: ours may change later, what it did may not."""
    return f"sa.{item.impl!r}" if kind == "type" and isinstance(item, TypeDecorator) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
    render_item=render_plain,
    transactional_ddl=True,  # SQLite's too, once the driver's own transactions are off
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
