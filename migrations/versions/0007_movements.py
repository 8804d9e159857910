"""Money that moves after an invoice is final, and tasks for people.

Why: it is being built.
Locks: none.
Undo: nothing to undo.
"""

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
