"""How the dispatcher learns at once that a run waits for it."""

import threading
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from tasks.adapters.registry.database import Database

if TYPE_CHECKING:
    import psycopg

CHANNEL = "tmux_builder_runs"

NAP_S = 1.0
"""How long a dispatcher on SQLite sleeps before it looks again."""


def ring(connection: Connection) -> None:
    """Wake the dispatcher when this transaction commits. SQLite has no bell; there the dispatcher looks by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, "")))


class Wakeup(Database):
    """One thread waits at a time; the connection it listens on is its own and stays open between calls."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._listening = threading.Lock()
        self._ear: "psycopg.Connection[Any] | None" = None  # noqa: UP037  # psycopg is loaded only to listen

    def wait_for_work(self, timeout_s: float) -> None:
        """Return when there may be an undispatched run, or after about ``timeout_s``. Look after each return.

        A bell that rings between two calls is kept. The first call, and one after a lost connection, returns at once:
        what came before anybody listened rang no bell. Raises ConnectionError where the database is away.
        """
        if not self._on_postgresql:
            time.sleep(min(timeout_s, NAP_S))
            return
        import psycopg

        with self._listening:
            try:
                if self._ear is None:
                    self._ear = self._listen()
                    return
                for _bell in self._ear.notifies(timeout=timeout_s, stop_after=1):
                    pass
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                self._hang_up()
                raise ConnectionError(
                    f"the registry at {self.where} stopped ringing: {error}; it is dialled again at the next call"
                ) from error

    def _listen(self) -> "psycopg.Connection[Any]":
        import psycopg

        dialled = self.engine.dialect.create_connect_args(self.engine.url)[1]
        ear = psycopg.connect(
            **dialled, autocommit=True, connect_timeout=10, application_name="tmux-builder dispatcher"
        )
        ear.execute(f"LISTEN {CHANNEL}")
        return ear

    def _hang_up(self) -> None:
        if self._ear is not None:
            self._ear.close()
            self._ear = None

    def close(self) -> None:
        """Give every connection back. A call that still waits for work ends at its timeout first."""
        with self._listening:
            self._hang_up()
        self.engine.dispose()
