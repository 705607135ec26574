"""The tables of the record: one schema for PostgreSQL and SQLite.

The rules that must hold whoever writes stand here as constraints: known statuses, one leading run an execution, one
run of a kind waiting to be dispatched, one living resource of a name, events that are only ever added.
Foreign text is cleaned by its column's type, so that no writer can forget it.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal,
    literal_column,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from tasks.domain.check import Outcome
from tasks.domain.notice import Channel, NoticeState, Occasion
from tasks.domain.pipeline import TOTAL_STEPS, SiteState, Status, Verb, Verdict

REVISION = "0005"
"""The alembic revision that these tables are at."""


class Utc(TypeDecorator[datetime]):
    """An aware moment. SQLite keeps no zone: it is written there as UTC, and read so."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; give an aware moment, such as datetime.now(UTC)")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class db_clock(FunctionElement[datetime]):  # noqa: N801  # it reads as the SQL function that it is
    """The database's own clock, some seconds from now: the clocks of the machines that write may differ.

    Real time, not the transaction's start, so that waiting for a lock does not age it.
    """

    type = Utc()
    inherit_cache = True

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(literal(seconds, Float))


@compiles(db_clock, "postgresql")
def _clock_of_postgresql(element: db_clock, compiler: SQLCompiler, **more: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **more)}))"


@compiles(db_clock, "sqlite")
def _clock_of_sqlite(element: db_clock, compiler: SQLCompiler, **more: Any) -> str:
    # Milliseconds, padded to the six digits that SQLAlchemy's text form of a moment has.
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {compiler.process(element.clauses, **more)} || ' seconds')"


def clean(value: str) -> str:
    """The text without what PostgreSQL cannot hold: NUL and halves of surrogate pairs.

    >>> clean("a\\x00b\\ud800c")
    'abc'
    """
    return value.replace("\x00", "").encode("utf-8", "ignore").decode("utf-8")


def clean_json(value: Any) -> Any:
    """`clean` for every text in a JSON value, keys included."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): clean_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_json(item) for item in value]
    return value


class Words(TypeDecorator[str]):
    """Text from anywhere."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        return None if value is None else clean(value)


