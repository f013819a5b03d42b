"""Feedback, judgements, re-scoring jobs, and where a quality comes from."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    """Create these tables, and keep what the checks said when a quality is revised."""
    _extend_requests()
    _create_stored_texts()
    _create_feedback()
    _create_judgements()
    _create_rescore_jobs()


def _extend_requests() -> None:
    op.add_column("requests", sa.Column("quality_confidence", sa.Float(), nullable=True))
    op.add_column("requests", sa.Column("checks_quality", sa.Float(), nullable=True))
    op.add_column("requests", sa.Column("quality_pending", sa.Boolean(), nullable=True))
    op.execute("UPDATE requests SET checks_quality = quality WHERE quality_source = 'checks'")
    op.create_index("requests_by_prompt", "requests", ["prompt_hash"])
    op.create_index(
        "requests_quality_pending",
        "requests",
        ["user_id", "created_at", "request_id"],
        postgresql_where=sa.text("quality_pending"),
    )


def _create_stored_texts() -> None:
    op.create_table(
        "stored_texts",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("router_id", sa.String(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "request_id"),
    )
    op.create_index("stored_texts_by_router", "stored_texts", ["user_id", "router_id"])
    op.create_index(op.f("ix_stored_texts_expires_at"), "stored_texts", ["expires_at"])


def _create_feedback() -> None:
    op.create_table(
        "feedback",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("api_key_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("router_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("comment_encrypted", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "request_id", "api_key_id", "source"),
    )
    op.create_index("feedback_by_router", "feedback", ["user_id", "router_id", "model", "updated_at"])


def _create_judgements() -> None:
    op.create_table(
        "judgements",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("judge_model", sa.String(), nullable=False),
        sa.Column("rubric", sa.String(), nullable=False),
        sa.Column("job_user_id", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("reason_encrypted", sa.LargeBinary(), nullable=True),
        sa.Column("error_type", sa.String(), nullable=True),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("estimated_usd", sa.Float(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("user_id", "request_id", "judge_model", "rubric"),
    )
    op.create_index("judgements_by_job", "judgements", ["job_user_id", "job_id"])


def _create_rescore_jobs() -> None:
    op.create_table(
        "rescore_jobs",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("workflow_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("scored", sa.BigInteger(), nullable=False),
        sa.Column("sample_below", sa.BigInteger(), nullable=True),
        sa.Column("cursor_user", sa.String(), nullable=False),
        sa.Column("cursor_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cursor_id", sa.String(), nullable=False),
        sa.Column("judge_stopped", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("user_id", "id"),
    )
    op.create_index(
        "rescore_jobs_by_owner", "rescore_jobs", ["user_id", sa.text("created_at DESC"), sa.text("id DESC")]
    )
