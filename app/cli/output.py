"""What commands print: one summary line, or the same as JSON; progress on a terminal only."""

import contextlib
import dataclasses
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import click


def require_past(as_of: datetime, *, option: str = "--as-of") -> datetime:
    """`as_of` itself, refused if it is later than the clock: nothing is billed or known before it happened."""
    now = datetime.now(UTC)
    if as_of > now:
        raise click.BadParameter(
            f"{as_of.isoformat()} is in the future (it is {now.isoformat(timespec='seconds')}). Give a past time.",
            param_hint=option,
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


@contextlib.contextmanager
def written(output: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that takes its place only when everything is in it."""
    if output is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Whatever the terminal speaks, a journal in another encoding would be another journal; and CSV brings its
            # own line ends.
            sys.stdout.reconfigure(encoding="utf-8", newline="")
        yield sys.stdout
        return
    if not output.parent.is_dir():
        raise click.BadParameter(f"{output.parent} is no folder. Make it first.", param_hint="--output")
    handle, draft = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, output)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
