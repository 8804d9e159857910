"""`billing services`: the embedded Postgres, Redis and Stripe sandbox."""

import json
import os
import shlex

import click

from app import embedded
from app.cli import Group, example
from app.config import configured_ports, var_folder
from app.embedded import ServiceUrls

NOT_RUNNING = 3
"""The exit status of `status` when a service does not run, as the Linux Standard Base has it."""


@click.group(cls=Group)
def services() -> None:
    """Start and stop the embedded Postgres, Redis and Stripe sandbox.

    They are real servers on loopback ports, with their data under var/ (BILLING_VAR). BILLING_PG_PORT,
    BILLING_REDIS_PORT and BILLING_SANDBOX_PORT choose their ports; otherwise free ones are chosen once and kept.
    """


def _ensure_up() -> ServiceUrls:
    return embedded.ensure_up(var_folder(os.environ), ports=configured_ports(os.environ))


@example("billing services up")
@services.command()
def up() -> None:
    """Start those that do not run, as daemons, and wait until they answer."""
    _ensure_up()
    for service in embedded.status(var_folder(os.environ)):
        click.echo(f"{service.name:<9} up at {service.address}, process {service.pid}, log {service.log}")


@example("billing services down")
@services.command()
@click.option("--erase", is_flag=True, help="Delete all their data as well.")
def down(erase: bool) -> None:
    """Stop those that run, and wait for their end. Their data is kept."""
    var = var_folder(os.environ)
    stopped = embedded.down(var)
    for name in stopped:
        click.echo(f"{name:<9} stopped")
    if erase:
        embedded.erase(var)
        click.echo(f"erased their data under {var}")
    elif not stopped:
        click.echo("nothing was running")


@example("billing services status --json")
@services.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead, one member per service.")
@click.pass_context
def status(ctx: click.Context, as_json: bool) -> None:
    """Say what runs, and where. Exit status 3 if a service does not."""
    found = embedded.status(var_folder(os.environ))
    if as_json:
        rows = {
            service.name: {
                "address": service.address,
                "pid": service.pid,
                "ready": service.is_ready,
                "log": str(service.log),
            }
            for service in found
        }
        click.echo(json.dumps(rows))
    elif not found:
        click.echo("never started here: billing services up")
    else:
        for service in found:
            state = "up" if service.is_ready else "not answering" if service.pid else "down"
            process = f"process {service.pid}, " if service.pid else ""
            click.echo(f"{service.name:<9} {state} at {service.address}, {process}log {service.log}")
    if not found or not all(service.is_ready for service in found):
        ctx.exit(NOT_RUNNING)


@example('eval "$(billing services env)"')
@services.command()
def env() -> None:
    """Print the variables that lead to the services, as shell `export` lines; starts those that do not run."""
    for name, value in _ensure_up().as_environment().items():
        click.echo(f"export {name}={shlex.quote(value)}")
