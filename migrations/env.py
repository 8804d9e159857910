"""Runs the migrations on the connection that `app.database.upgrade` hands over.

A migration must never queue behind a long read while everybody else queues behind it, so it gives up on a lock after
two seconds and on a statement after ten minutes; `upgrade` tries again.
"""

from alembic import context
from sqlalchemy import Connection, text

from app.tables import METADATA

LOCK_TIMEOUT = "2s"
STATEMENT_TIMEOUT = "10min"


def run() -> None:
    connection = context.config.attributes.get("connection")
    if not isinstance(connection, Connection):
        raise TypeError("Run migrations with `billing db upgrade`: it opens the connection they need.")
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
    context.configure(connection=connection, target_metadata=METADATA, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


run()
