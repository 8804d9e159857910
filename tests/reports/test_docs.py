"""docs/reports.md shows what the commands print, and names each of them."""

import re
import shlex
from pathlib import Path

import click

from app.cli.reports import report as commands
from tests.invoicing.conftest import Company
from tests.reports.conftest import Report, settle_abroad

DOCS = Path(__file__).parents[2] / "docs" / "reports.md"
EXAMPLE = re.compile(r"^```console\n\$ billing report (?P<words>.*)\n(?P<shown>(?:.*\n)*?)```$", re.MULTILINE)


def test_every_example_in_the_docs_is_what_the_command_prints(half_year: Company, report: Report) -> None:
    examples = list(EXAMPLE.finditer(DOCS.read_text(encoding="utf-8")))
    assert {shlex.split(example["words"])[0] for example in examples} == set(commands.commands)
    for example in examples:
        if shlex.split(example["words"])[0] == "exchange":
            settle_abroad(half_year)  # the last one: it would be in the others
        assert example["shown"] == report(*shlex.split(example["words"])), example["words"]


def test_every_report_takes_a_moment_of_the_past() -> None:
    for name, command in commands.commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert isinstance(command, click.Command)
        assert options >= {"--customer", "--as-of", "--known-at", "--format", "--output"}, name
