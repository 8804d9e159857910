"""`billing stripe check`: whether the key and the webhook endpoint are as we need them."""

import json
from dataclasses import asdict

import click

from app.cli import example
from app.composition import build
from app.config import load_config
from stripe_gateway.key_check import key_kind


@example("billing stripe check")
@click.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def check(as_json: bool) -> None:
    """Ask Stripe what the configured key may read, whose it is, and how the webhook endpoint is set up.

    Changes nothing, so permissions to write are not tried: docs/stripe-key.md lists them. Exit status 1 if something
    is missing or set up wrongly.
    """
    config = load_config()
    billing = build(config)
    report = billing.provider.check_key()
    kind = key_kind(config.stripe_api_key)
    if as_json:
        click.echo(json.dumps({"key": kind, **asdict(report)}))
    else:
        account = f"account {report.account}" if report.account else "may not read the account, and need not"
        click.echo(
            f"Key: {kind}; {account}; "
            f"{len(report.allowed)} resources readable, {len(report.missing)} missing, {len(report.problems)} problems"
        )
        for resource in report.missing:
            click.echo(f"  the key may not read {resource}: allow it at Stripe, Developers, API keys", err=True)
        untold = [resource for resource in report.untold if resource != "account"]
        if untold:
            click.echo(
                f"  only found out by using them: {', '.join(untold)} (docs/stripe-key.md says what the key needs)",
                err=True,
            )
        for problem in report.problems:
            click.echo(f"  {problem}", err=True)
    billing.dispose()
    if report.missing or report.problems:
        raise click.exceptions.Exit(1)
