"""What routers learn online, and the answers it follows from."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Routers begin with what their next answers say: older ones are in the vector store alone."""
    text, number, octets = sa.String(), sa.Float(), sa.LargeBinary()
    op.create_table(
        "learners",
        sa.Column("user_id", text, primary_key=True),
        sa.Column("router_id", text, primary_key=True),
        sa.Column("version", sa.BigInteger(), nullable=False),
        *(sa.Column(name, number, nullable=False) for name in ("began_at", "updated_at")),
        sa.Column("basis", octets),
        sa.Column("basis_name", text, nullable=False),
        sa.Column("basis_prompts", sa.Integer(), nullable=False),
        *(sa.Column(name, octets, nullable=False) for name in ("inherited", "learnt")),
        sa.ForeignKeyConstraint(["user_id", "router_id"], ["routers.user_id", "routers.id"], ondelete="CASCADE"),
    )
    numbers = ("quality", "weight", "input_tokens", "output_tokens", "latency_ms", "prompt_tokens", "at")
    op.create_table(
        "learnt_answers",
        sa.Column("user_id", text, primary_key=True),
        sa.Column("request_id", text, primary_key=True),
        *(sa.Column(name, text, nullable=False) for name in ("router_id", "prompt", "model")),
        *(sa.Column(name, number, nullable=False) for name in numbers),
        sa.Column("embedding", octets, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "router_id"], ["learners.user_id", "learners.router_id"], ondelete="CASCADE"
        ),
    )
    op.create_index("learnt_answers_by_prompt", "learnt_answers", ["user_id", "router_id", "prompt"])
    op.create_table(
        "regrades",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("user_id", text, nullable=False),
        sa.Column("request_id", text, nullable=False),
    )
