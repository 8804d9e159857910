"""How far the two sides were compared.

Why: it is being built.
Locks: none.
Undo: nothing to undo.
"""

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
