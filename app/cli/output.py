"""What commands print: one summary line, or the same as JSON; progress on a terminal only."""

import dataclasses
import json
import sys
from datetime import UTC, datetime
from typing import Any

import click


def require_past(as_of: datetime) -> datetime:
    """`as_of` itself, refused if it is later than the clock: nothing is billed before it happened."""
    now = datetime.now(UTC)
    if as_of > now:
        raise click.BadParameter(
            f"{as_of.isoformat()} is in the future (it is {now.isoformat(timespec='seconds')}). Give a past time.",
            param_hint="--as-of",
        )
    return as_of


def print_summary(title: str, summary: Any, *, as_json: bool) -> None:
    """Print a run's summary dataclass: counts in one line, its problems one by one on standard error."""
    values = dataclasses.asdict(summary)
    problems = values.pop("problems", [])
    if as_json:
        click.echo(json.dumps({**values, "problems": problems}, default=str))
        return
    click.echo(f"{title}: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in values.items()))
    for problem in problems:
        click.echo(f"  {problem}", err=True)


def show_progress(text: str) -> None:
    """Overwrite the terminal's last line; print nothing where there is no terminal."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text}", nl=False, err=True)


def end_progress() -> None:
    """Clear the progress line."""
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
