"""Notices: written in the transaction of what they tell, and sent afterwards by whoever takes them up.

Each is sent at least once: a sender that dies between sending and `notice_sent` leaves it to be taken up again, with
the same id, by which a receiver tells a repeat.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.records import Notice
from tasks.adapters.registry.schema import db_clock, notices
from tasks.domain.notice import Channel, NoticeState, Occasion


def _notice(row: Row[Any]) -> Notice:
    told = row._asdict()
    now = told.pop("now")
    return Notice(
        **{
            **told,
            "occasion": Occasion(row.occasion),
            "channel": Channel(row.channel),
            "state": NoticeState(row.state),
            "age_s": (now - row.created_at).total_seconds(),
        }
    )


_PENDING = notices.c.state == NoticeState.PENDING


class Notices(Database):
    def claim_notice(self, channel: Channel, lease_s: float) -> Notice | None:
        """The notice of this channel that has been due for longest, for the caller alone until ``lease_s`` have passed;
        None where none is due. Counts the attempt, so that a notice that kills its sender is not tried for ever.
        """
        due = _PENDING, notices.c.channel == channel, notices.c.due_at <= db_clock()
        oldest = select(notices.c.notice_id).where(*due).order_by(notices.c.due_at).limit(1)
        with self._read() as connection:  # SQLite's writers queue: where nothing is due, none of them waits for this
            if connection.execute(oldest).first() is None:
                return None
        free = oldest.with_for_update(skip_locked=True).scalar_subquery()
        taken = {"due_at": db_clock(lease_s), "attempts": notices.c.attempts + 1}
        statement = notices.update().where(notices.c.notice_id == free, _PENDING).values(**taken)
        with self._write() as connection:
            row = connection.execute(statement.returning(notices, db_clock().label("now"))).one_or_none()
        return None if row is None else _notice(row)

    def notice_sent(self, notice: Notice) -> None:
        values = {"state": NoticeState.SENT, "sent_at": db_clock(), "error": None}
        self._settle(notices.c.notice_id == notice.notice_id, values)

    def notice_failed(self, notice: Notice, error: str, again_s: float | None) -> None:
        """It was not sent: why not, and when it is tried again; None: never. What another attempt has begun since, or
        has sent, stands.
        """
        values: dict[str, Any] = {"error": error}
        if again_s is None:
            values["state"] = NoticeState.GIVEN_UP
        else:
            values["due_at"] = db_clock(again_s)
        mine = (notices.c.notice_id == notice.notice_id) & (notices.c.attempts == notice.attempts)
        self._settle(mine, values)

    def switch_off(self, channel: Channel) -> int:
        """Nothing of this channel that waits is ever sent; how many notices that were."""
        waiting = notices.c.channel == channel
        with self._read() as connection:
            if connection.execute(select(notices.c.notice_id).where(waiting, _PENDING).limit(1)).first() is None:
                return 0
        return self._settle(waiting, {"state": NoticeState.OFF})

    def notices(self, execution_id: str, channels: Iterable[Channel] = tuple(Channel)) -> list[Notice]:
        """Of one execution, oldest first."""
        mine = notices.c.execution_id == execution_id, notices.c.channel.in_(list(channels))
        query = select(notices, db_clock().label("now")).where(*mine)
        with self._read() as connection:
            rows = connection.execute(query.order_by(notices.c.created_at, notices.c.channel))
            return [_notice(row) for row in rows]

    def _settle(self, condition: Any, values: dict[str, Any]) -> int:
        with self._write() as connection:
            return connection.execute(notices.update().where(condition, _PENDING).values(**values)).rowcount or 0
