"""`billing db`: migrations."""

import click
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.cli import example
from app.config import load_config
from app.database import normalise_url, upgrade
from app.tables import METADATA


@click.group()
def db() -> None:
    """Bring the database's schema up to date."""


@example("billing db upgrade")
@db.command("upgrade")
def upgrade_command() -> None:
    """Run the migrations that have not run yet. Safe to run twice, and by two processes at once."""
    config = load_config()
    upgrade(config.database_owner_url or config.database_url)
    click.echo("The schema is up to date.")


@example("billing db check")
@db.command("check")
def check() -> None:
    """Compare the tables as mapped in code with the database; exit 1 if they drifted apart."""
    engine = sqlalchemy.create_engine(normalise_url(load_config().database_url), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        drift = drift_of(connection)
    for difference in drift:
        click.echo(difference)
    if drift:
        raise click.exceptions.Exit(1)
    click.echo("Code and database agree.")


def drift_of(connection: sqlalchemy.Connection) -> list[str]:
    """Where tables and columns in code differ from the database; keys, checks and triggers live in migrations only."""

    def compared(item: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        return (
            kind in ("table", "column") and not getattr(item, "info", {}).get("is_view") and name != "alembic_version"
        )

    context = MigrationContext.configure(
        connection, opts={"include_object": compared, "compare_type": True, "compare_server_default": False}
    )
    # Changes of one column come as a list of their own. Comments are for people who read the database, not for code.
    found = [
        step
        for difference in compare_metadata(context, METADATA)
        for step in (difference if isinstance(difference, list) else [difference])
    ]
    return [repr(step) for step in found if not str(step[0]).endswith("_comment")]
