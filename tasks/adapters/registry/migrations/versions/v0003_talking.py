"""Questions of the agent's own, messages that interrupt it, and what it says and does.

Revision 0003, 2026-11-23.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("questions") as questions:
        questions.drop_constraint(op.f("ck_questions_kind_known"), type_="check")
        questions.create_check_constraint(op.f("ck_questions_kind_known"), "kind IN ('plan', 'agent')")
    with op.batch_alter_table("messages") as messages:
        messages.add_column(sa.Column("kind", sa.Text(), nullable=False, server_default="say"))
        messages.add_column(sa.Column("source_id", sa.Text(), nullable=True))
        messages.create_check_constraint(op.f("ck_messages_kind_known"), "kind IN ('say', 'interrupt', 'tool')")
        messages.create_unique_constraint(op.f("uq_messages_execution_id_source_id"), ["execution_id", "source_id"])


def downgrade() -> None:
    op.execute("DELETE FROM questions WHERE kind = 'agent'")
    with op.batch_alter_table("questions") as questions:
        questions.drop_constraint(op.f("ck_questions_kind_known"), type_="check")
        questions.create_check_constraint(op.f("ck_questions_kind_known"), "kind IN ('plan')")
    op.execute("DELETE FROM messages WHERE kind <> 'say'")
    with op.batch_alter_table("messages") as messages:
        messages.drop_constraint(op.f("uq_messages_execution_id_source_id"), type_="unique")
        messages.drop_column("source_id")
        messages.drop_constraint(op.f("ck_messages_kind_known"), type_="check")
        messages.drop_column("kind")
