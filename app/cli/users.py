"""`billing users`: the staff's sign-ins."""

import sys
from datetime import UTC, datetime

import click

from app.accounts import staff
from app.cli import Group, example
from app.config import load_config
from app.database import create_engine, session_scope
from support_ui.access import ROLES


@click.group(cls=Group)
def users() -> None:
    """Manage the staff's sign-ins.

    Roles, each of which may do what those before it may: viewer reads; agent adjusts, holds, finalizes and retries;
    approver approves others' large adjustments; admin manages users. Passwords never stand on the command line: they
    are asked for on a terminal, and read from the first line of standard input otherwise.
    """


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


@example("billing users create --email agent@example.org --name 'Support desk' --role agent --generate")
@users.command()
@click.option("--email", required=True, help="The address to sign in with.")
@click.option("--name", required=True, help="The name that pages show.")
@click.option("--role", required=True, type=click.Choice(ROLES), help="What the user may do.")
@click.option("--generate", is_flag=True, help="Make up a password and print it, instead of asking for one.")
def create(email: str, name: str, role: str, generate: bool) -> None:
    """Make a user who can sign in."""
    password = staff.generate_password() if generate else _password()
    engine = create_engine(load_config().database_url)
    with session_scope(engine) as session:
        user = staff.create_user(session, email=email, name=name, role=role, password=password, now=datetime.now(UTC))
    click.echo(f"created {user.email} as {user.role}")
    if generate:
        click.echo(f"password: {password}")


@example("billing users list")
@users.command("list")
def list_() -> None:
    """Show everybody, with role, state and when they were last seen."""
    engine = create_engine(load_config().database_url)
    with session_scope(engine) as session:
        found = staff.list_users(session)
    if not found:
        click.echo("nobody yet: billing users create")
    for user in found:
        seen = user.last_seen_at.isoformat(timespec="seconds") if user.last_seen_at else "never"
        state = "active" if user.active else "not active"
        click.echo(f"{user.email:<40} {user.role:<9} {state:<11} last seen {seen}")


@example("billing users password agent@example.org --generate")
@users.command()
@click.argument("email")
@click.option("--generate", is_flag=True, help="Make up a password and print it, instead of asking for one.")
def password(email: str, generate: bool) -> None:
    """Give a user another password, and sign them out everywhere."""
    new = staff.generate_password() if generate else _password()
    engine = create_engine(load_config().database_url)
    with session_scope(engine) as session:
        user = staff.set_password(session, email=email, password=new)
    click.echo(f"changed the password of {user.email}; signed out everywhere")
    if generate:
        click.echo(f"password: {new}")


@example("billing users deactivate agent@example.org")
@users.command()
@click.argument("email")
def deactivate(email: str) -> None:
    """Shut a user out, at once and everywhere; what they did stays under their name."""
    engine = create_engine(load_config().database_url)
    with session_scope(engine) as session:
        user = staff.deactivate(session, email=email)
    click.echo(f"deactivated {user.email}; signed out everywhere")
