"""Plans that wait for a person, machines that work, turns that runs take, and the release to go back to.

Revision 0002, 2026-11-23.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SITE_STATES = "state IN ('live', 'degraded', 'rolled_back', 'rollback_failed', 'taken_down')"
VERBS = "verb IN ('full-build', 'redeploy', 'reverify', 'rollback', 'teardown')"


def upgrade() -> None:
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("machine_id", sa.Text(), nullable=True))
        runs.drop_constraint(op.f("ck_runs_verb_known"), type_="check")
        runs.drop_constraint(op.f("ck_runs_reverify_never_leads"), type_="check")
        runs.create_check_constraint(op.f("ck_runs_verb_known"), VERBS)
        runs.create_check_constraint(
            op.f("ck_runs_only_releasing_runs_lead"), "verb IN ('full-build', 'redeploy') OR NOT leads"
        )
    with op.batch_alter_table("sites") as sites:
        sites.add_column(sa.Column("good_release", sa.Text(), nullable=True))
        sites.add_column(sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
        sites.drop_constraint(op.f("ck_sites_state_known"), type_="check")
        sites.create_check_constraint(op.f("ck_sites_state_known"), SITE_STATES)
    op.execute("UPDATE sites SET good_release = live_release WHERE state = 'live'")
    op.create_table(
        "questions",
        sa.Column("question_id", sa.Text(), nullable=False),
        sa.Column("execution_id", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("answer", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("answered_by", sa.Text(), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('plan')", name=op.f("ck_questions_kind_known")),
        sa.CheckConstraint("(answer IS NULL) = (answered_at IS NULL)", name=op.f("ck_questions_answered_at_a_moment")),
        sa.CheckConstraint("round >= 1", name=op.f("ck_questions_round_counts_from_1")),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.execution_id"], name=op.f("fk_questions_execution_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_questions_run_id")),
        sa.PrimaryKeyConstraint("question_id", name=op.f("pk_questions")),
        sa.UniqueConstraint("run_id", "kind", "round", name=op.f("uq_questions_run_id_kind_round")),
    )
    op.create_index(op.f("ix_questions_execution_id"), "questions", ["execution_id"], unique=False)
    op.create_table(
        "machines",
        sa.Column("machine_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("home", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_machines")),
    )
    op.create_table(
        "slots",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('agent')", name=op.f("ck_slots_kind_known")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name=op.f("fk_slots_run_id")),
        sa.PrimaryKeyConstraint("kind", "run_id", name=op.f("pk_slots")),
    )


def downgrade() -> None:
    for table in ("slots", "machines", "questions"):
        op.drop_table(table)
    op.execute("UPDATE sites SET state = 'degraded' WHERE state NOT IN ('live', 'degraded')")
    with op.batch_alter_table("sites") as sites:
        sites.drop_constraint(op.f("ck_sites_state_known"), type_="check")
        sites.create_check_constraint(op.f("ck_sites_state_known"), "state IN ('live', 'degraded')")
        sites.drop_column("expires_at")
        sites.drop_column("good_release")
    with op.batch_alter_table("runs") as runs:
        runs.drop_constraint(op.f("ck_runs_only_releasing_runs_lead"), type_="check")
        runs.drop_constraint(op.f("ck_runs_verb_known"), type_="check")
        runs.create_check_constraint(op.f("ck_runs_verb_known"), "verb IN ('full-build', 'redeploy', 'reverify')")
        runs.create_check_constraint(op.f("ck_runs_reverify_never_leads"), "NOT (leads AND verb = 'reverify')")
        runs.drop_column("machine_id")
