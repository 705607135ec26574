"""Notices that wait to be sent, and indexes for lists of many executions.

Revision 0005, 2026-11-23.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UNDER_WAY = sa.text("status NOT IN ('completed', 'failed', 'cancelled')")
TO_SEND = sa.text("state = 'pending'")


def upgrade() -> None:
    op.create_index(op.f("ix_executions_created_at"), "executions", ["created_at", "execution_id"], unique=False)
    op.create_index(
        "runs_under_way",
        "runs",
        ["created_at", "run_id"],
        unique=False,
        postgresql_where=UNDER_WAY,
        sqlite_where=UNDER_WAY,
    )
    op.create_table(
        "notices",
        sa.Column("notice_id", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("occasion", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("question_id", sa.Text(), nullable=True),
        sa.Column("details", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "occasion IN ('accepted', 'waiting_input', 'completed', 'failed')", name=op.f("ck_notices_occasion_known")
        ),
        sa.CheckConstraint("channel IN ('email', 'operators', 'webhook')", name=op.f("ck_notices_channel_known")),
        sa.CheckConstraint("state IN ('pending', 'sent', 'off', 'given_up')", name=op.f("ck_notices_state_known")),
        sa.CheckConstraint(
            "(question_id IS NULL) OR (occasion = 'waiting_input')", name=op.f("ck_notices_question_when_waiting")
        ),
        sa.CheckConstraint("(sent_at IS NOT NULL) = (state = 'sent')", name=op.f("ck_notices_sent_at_a_moment")),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.execution_id"], name=op.f("fk_notices_execution_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_notices_run_id")),
        sa.PrimaryKeyConstraint("notice_id", name=op.f("pk_notices")),
        sa.UniqueConstraint("question_id", "channel", name=op.f("uq_notices_question_id_channel")),
    )
    op.create_index(op.f("ix_notices_execution_id"), "notices", ["execution_id"], unique=False)
    op.create_index(
        "notices_to_send",
        "notices",
        ["channel", "due_at"],
        unique=False,
        postgresql_where=TO_SEND,
        sqlite_where=TO_SEND,
    )


def downgrade() -> None:
    op.drop_table("notices")
    op.drop_index("runs_under_way", table_name="runs")
    op.drop_index(op.f("ix_executions_created_at"), table_name="executions")
