"""Whether we live, whether we can work, and the figures that an operator watches."""

from datetime import UTC, datetime

import redis
from flask import Blueprint, Response, current_app, jsonify
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.composition import Billing
from ledger.seals import unsealed

bp = Blueprint("health", __name__)

PROBE_TIMEOUT_S = 2


@bp.get("/healthz")
def healthz() -> ResponseReturnValue:
    """The process answers. Says nothing of others, so that losing Redis does not restart every web server."""
    return jsonify(status="ok")


@bp.get("/readyz")
def readyz() -> ResponseReturnValue:
    """Ready to serve: the database answers at the newest revision. Redis only rings the bell, so it may be away."""
    billing: Billing = current_app.extensions["billing"]
    parts = {"database": _database(billing), "redis": _redis(billing)}
    ready = parts["database"] == "ok"
    return jsonify(status="ok" if ready else "unavailable", **parts), 200 if ready else 503


def _database(billing: Billing) -> str:
    try:
        with Session(billing.engine) as session:
            session.execute(text("SELECT 1 FROM ledger_accounts LIMIT 1"))
    except DBAPIError as error:
        return str(error.orig).strip().splitlines()[0]
    return "ok"


def _redis(billing: Billing) -> str:
    try:
        with redis.Redis.from_url(billing.config.redis_url, socket_timeout=PROBE_TIMEOUT_S) as client:
            client.ping()
    except redis.RedisError as error:
        return f"away: {error}"
    return "ok"


FIGURES = {
    "billing_drafts": ("Open drafts", "SELECT count(*) FROM invoices WHERE state = 'draft'"),
    "billing_drafts_held": ("Drafts held for a person", "SELECT count(*) FROM invoices WHERE held_at IS NOT NULL"),
    "billing_invoices_open": ("Final invoices not yet paid", "SELECT count(*) FROM invoices WHERE state = 'final'"),
    "billing_parked": ("Customers' work set aside", "SELECT count(*) FROM parked_work WHERE released_at IS NULL"),
    "billing_periods_overdue": (
        "Open periods that ended more than a day ago",
        "SELECT count(*) FROM ledger_periods WHERE state = 'open' AND end_at < now() - interval '1 day'",
    ),
    "billing_stripe_away_seconds": (
        "How long Stripe has not answered; 0 while it does",
        "SELECT extract(epoch FROM now() - since) FROM stripe_outages WHERE until IS NULL",
    ),
}


@bp.get("/metrics")
def metrics() -> ResponseReturnValue:
    """Prometheus text, read from Postgres at each scrape: the same from every process."""
    billing: Billing = current_app.extensions["billing"]
    registry = CollectorRegistry()
    with Session(billing.engine) as session:
        for name, (title, query) in FIGURES.items():
            Gauge(name, title, registry=registry).set(float(session.scalar(text(query)) or 0))
        for name, (title, value) in unsealed_figures(session).items():
            Gauge(name, title, registry=registry).set(value)
        caught_up_to = billing.provider.caught_up_to(session)
        age_s = (datetime.now(UTC) - caught_up_to).total_seconds() if caught_up_to else 0.0
        title = "How long ago the provider's own list of events was last read to its end"
        Gauge("billing_catch_up_age_seconds", title, registry=registry).set(max(0.0, age_s))
        for name, title, counts in (
            ("billing_syncs", "Invoices on their way to the provider", billing.provider.sync_counts(session)),
            (
                "billing_operations",
                "Refunds, voids and the like",
                billing.provider.operation_counts(session),
            ),
            ("billing_inbox_events", "Stored webhook events", billing.provider.inbox_counts(session)),
        ):
            gauge = Gauge(name, title, ["state"], registry=registry)
            for state, count in counts.items():
                gauge.labels(state).set(count)
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def unsealed_figures(session: Session) -> dict[str, tuple[str, float]]:
    """What of the journal no seal covers yet: title and value of each figure, by its name."""
    found = unsealed(session)
    oldest = found.oldest_recorded_at
    age_s = (datetime.now(UTC) - oldest).total_seconds() if oldest is not None else 0.0
    return {
        "billing_ledger_unsealed_entries": ("Entries that no seal covers yet", found.entries),
        "billing_ledger_unsealed_age_seconds": (
            "How long the oldest entry that no seal covers has waited",
            max(0.0, age_s),
        ),
    }
