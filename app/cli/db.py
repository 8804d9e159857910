"""`billing db`: migrations, and who connects as whom."""

import json
from typing import Any

import click
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.types import TypeEngine

from app.cli import Group, example
from app.config import load_config
from app.database import MIGRATIONS, normalise_url, upgrade
from app.logins import logins
from app.tables import METADATA


@click.group(cls=Group)
def db() -> None:
    """Bring the database's schema up to date, and look after who may do what in it."""


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
    """Compare tables and functions in code with those of the database; exit 1 if they drifted apart."""
    engine = sqlalchemy.create_engine(normalise_url(load_config().database_url), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        drift = drift_of(connection) + foreign_functions(connection)
    for difference in drift:
        click.echo(difference)
    if drift:
        raise click.exceptions.Exit(1)
    click.echo("Code and database agree.")


@example("billing db roles")
@db.command("roles")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead, one member per login.")
def roles(as_json: bool) -> None:
    """Say as whom processes, panel and migrations log in; exit 1 if one could become more than it needs."""
    found = logins(load_config())
    exceeding = [login for login in found if login.excess]
    if as_json:
        rows = [
            {
                "purpose": login.purpose,
                "login": login.name,
                "could_become": sorted(login.could_become),
                "excess": sorted(login.excess),
            }
            for login in found
        ]
        click.echo(json.dumps(rows))
    else:
        for login in found:
            excess = f", too much: {', '.join(sorted(login.excess))}" if login.excess else ""
            click.echo(f"{login.purpose:<10} {login.name:<20} {', '.join(sorted(login.could_become))}{excess}")
        click.echo(
            "Give processes and panel logins of their own: docs/operations.md, Database roles."
            if exceeding
            else "Nobody could become more than it needs."
        )
    if exceeding:
        raise click.exceptions.Exit(1)


def drift_of(connection: sqlalchemy.Connection) -> list[str]:
    """Where tables and columns in code differ from the database; keys, checks and triggers live in migrations only."""

    def compared(item: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
        return (
            kind in ("table", "column") and not getattr(item, "info", {}).get("is_view") and name != "alembic_version"
        )

    context = MigrationContext.configure(
        connection, opts={"include_object": compared, "compare_type": _type_differs, "compare_server_default": False}
    )
    # Changes of one column come as a list of their own. Comments are for people who read the database, not for code.
    found = [
        step
        for difference in compare_metadata(context, METADATA)
        for step in (difference if isinstance(difference, list) else [difference])
    ]
    return [repr(step) for step in found if not str(step[0]).endswith("_comment")]


def _type_differs(
    context: MigrationContext,
    inspected: sqlalchemy.Column[Any],
    mapped: sqlalchemy.Column[Any],
    inspected_type: TypeEngine[Any],
    _mapped_type: TypeEngine[Any],
) -> bool | None:
    """A domain counts as the type below it, which is what code sees of it; Alembic compares all others."""
    if not isinstance(inspected_type, DOMAIN):
        return None
    return context.impl.compare_type(sqlalchemy.Column(inspected.name, inspected_type.data_type), mapped)


def foreign_functions(connection: sqlalchemy.Connection) -> list[str]:
    """Functions of the schema whose body stands in no migration: somebody replaced a guard, or added one."""
    written = "".join(path.read_text() for path in sorted((MIGRATIONS / "versions").glob("*.py")))
    rows = connection.execute(
        sqlalchemy.text("""
            SELECT p.oid::regprocedure::text AS name, p.prosrc FROM pg_proc p
             WHERE p.pronamespace = 'public'::regnamespace
               AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e') ORDER BY 1""")
    )
    return [f"function {row.name}: its body stands in no migration" for row in rows if row.prosrc not in written]
