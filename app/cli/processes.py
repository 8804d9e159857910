"""`billing web|worker|cron|sandbox|run`: the processes."""

import os
import sys
from collections.abc import Mapping, Sequence

import click

from app.cli import example
from app.config import Config, ConfigError, configured_ports, embedded_names, load_config, var_folder
from app.embedded import home as homes
from app.embedded import launcher
from app.embedded import state as states
from app.embedded.errors import PortTaken
from app.embedded.sandbox import Sandbox

WEB_WORKERS = 2
WEB_THREADS = 4
WEB_GRACE_S = 5
"""How long a web worker may finish its requests after SIGTERM."""


class AlreadyRunning(ConfigError):
    """Another `billing sandbox` has this folder."""

    code = "already_running"


def _replace_process(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Become that program, so that signals and the exit status are its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(words[0], list(words), dict(environment))  # noqa: S606 - our own words, no shell


@example("BILLING_WEB_PORT=8080 billing web")
@click.command()
def web() -> None:
    """Serve the site, the customer panel, the API and the webhook endpoint on 127.0.0.1."""
    config = load_config()
    port = config.web_port
    if not states.is_free(port):
        if config.web_port_is_configured:
            raise PortTaken(f"Port {port} is in use. Free it, or set BILLING_WEB_PORT to another port.")
        port = states.choose_port()
        click.echo(
            f"Port {config.web_port} is in use; serving at {port}, where the sandbox sends no webhooks.", err=True
        )
    click.echo(f"Serving at http://127.0.0.1:{port}")
    words = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--workers", str(WEB_WORKERS)]
    words += ["--threads", str(WEB_THREADS), "--bind", f"127.0.0.1:{port}", "--graceful-timeout", str(WEB_GRACE_S)]
    # Its control socket would stand in the home folder, where a second server or a read-only disk trips on it.
    words += ["--no-control-socket", "app.wsgi:app"]
    _replace_process(words, os.environ | {"BILLING_WEB_PORT": str(port)})


@example("billing worker")
@click.command()
def worker() -> None:
    """Do what is due: sync invoices, handle webhooks. Any number of workers may run."""
    from app.worker import main

    main(load_config())


@example("billing cron")
@click.command()
def cron() -> None:
    """Close periods, finalize drafts, sync and reconcile at their times."""
    from app.scheduler import main

    main(load_config())


@example("billing sandbox\nbilling sandbox --settlement-currency EUR --exchange-rate USD=0.92")
@click.command()
@click.option(
    "--settlement-currency", help="What the account settles in, such as EUR. Default: as last time, at first nothing."
)
@click.option(
    "--exchange-rate", multiple=True, help="What one of a currency is worth in it, such as USD=0.92. May be repeated."
)
def sandbox(settlement_currency: str | None, exchange_rate: tuple[str, ...]) -> None:
    """Serve the Stripe sandbox in the foreground. It keeps its state in var/, and what it settles in as well."""
    home = homes.open_home(var_folder(os.environ))
    ports = configured_ports(os.environ)
    with states.locked(home.var):
        state = launcher.open_state(home, ports)
        running = launcher.build(Sandbox.name, home, state).find()
        if running is not None:
            raise AlreadyRunning(f"The sandbox runs already, process {running.pid}. Stop it: billing services down")
        state = states.with_port(state, Sandbox.port_name, ports)
        states.write(home.var, state)
    click.echo(f"Serving at {state.stripe_api_base}")
    os.chdir(home.var)
    words = launcher.build(Sandbox.name, home, state).command()
    words += ["--settlement-currency", settlement_currency] if settlement_currency is not None else []
    words += [word for rate in exchange_rate for word in ("--exchange-rate", rate)]
    _replace_process(words, os.environ)


def _addresses(config: Config, sign_ins: Sequence[tuple[str, str, str]]) -> list[str]:
    """What a newcomer needs to know once the site answers."""
    from app.demo.seed import KEPT_IN

    lines = [
        "",
        f"Support      {config.public_url}/support/",
        f"Customers    {config.public_url}/billing/",
        f"API          {config.public_url}/api/v1/",
    ]
    if config.stripe_api_base:
        lines.append(f"Sandbox      {config.stripe_api_base}/  (stands in for Stripe; no real money)")
    lines += [f"Sign in as   {email}  {password}  ({role})" for email, password, role in sign_ins]
    if sign_ins:
        lines.append("A customer   billing demo panel-link  prints a link that opens a customer's panel once")
        lines.append(f"API token    in {config.var / KEPT_IN}")
    return [*lines, "Stop with    Ctrl-C", ""]


@example("make run")
@click.command()
def run() -> None:
    """Run everything until Ctrl-C: embedded services, migrations, demo data, web, worker, cron and sandbox.

    Demo data goes into an empty embedded database only, and never to Stripe itself.
    """
    from app.supervisor import Program, Supervisor, child_environment, own_command

    var = var_folder(os.environ)
    home = homes.open_home(var)
    ports = configured_ports(os.environ)
    names = embedded_names(os.environ)
    with states.supervised(var):
        with states.locked(var):
            states.write(var, states.with_port(launcher.open_state(home, ports), "web_port", ports))
        environment = child_environment(var, names, os.environ)
        config = Config.from_env(environment)
        supervisor = Supervisor(home, names, ports, out=sys.stdout)
        sign_ins: list[tuple[str, str, str]] = []

        def prepare() -> list[Program]:
            from app.database import upgrade

            # A service may have had to take another port.
            environment.update(child_environment(var, names, os.environ))
            current = Config.from_env(environment)
            supervisor.say("billing", "bringing the database up to date")
            upgrade(current.database_owner_url or current.database_url)
            if {"postgres", "sandbox"} <= set(names):
                from app.demo import seed

                supervisor.say("billing", "looking for demo data, and making it if there is none")
                seed.seed_if_empty(current)
                sign_ins.extend(seed.SIGN_INS)
            return [Program(name, own_command(name), environment) for name in ("web", "worker", "cron")]

        supervisor.run(
            prepare=prepare,
            health_url=f"http://127.0.0.1:{config.web_port}/healthz",
            announce=lambda: _addresses(Config.from_env(environment), sign_ins),
        )
