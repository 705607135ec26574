"""The one door through which events leave the record: retention by age, and the erasure of a person."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text


@contextmanager
def events_may_go(connection: Connection) -> Iterator[None]:
    """Inside, events can be deleted; on leaving, they are only ever added again.

    Nobody else sees the door open: both databases change triggers inside the transaction, and the events of others
    wait until it commits. Whatever ends it otherwise rolls the change back. Take the locks on rows before it.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("ALTER TABLE events DISABLE TRIGGER events_stay"))
        yield
        connection.execute(text("ALTER TABLE events ENABLE TRIGGER events_stay"))
        return
    kept = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'events' ORDER BY name"
    triggers = connection.execute(text(kept)).all()
    for trigger in triggers:
        connection.exec_driver_sql(f'DROP TRIGGER "{trigger.name}"')
    yield
    for trigger in triggers:
        connection.exec_driver_sql(trigger.sql)
