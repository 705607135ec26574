"""The tables of the record, and events that nobody changes afterwards.

Revision 0001, the first, 2026-11-23.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATUS_KNOWN = "status IN ('pending', 'running', 'waiting_input', 'completed', 'failed', 'cancelled')"
ENDED_WHEN_FINAL = "(ended_at IS NOT NULL) = (status IN ('completed', 'failed', 'cancelled'))"
LEADS = sa.text("leads")
WAITING = sa.text("flow_run_id IS NULL AND status = 'pending'")
LIVING = sa.text("state <> 'gone'")

APPEND_ONLY = {
    "postgresql": [
        """
        CREATE FUNCTION events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'events are only ever added' USING ERRCODE = 'integrity_constraint_violation'; END $$
        """,
        """
        CREATE TRIGGER events_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON events
        FOR EACH STATEMENT EXECUTE FUNCTION events_stay()
        """,
    ],
    "sqlite": [
        f"""
        CREATE TRIGGER events_stay_{change.lower()} BEFORE {change} ON events
        BEGIN SELECT RAISE(ABORT, 'events are only ever added'); END
        """
        for change in ("UPDATE", "DELETE")
    ],
}


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("phone", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
    )
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=op.f("fk_api_keys_user_id")),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_keys_sha256")),
    )
    op.create_index(op.f("ix_api_keys_user_id"), "api_keys", ["user_id"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=op.f("fk_sessions_user_id")),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_user_id"), "sessions", ["user_id"], unique=False)
    op.create_table(
        "executions",
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("current_step", sa.Integer(), nullable=False),
        sa.Column("request", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(STATUS_KNOWN, name=op.f("ck_executions_status_known")),
        sa.CheckConstraint("verdict IN ('passed', 'failed_checks')", name=op.f("ck_executions_verdict_known")),
        sa.CheckConstraint("current_step BETWEEN 0 AND 9", name=op.f("ck_executions_current_step_known")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_executions_session_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.user_id"], name=op.f("fk_executions_user_id")),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_executions")),
        sa.UniqueConstraint("session_id", name=op.f("uq_executions_session_id")),
    )
    op.create_index(op.f("ix_executions_user_id"), "executions", ["user_id"], unique=False)
    op.create_table(
        "releases",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("release_id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("number >= 1", name=op.f("ck_releases_number_counts_from_1")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_releases_session_id")),
        sa.PrimaryKeyConstraint("session_id", "number", name=op.f("pk_releases")),
        sa.UniqueConstraint("session_id", "digest", name=op.f("uq_releases_session_id_digest")),
        sa.UniqueConstraint("session_id", "release_id", name=op.f("uq_releases_session_id_release_id")),
    )
    op.create_table(
        "messages",
        sa.Column("message_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("author IN ('user', 'agent', 'system')", name=op.f("ck_messages_author_known")),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.execution_id"], name=op.f("fk_messages_execution_id")),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_messages")),
    )
    op.create_index("ix_messages_execution_id_message_id", "messages", ["execution_id", "message_id"], unique=False)
    op.create_table(
        "resources",
        sa.Column("resource_id", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("gone_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('planned', 'created', 'gone')", name=op.f("ck_resources_state_known")),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.execution_id"], name=op.f("fk_resources_execution_id")),
        sa.PrimaryKeyConstraint("resource_id", name=op.f("pk_resources")),
    )
    op.create_index(op.f("ix_resources_execution_id"), "resources", ["execution_id"], unique=False)
    op.create_index(
        "one_living_resource_of_a_name",
        "resources",
        ["kind", "name"],
        unique=True,
        postgresql_where=LIVING,
        sqlite_where=LIVING,
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("flow_run_id", sa.Text(), nullable=True),
        sa.Column("leads", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(ENDED_WHEN_FINAL, name=op.f("ck_runs_ended_when_final")),
        sa.CheckConstraint("NOT (leads AND verb = 'reverify')", name=op.f("ck_runs_reverify_never_leads")),
        sa.CheckConstraint(STATUS_KNOWN, name=op.f("ck_runs_status_known")),
        sa.CheckConstraint("verb IN ('full-build', 'redeploy', 'reverify')", name=op.f("ck_runs_verb_known")),
        sa.CheckConstraint("attempt >= 1", name=op.f("ck_runs_attempt_counts_from_1")),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.execution_id"], name=op.f("fk_runs_execution_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_runs")),
        sa.UniqueConstraint("flow_run_id", "execution_id", name=op.f("uq_runs_flow_run_id_execution_id")),
    )
    op.create_index("ix_runs_execution_id", "runs", ["execution_id"], unique=False)
    op.create_index(
        "one_leading_run", "runs", ["execution_id"], unique=True, postgresql_where=LEADS, sqlite_where=LEADS
    )
    op.create_index(
        "one_waiting_run_of_a_verb",
        "runs",
        ["execution_id", "verb"],
        unique=True,
        postgresql_where=WAITING,
        sqlite_where=WAITING,
    )
    op.create_table(
        "sites",
        sa.Column("site_name", sa.Text(), nullable=False),
        sa.Column("site_id", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("dial", sa.Text(), nullable=True),
        sa.Column("live_release", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("last_deployed", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('live', 'degraded')", name=op.f("ck_sites_state_known")),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.execution_id"], name=op.f("fk_sites_execution_id")),
        sa.PrimaryKeyConstraint("site_name", name=op.f("pk_sites")),
        sa.UniqueConstraint("execution_id", name=op.f("uq_sites_execution_id")),
        sa.UniqueConstraint("site_id", name=op.f("uq_sites_site_id")),
    )
    op.create_table(
        "checks",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("document", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("outcome IN ('passed', 'failed', 'skipped')", name=op.f("ck_checks_outcome_known")),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.execution_id"], name=op.f("fk_checks_execution_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_checks_run_id")),
        sa.PrimaryKeyConstraint("run_id", "name", name=op.f("pk_checks")),
    )
    op.create_index(op.f("ix_checks_execution_id"), "checks", ["execution_id"], unique=False)
    op.create_table(
        "deliveries",
        sa.Column("delivery_key", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.Column("refused_body", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(run_id IS NULL) <> (refusal IS NULL)", name=op.f("ck_deliveries_accepted_or_refused")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.run_id"], name=op.f("fk_deliveries_run_id"), initially="DEFERRED", deferrable=True
        ),
        sa.PrimaryKeyConstraint("delivery_key", name=op.f("pk_deliveries")),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.execution_id"], name=op.f("fk_events_execution_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_events_run_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
    )
    op.create_index("ix_events_execution_id_seq", "events", ["execution_id", "seq"], unique=False)
    op.create_table(
        "leases",
        sa.Column("site_name", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(owner IS NULL) = (expires_at IS NULL)", name=op.f("ck_leases_owned_until_a_moment")),
        sa.ForeignKeyConstraint(["site_name"], ["sites.site_name"], name=op.f("fk_leases_site_name")),
        sa.PrimaryKeyConstraint("site_name", name=op.f("pk_leases")),
    )
    op.create_table(
        "steps",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(status = 'done') = (outcome IS NOT NULL)", name=op.f("ck_steps_outcome_when_done")),
        sa.CheckConstraint("status IN ('running', 'done', 'failed')", name=op.f("ck_steps_status_known")),
        sa.CheckConstraint("step BETWEEN 1 AND 9", name=op.f("ck_steps_step_known")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_steps_run_id")),
        sa.PrimaryKeyConstraint("run_id", "step", name=op.f("pk_steps")),
    )
    for statement in APPEND_ONLY[op.get_context().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    for table in (
        "steps",
        "leases",
        "events",
        "deliveries",
        "checks",
        "sites",
        "runs",
        "resources",
        "messages",
        "releases",
        "executions",
        "sessions",
        "api_keys",
        "users",
    ):
        op.drop_table(table)
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION events_stay")
