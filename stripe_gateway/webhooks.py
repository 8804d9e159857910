"""The front door for Stripe's events: check the signature on the raw bytes, store the event, nothing else.

Source: https://docs.stripe.com/webhooks#verify-manually
"""

import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import literal_column
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from stripe_gateway.errors import BadEvent, BadSignature, BodyTooLarge
from stripe_gateway.tables import StripeEvent

TOLERANCE_S = 300
"""How far the signature's time may be from ours, either way: an older delivery is a replay."""

MAX_BODY_BYTES = 1_000_000
SCHEME = "v1"


def verify(body: bytes, signature: str, *, secrets: Sequence[str], now: datetime) -> None:
    """Check that Stripe signed these bytes just now, with any of the secrets.

    Raises:
        BadSignature: it did not, or longer than five minutes ago.
    """
    stamp, candidates = _read_header(signature)
    if stamp is None or not candidates:
        raise BadSignature("The Stripe-Signature header is missing or malformed.")
    signed = f"{stamp}.".encode() + body
    expected = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode() for secret in secrets]
    if not any(hmac.compare_digest(one, other) for one in expected for other in candidates):
        raise BadSignature(
            "The signature does not fit the body. If the webhook's secret was changed at Stripe, set "
            "STRIPE_WEBHOOK_SECRET to the new one, or to both for a day."
        )
    if abs(now.timestamp() - stamp) > TOLERANCE_S:
        raise BadSignature("The signature is older than five minutes. If this happens often, check the host's clock.")


def _read_header(header: str) -> tuple[int | None, list[bytes]]:
    stamp, candidates = None, []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t" and value.isascii() and value.isdigit() and len(value) < 15:
            stamp = int(value)
        elif name == SCHEME:
            candidates.append(value.encode())
    return stamp, candidates


def receive(session: Session, *, body: bytes, signature: str, secrets: Sequence[str], now: datetime) -> str:
    """Verify and store one delivery; returns the event's id. The caller commits, then answers 200.

    The same event again only counts as one more delivery.

    Raises:
        BodyTooLarge, BadSignature, BadEvent: nothing is stored.
    """
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"A body of {len(body)} bytes is no event: Stripe's have at most {MAX_BODY_BYTES}.")
    verify(body, signature, secrets=secrets, now=now)
    event = _parse(body)
    return store(session, event, text=body.decode(), now=now)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        event = json.loads(body.decode())
    except ValueError as error:  # UnicodeDecodeError is one
        raise BadEvent("The body is signed, but it is no JSON.") from error
    if not _is_snapshot(event):
        raise BadEvent(
            "The body is signed, but it is no snapshot event. Set the webhook endpoint's payload style to Snapshot."
        )
    found: dict[str, Any] = event
    return found


def _is_snapshot(event: object) -> bool:
    return (
        isinstance(event, dict)
        and event.get("object") == "event"
        and all(isinstance(event.get(name), str) for name in ("id", "type"))
        and event["id"].startswith("evt_")
        and isinstance(event.get("created"), int)
        and isinstance(event.get("data"), dict)
        and isinstance(event["data"].get("object"), dict)
    )


def store(session: Session, event: dict[str, Any], *, text: str, now: datetime) -> str:
    """Store a verified event under its id, due now. The caller commits."""
    identity = event["data"]["object"].get("id")
    values = {
        "id": event["id"],
        "type": event["type"],
        "object_id": identity if isinstance(identity, str) else None,
        "livemode": bool(event.get("livemode")),
        "account": event.get("account"),
        "payload": text,
        "created_at": datetime.fromtimestamp(event["created"], tz=UTC),
        "received_at": now,
        "next_attempt_at": now,
    }
    session.execute(
        insert(StripeEvent)
        .values(values)
        .on_conflict_do_update(
            index_elements=["id"], set_={"deliveries": literal_column("stripe_events.deliveries + 1")}
        )
    )
    return str(event["id"])