class Document(TypeDecorator[Any]):
    """JSON from anywhere. Plain JSON and not JSONB: it keeps the order of keys."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Dialect) -> Any:
        return clean_json(value)


_Serial: TypeEngine[int] = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only a plain INTEGER key

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _known(column: str, values: Iterable[str]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def _moment(name: str) -> Column[datetime]:
    """When the row came to be."""
    return Column(name, Utc(), nullable=False, default=db_clock())


def _where(condition: str, *, unique: bool = True) -> dict[str, Any]:
    return {"unique": unique, "postgresql_where": text(condition), "sqlite_where": text(condition)}


FINAL = [status.value for status in Status if status.is_final]
_FINAL_SQL = ", ".join(f"'{status}'" for status in FINAL)
_LEADING_SQL = ", ".join(f"'{verb}'" for verb in Verb if verb.leads)

users = Table(
    "users",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("email", Words, nullable=False, unique=True),
    Column("phone", Words, nullable=False),
    _moment("created_at"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    _moment("created_at"),
)

executions = Table(
    "executions",
    metadata,
    Column("execution_id", Text, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("session_id", ForeignKey("sessions.session_id"), nullable=False, unique=True),
    Column("status", Text, nullable=False),
    Column("verdict", Text),
    Column("current_step", Integer, nullable=False, default=0),
    Column("request", Document, nullable=False),
    Column("error", Document),
    _moment("created_at"),
    _moment("updated_at"),
    _known("status", Status),
    _known("verdict", Verdict),
    # Newest first, page by page.
    Index("ix_executions_created_at", "created_at", "execution_id"),
    CheckConstraint(f"current_step BETWEEN 0 AND {TOTAL_STEPS}", name="current_step_known"),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("execution_id", ForeignKey("executions.execution_id"), nullable=False),
    Column("verb", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False, default=1),
    Column("flow_run_id", Text),
    # The run whose status the execution shows.
    Column("leads", Boolean, nullable=False),
    _moment("created_at"),
    Column("dispatched_at", Utc()),
    Column("ended_at", Utc()),
    # Where its engine runs; another machine knows no more than the record.
    Column("machine_id", Text),
    # What its flow is told beside the execution's id.
    Column("parameters", Document),
    Column("cancel_requested_at", Utc()),
    # One flow run re-verifies many executions.
    UniqueConstraint("flow_run_id", "execution_id"),
    _known("verb", Verb),
    _known("status", Status),
    CheckConstraint("attempt >= 1", name="attempt_counts_from_1"),
    CheckConstraint(f"(ended_at IS NOT NULL) = (status IN ({_FINAL_SQL}))", name="ended_when_final"),
    CheckConstraint(f"verb IN ({_LEADING_SQL}) OR NOT leads", name="only_releasing_runs_lead"),
    Index("one_leading_run", "execution_id", **_where("leads")),
    Index("one_waiting_run_of_a_verb", "execution_id", "verb", **_where("flow_run_id IS NULL AND status = 'pending'")),
    Index("runs_under_way", "created_at", "run_id", **_where(f"status NOT IN ({_FINAL_SQL})", unique=False)),
)
Index("ix_runs_execution_id", runs.c.execution_id)

UNDER_WAY = runs.c.status.not_in([literal_column(f"'{status}'") for status in FINAL])
"""Not over. Spelled out, and not with parameters: only so is it known to be what the index holds."""

steps = Table(
    "steps",
    metadata,
    Column("run_id", ForeignKey("runs.run_id"), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False, default=1),
    Column("outcome", Document),
    Column("error", Words),
    _moment("started_at"),
    Column("finished_at", Utc()),
    _known("status", ("running", "done", "failed")),
    CheckConstraint(f"step BETWEEN 1 AND {TOTAL_STEPS}", name="step_known"),
    CheckConstraint("(status = 'done') = (outcome IS NOT NULL)", name="outcome_when_done"),
)

sites = Table(
    "sites",
    metadata,
    Column("site_name", Text, primary_key=True),
    Column("site_id", Text, nullable=False, unique=True),
    Column("execution_id", ForeignKey("executions.execution_id"), nullable=False, unique=True),
    Column("url", Words),
    Column("dial", Words),
    Column("live_release", Words),
    Column("state", Text),
    Column("last_deployed", Utc()),
    _moment("created_at"),
    # The last release that served and passed our gates; the one to go back to.
    Column("good_release", Words),
    Column("expires_at", Utc()),
    _known("state", SiteState),
)

releases = Table(
    "releases",
    metadata,
    Column("session_id", ForeignKey("sessions.session_id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("release_id", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("files", Integer, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    _moment("created_at"),
    UniqueConstraint("session_id", "release_id"),
    UniqueConstraint("session_id", "digest"),
    CheckConstraint("number >= 1", name="number_counts_from_1"),
)

checks = Table(
    "checks",
    metadata,
    Column("run_id", ForeignKey("runs.run_id"), primary_key=True),
    Column("name", Words, primary_key=True),
    Column("execution_id", ForeignKey("executions.execution_id"), nullable=False, index=True),
    Column("outcome", Text, nullable=False),
    Column("document", Document, nullable=False),
    _moment("recorded_at"),
    _known("outcome", Outcome),
)

messages = Table(
    "messages",
    metadata,
    Column("message_id", _Serial, primary_key=True),
    Column("execution_id", ForeignKey("executions.execution_id"), nullable=False),
    Column("author", Text, nullable=False),
    Column("body", Words, nullable=False),
    _moment("created_at"),
    Column("delivered_at", Utc()),
    Column("kind", Text, nullable=False, default="say", server_default="say"),
    Column("source_id", Text),
    UniqueConstraint("execution_id", "source_id"),
    _known("kind", ("say", "interrupt", "tool")),
    _known("author", ("user", "agent", "system")),
    Index("ix_messages_execution_id_message_id", "execution_id", "message_id"),
)

resources = Table(
    "resources",
    metadata,
    Column("resource_id", Text, primary_key=True),
    Column("execution_id", ForeignKey("executions.execution_id"), nullable=False, index=True),
    Column("kind", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("state", Text, nullable=False),
    Column("details", Document, nullable=False),
    _moment("planned_at"),
    Column("created_at", Utc()),
    Column("gone_at", Utc()),
    _known("state", ("planned", "created", "gone")),
    Index("one_living_resource_of_a_name", "kind", "name", **_where("state <> 'gone'")),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_key", Text, primary_key=True),
    Column("body_sha256", Text, nullable=False),
    # Deferred: the delivery is written first, so that a second one waits before it has made anything.
    Column("run_id", ForeignKey("runs.run_id", deferrable=True, initially="DEFERRED")),
    Column("refusal", Words),
    Column("refused_body", Document),
    _moment("received_at"),
    CheckConstraint("(run_id IS NULL) <> (refusal IS NULL)", name="accepted_or_refused"),
)

leases = Table(
    "leases",
    metadata,
    Column("site_name", ForeignKey("sites.site_name"), primary_key=True),
    Column("fence", BigInteger, nullable=False, default=0),
    Column("owner", Words),
    Column("since", Utc()),
    Column("expires_at", Utc()),
    CheckConstraint("(owner IS NULL) = (expires_at IS NULL)", name="owned_until_a_moment"),
)

questions = Table(
    "questions",
    metadata,
    Column("question_id", Text, primary_key=True),
    Column("execution_id", ForeignKey("executions.execution_id"), nullable=False, index=True),
    Column("run_id", ForeignKey("runs.run_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("round", Integer, nullable=False, default=1),
    Column("body", Words, nullable=False),
    Column("answer", Document),
    Column("answered_by", Words),
    _moment("asked_at"),
    Column("expires_at", Utc(), nullable=False),
    Column("answered_at", Utc()),
    UniqueConstraint("run_id", "kind", "round"),
    _known("kind", ("plan", "agent")),
    CheckConstraint("(answer IS NULL) = (answered_at IS NULL)", name="answered_at_a_moment"),
    CheckConstraint("round >= 1", name="round_counts_from_1"),
)

machines = Table(
    "machines",
    metadata,
    Column("machine_id", Text, primary_key=True),
    Column("name", Words, nullable=False),
    Column("home", Words, nullable=False),
    _moment("first_seen"),
    _moment("seen_at"),
)

slots = Table(
    "slots",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("run_id", ForeignKey("runs.run_id"), primary_key=True),
    _moment("asked_at"),
    Column("taken_at", Utc()),
    _known("kind", ("agent",)),
)

screens = Table(
    "screens",
    metadata,
    Column("execution_id", ForeignKey("executions.execution_id"), primary_key=True),
    Column("body", Words, nullable=False),
    _moment("shown_at"),
)

links = Table(
    "links",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("execution_id", ForeignKey("executions.execution_id"), nullable=False, index=True),
    _moment("created_at"),
)

notices = Table(
    "notices",
    metadata,
    Column("notice_id", Text, primary_key=True),
    Column("execution_id", ForeignKey("executions.execution_id"), nullable=False, index=True),
    Column("run_id", ForeignKey("runs.run_id"), nullable=False),
    Column("occasion", Text, nullable=False),
    Column("channel", Text, nullable=False),
    # Of `questions`; no key to it, since answered questions are forgotten by themselves.
    Column("question_id", Text),
    # What the event said, as it happened: the execution may be elsewhere when the notice is sent.
    Column("details", Document, nullable=False),
    Column("state", Text, nullable=False, default=NoticeState.PENDING),
    Column("attempts", Integer, nullable=False, default=0),
    _moment("created_at"),
    # When it may be taken up; whoever takes it up moves this on, so that nobody else does meanwhile.
    Column("due_at", Utc(), nullable=False, default=db_clock()),
    Column("sent_at", Utc()),
    Column("error", Words),
    UniqueConstraint("question_id", "channel"),
    _known("occasion", Occasion),
    _known("channel", Channel),
    _known("state", NoticeState),
    CheckConstraint("(question_id IS NULL) OR (occasion = 'waiting_input')", name="question_when_waiting"),
    CheckConstraint("(sent_at IS NOT NULL) = (state = 'sent')", name="sent_at_a_moment"),
    Index("notices_to_send", "channel", "due_at", **_where("state = 'pending'", unique=False)),
)

hooks = Table(
    "hooks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("failures", Integer, nullable=False, default=0),
    Column("reason", Words),
    Column("failed_at", Utc()),
    Column("accepted_at", Utc()),
    Column("paused_at", Utc()),
    CheckConstraint("failures >= 0", name="failures_are_counted"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), index=True),
    Column("label", Words, nullable=False),
    Column("sha256", Text, nullable=False, unique=True),
    Column("scopes", Document, nullable=False),
    _moment("created_at"),
    Column("revoked_at", Utc()),
)

events = Table(
    "events",
    metadata,
    Column("seq", _Serial, primary_key=True),
    Column("execution_id", ForeignKey("executions.execution_id")),
    Column("run_id", ForeignKey("runs.run_id")),
    Column("kind", Text, nullable=False),
    Column("data", Document, nullable=False),
    _moment("at"),
    Index("ix_events_execution_id_seq", "execution_id", "seq"),
)
