"""`python -m stripe_gateway.sandbox`: the sandbox as a process of its own."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from .errors import ApiError
from .recorder import EXCHANGES_VARIABLE
from .server import NotLoopback, serve
from .settings import Settings


def main(argv: list[str] | None = None) -> int:
    """Read the command line and serve; returns the exit code."""
    standard = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m stripe_gateway.sandbox",
        description="A stand-in for Stripe on the loopback interface. It moves no money.",
        epilog="Example: python -m stripe_gateway.sandbox --port 0 --api-key sk_test_demo"
        " --webhook-url http://127.0.0.1:8000/webhooks/stripe --webhook-secret whsec_demo",
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default %(default)s)")
    parser.add_argument("--port", type=int, required=True, help="0 picks a free one and prints it")
    parser.add_argument("--port-file", type=Path, help="write the port into this file once it serves")
    parser.add_argument("--database", type=Path, help="SQLite file; without it everything is forgotten at the end")
    parser.add_argument("--api-key", required=True, help="the key that clients must send")
    parser.add_argument("--webhook-url", help="where events are delivered; without it they are only listed")
    parser.add_argument("--webhook-secret", default="", help="signs the deliveries")
    parser.add_argument("--webhook-events", default="*", help="comma list of event types (default: all)")
    parser.add_argument("--webhook-workers", type=int, default=4, help="deliveries at a time (default %(default)s)")
    parser.add_argument(
        "--rate-per-endpoint", type=float, help=f"requests a second (default {standard.rate_per_endpoint:g})"
    )
    parser.add_argument("--rate-global", type=float, help=f"requests a second (default {standard.rate_global:g})")
    parser.add_argument("--no-limits", action="store_true", help="switch the rate limits off")
    parser.add_argument("--collection-delay", type=float, help="seconds from finalization to the charge (default 1)")
    parser.add_argument("--settlement-delay", type=float, help="seconds from charge to balance transaction (default 1)")
    parser.add_argument(
        "--settlement-currency", metavar="EUR", help="what the account settles in (default: each currency as itself)"
    )
    parser.add_argument(
        "--exchange-rate", type=_rate, action="append", metavar="USD=0.92",
        help="what one of a currency is worth in the settlement currency; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--exchanges",
        type=Path,
        metavar="FOLDER",
        default=os.environ.get(EXCHANGES_VARIABLE),
        help=f"write down there what was said over the wire, as JSON lines (default: ${EXCHANGES_VARIABLE})",
    )
    asked = parser.parse_args(argv)
    if asked.webhook_url and not asked.webhook_secret:
        parser.error("--webhook-url needs --webhook-secret")
    settings = {
        "rate_per_endpoint": asked.rate_per_endpoint,
        "rate_global": asked.rate_global,
        "limits_enabled": False if asked.no_limits else None,
        "collection_delay_s": asked.collection_delay,
        "settlement_delay_s": asked.settlement_delay,
        "settlement_currency": asked.settlement_currency,
        "exchange_rates": dict(asked.exchange_rate) if asked.exchange_rate else None,
    }
    try:
        serve(
            host=asked.host,
            port=asked.port,
            database=asked.database,
            api_key=asked.api_key,
            webhook_url=asked.webhook_url,
            webhook_secret=asked.webhook_secret,
            webhook_events=[name.strip() for name in asked.webhook_events.split(",") if name.strip()],
            webhook_workers=asked.webhook_workers,
            settings={name: value for name, value in settings.items() if value is not None},
            port_file=asked.port_file,
            exchanges=asked.exchanges,
        )
    except (NotLoopback, OSError, ApiError) as error:
        print(f"The sandbox cannot start: {error}", file=sys.stderr)
        return 2
    return 0


def _rate(text: str) -> tuple[str, str]:
    """A currency and what one of it is worth, such as USD=0.92."""
    currency, _, rate = text.partition("=")
    if not rate:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate. Write it as USD=0.92")
    return currency, rate


if __name__ == "__main__":
    sys.exit(main())
