"""Nothing yet.

Why: reserved.
Locks: none.
Undo: nothing.
"""

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Nothing to do."""


def downgrade() -> None:
    """Nothing to undo."""
