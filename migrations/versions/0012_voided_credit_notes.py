"""Nothing yet.

Why: reserved.
Locks: none.
Undo: nothing.
"""

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Nothing to do."""


def downgrade() -> None:
    """Nothing to undo."""
