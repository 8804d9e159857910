"""`billing tokens`: the platform's API tokens."""

from datetime import UTC, datetime

import click

from app.accounts.tokens import create_token, list_tokens, revoke_token
from app.cli import Group, example
from app.config import load_config
from app.database import create_engine, session_scope


@click.group(cls=Group)
def tokens() -> None:
    """Manage the platform's API tokens.

    A token is shown once, when it is made; only its hash is kept. The journal names the token behind every entry that
    it posted, so a name is never given twice.
    """


@example("billing tokens create machines-meter")
@tokens.command()
@click.argument("name")
def create(name: str) -> None:
    """Make a token for the program NAME, and print it."""
    with session_scope(create_engine(load_config().database_url)) as session:
        token = create_token(session, name=name, now=datetime.now(UTC))
    # Alone on standard output, so that a script can keep it; the words go beside it.
    click.echo("Shown this once; send it as Authorization: Bearer TOKEN.", err=True)
    click.echo(token)


@example("billing tokens list")
@tokens.command("list")
def list_() -> None:
    """Show every token's name, and since when it is valid or revoked."""
    with session_scope(create_engine(load_config().database_url)) as session:
        found = list_tokens(session)
    if not found:
        click.echo("none yet: billing tokens create NAME", err=True)
    for token in found:
        state = f"revoked {token.revoked_at.isoformat(timespec='seconds')}" if token.revoked_at else "valid"
        click.echo(f"{token.name:<32} created {token.created_at.isoformat(timespec='seconds')}  {state}")


@example("billing tokens revoke machines-meter")
@tokens.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Make the token of the program NAME worthless at once."""
    with session_scope(create_engine(load_config().database_url)) as session:
        revoked = revoke_token(session, name=name, now=datetime.now(UTC))
    click.echo(f"revoked {name}" if revoked else f"{name} was revoked before")
