"""Since when Stripe is away, and how far its events were read.

Why: it is being built.
Locks: none.
Undo: nothing to undo.
"""

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
