"""The `billing` command. Each subcommand's module is imported only when it is called."""

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

CommandT = TypeVar("CommandT", bound=click.Command)

ROOMS = ("app", "support_ui", "stripe_gateway", "invoicing", "ledger")

COMMANDS = {
    "services": ("app.cli.services:services", "Start and stop the embedded Postgres, Redis and Stripe sandbox."),
    "db": ("app.cli.db:db", "Bring the database's schema up to date."),
    "usage": ("app.cli.usage:usage", "Import usage from files."),
    "customers": ("app.cli.customers:customers", "Create and show customers."),
    "prices": ("app.cli.prices:prices", "Show and load the price book."),
    "plans": ("app.cli.plans:plans", "Offer plans, and give them to customers."),
    "tax": ("app.cli.tax:tax", "Load and show tax rates, and say where customers are taxed."),
    "cycle": ("app.cli.cycle:cycle", "Close billing periods that are over."),
    "invoices": ("app.cli.invoices:invoices", "Finalize drafts and sync them to Stripe."),
    "credits": ("app.cli.credits:credits_group", "Grant, sell, expire and revoke credit."),
    "explain": ("app.cli.explain_line:explain_line_command", "Explain a line of an invoice, or of the period so far."),
    "bank": ("app.cli.bank:bank", "Take in bank statements of customers who pay by transfer."),
    "stripe": ("app.cli.stripe:stripe", "Compare with Stripe, and handle its webhooks again."),
    "ledger": ("app.cli.ledger:ledger", "Check the books and export them."),
    "report": ("app.cli.reports:report", "Sum the books up: trial balance, revenue, what is open."),
    "users": ("app.cli.users:users", "Manage the staff's sign-ins."),
    "tokens": ("app.cli.tokens:tokens", "Manage the platform's API tokens."),
    "demo": ("app.cli.demo:demo", "Fill an empty database with demo customers."),
    "web": ("app.cli.processes:web", "Serve the site and the API."),
    "worker": ("app.cli.processes:worker", "Do queued and due work."),
    "cron": ("app.cli.processes:cron", "Run the cycle's commands at their times."),
    "sandbox": ("app.cli.processes:sandbox", "Serve the Stripe sandbox."),
    "run": ("app.cli.processes:run", "Run everything, with embedded services, until Ctrl-C."),
}
"""Name, "module:attribute", and the line that `billing --help` prints. In the order in which a newcomer needs them."""

REFUSED = 2
"""The exit status for a command that refused, or was called wrongly."""


def refusal(error: Exception) -> str | None:
    """`error [code]: text` for an error that one of our rooms raises on purpose, None for any other.

    Ours alone have both a stable `code` and a module of ours; other libraries' exceptions have codes of other kinds.
    """
    code = getattr(error, "code", None)
    if type(error).__module__.partition(".")[0] not in ROOMS or not isinstance(code, str):
        return None
    return f"error [{code}]: {str(error) or inspect.getdoc(error) or code}"


def example(text: str) -> Callable[[CommandT], CommandT]:
    """Show an example at the end of a command's help, line by line as written. Stands above `@group.command()`."""

    def attach(command: CommandT) -> CommandT:
        command.epilog = "\b\nExample:\n" + "\n".join(f"  {line}" for line in text.splitlines())
        return command

    return attach


class Group(click.Group):
    """A group whose help says what each of its commands does in a whole sentence, where click cuts it off."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _first_sentence(command)) for name, command in sorted(self.commands.items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _first_sentence(command: click.Command) -> str:
    return command.get_short_help_str(limit=1000)


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports them when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name][0]} is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # click would import every command for its first line; the table has it.
        rows: Sequence[tuple[str, str]] = [(name, text) for name, (_, text) in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            text = refusal(error)
            if text is None:
                raise
            click.echo(text, err=True)
            ctx.exit(REFUSED)


@click.group(
    name="billing",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Every command takes --help and shows an example there.",
)
@click.version_option(package_name="fly-billing", prog_name="billing")
def main() -> None:
    """In-house billing: a ledger in Postgres, one invoice per customer and period, synced to Stripe once.

    Without DATABASE_URL, REDIS_URL or STRIPE_API_KEY the embedded service is used instead, and started if need be.
    """
