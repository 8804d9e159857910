"""The `billing` command itself: help without imports, refusals without tracebacks, times with a zone."""

import subprocess
import sys
from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner

from app.cli import COMMANDS, main
from app.cli.instants import Instant
from app.config import ConfigError
from ledger.errors import LedgerError


def test_help_lists_every_command_and_imports_none() -> None:
    script = (
        "import sys; from app.cli import main; main(['--help'], standalone_mode=False);"
        "print([name for name in sys.modules if name.startswith(('app.', 'sqlalchemy', 'flask'))])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert answer.splitlines()[-1] == "['app.cli']"
    assert [name for name in COMMANDS if f"\n  {name} " not in answer] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_in_its_help(name: str) -> None:
    def leaves(command: click.Command, words: list[str]) -> list[list[str]]:
        if isinstance(command, click.Group):
            return [leaf for sub, found in command.commands.items() for leaf in leaves(found, [*words, sub])]
        return [words]

    command = main.get_command(click.Context(main), name)
    assert command is not None
    for words in leaves(command, [name]):
        answer = CliRunner().invoke(main, [*words, "--help"])
        assert answer.exit_code == 0
        assert "Example" in answer.output, words


def test_an_unknown_command_is_a_wrong_call() -> None:
    assert CliRunner().invoke(main, ["fly"]).exit_code == 2


@pytest.mark.parametrize("kind", [ConfigError, LedgerError])
def test_a_refusal_of_a_room_is_one_line_and_status_2(
    kind: type[ConfigError] | type[LedgerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def refuse() -> None:
        raise kind("no such thing; make one")

    monkeypatch.setitem(globals(), "refusing", refuse)
    monkeypatch.setitem(COMMANDS, "refuse", (f"{__name__}:refusing", ""))
    answer = CliRunner().invoke(main, ["refuse"])
    assert answer.exit_code == 2
    assert answer.stderr == f"error [{kind.code}]: no such thing; make one\n"


def test_an_error_of_another_library_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign(Exception):
        code = "e3q8"

    @click.command()
    def fail() -> None:
        raise Foreign

    monkeypatch.setitem(globals(), "failing", fail)
    monkeypatch.setitem(COMMANDS, "fail", (f"{__name__}:failing", ""))
    assert isinstance(CliRunner().invoke(main, ["fail"]).exception, Foreign)


@pytest.mark.parametrize("text", ["2025-07-01T02:00:00+02:00", "2025-07-01T00:00:00Z", "2025-07-01T00:00Z"])
def test_a_time_with_a_zone_is_that_instant_in_utc(text: str) -> None:
    assert Instant().convert(text, None, None) == datetime(2025, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2025-07-01T00:00:00", "2025-07-01", "now", "yesterday", ""])
def test_a_time_without_a_zone_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Instant().convert(text, None, None)
