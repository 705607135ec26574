"""For the front door: links to one execution, the agent's last screen, hooks that pause, cancellations that wait.

Revision 0004, 2026-11-23.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("parameters", sa.JSON(none_as_null=True), nullable=True))
        runs.add_column(sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "screens",
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("shown_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.execution_id"], name=op.f("fk_screens_execution_id")),
        sa.PrimaryKeyConstraint("execution_id", name=op.f("pk_screens")),
    )
    op.create_table(
        "links",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.execution_id"], name=op.f("fk_links_execution_id")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_links")),
    )
    op.create_index(op.f("ix_links_execution_id"), "links", ["execution_id"], unique=False)
    op.create_table(
        "hooks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("failures >= 0", name=op.f("ck_hooks_failures_are_counted")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hooks")),
    )


def downgrade() -> None:
    for table in ("hooks", "links", "screens"):
        op.drop_table(table)
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("cancel_requested_at")
        runs.drop_column("parameters")
