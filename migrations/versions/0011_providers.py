"""Who collects from each customer.

Why: it is being built.
Locks: none.
Undo: nothing to undo.
"""

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
