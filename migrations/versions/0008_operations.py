"""What is asked of Stripe after an invoice stands there.

Why: it is being built.
Locks: none.
Undo: nothing to undo.
"""

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
