"""The front door for Stripe's events: check the signature on the raw bytes, check the shape, store the event.

Nothing else happens here, and nothing is believed: whether an event fits our account, mode, currency and amounts is
decided when it is handled (`inbox`, `handlers`), where what does not fit is parked for a person to see.

Source: https://docs.stripe.com/webhooks#verify-manually
"""

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import stripe
import structlog
from sqlalchemy import literal_column
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from stripe_gateway.errors import BadEvent, BadSignature, BodyTooLarge
from stripe_gateway.tables import StripeEvent

_LOG = structlog.get_logger(__name__)

TOLERANCE_S = 300
"""How far the signature's time may be from ours, either way: an older delivery is a replay."""

MAX_BODY_BYTES = 1_000_000
MAX_DEPTH = 64
"""How many objects and lists may stand within one another. Stripe's have about ten; far more is an attack on us."""

SCHEME = "v1"
MAX_CANDIDATES = 16
"""Signatures that are looked at in one header. Stripe sends one per secret that is valid, so two at most."""

PINNED_VERSION = str(stripe.api_version)
"""The version of Stripe's API that the installed SDK reads, and that the webhook endpoint should be set to."""

WEBHOOK, LIST = "webhook", "list"
"""Where an event came from: Stripe delivered it, or the catch-up found it in Stripe's list."""

_EVENT_ID = re.compile(r"evt_[A-Za-z0-9_]{1,250}", re.ASCII)
_TYPE = re.compile(r"[a-z0-9_.]{1,200}", re.ASCII)
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9_]{1,250}", re.ASCII)
_PRINTABLE = re.compile(r"[!-~]{1,255}", re.ASCII)
_CREATED_BEFORE = 10**11  # Unix seconds: the year 5138


def verify(body: bytes, signature: str, *, secrets: Sequence[str], now: datetime) -> None:
    """Check that Stripe signed these bytes just now, with any of the secrets.

    Raises:
        BadSignature: it did not, or longer than five minutes ago.
    """
    stamp, candidates = _read_header(signature)
    if stamp is None or not candidates:
        raise BadSignature("The Stripe-Signature header is missing or malformed.")
    signed = f"{stamp}.".encode() + body
    # An empty secret is one that everybody knows.
    expected = [
        hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode() for secret in secrets if secret.strip()
    ]
    if not any(hmac.compare_digest(one, other) for one in expected for other in candidates):
        raise BadSignature(
            "The signature does not fit the body. If the webhook's secret was changed at Stripe, set "
            "STRIPE_WEBHOOK_SECRET to the new one, or to both for a day."
        )
    if abs(now.timestamp() - stamp) > TOLERANCE_S:
        raise BadSignature("The signature is older than five minutes. If this happens often, check the host's clock.")


def _read_header(header: str) -> tuple[int | None, list[bytes]]:
    """The header's time and signatures. Two times make none: which one was signed must not be a matter of taste."""
    stamps, candidates = [], []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            stamps.append(int(value) if value.isascii() and value.isdigit() and len(value) < 15 else None)
        elif name == SCHEME:
            candidates.append(value.encode("utf-8", "replace"))
    return stamps[0] if len(stamps) == 1 else None, candidates[:MAX_CANDIDATES]


def receive(session: Session, *, body: bytes, signature: str, secrets: Sequence[str], now: datetime) -> str:
    """Verify and store one delivery; returns the event's id. The caller commits, then answers 200.

    The same event again only counts as one more delivery.

    Raises:
        BodyTooLarge, BadSignature, BadEvent: nothing is stored.
    """
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge(f"A body of {len(body)} bytes is no event: Stripe's have at most {MAX_BODY_BYTES}.")
    verify(body, signature, secrets=secrets, now=now)
    event = parse(body)
    store(session, event, text=body.decode(), now=now)
    return str(event["id"])


def parse(body: bytes) -> dict[str, Any]:
    """The event in a body whose signature was checked.

    A key that stands twice, NaN and the like are refused too: what two readers could read in two ways is not stored.

    Raises:
        BadEvent: it is no JSON, or no snapshot event of Stripe's.
    """
    try:
        event = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise BadEvent("The body is signed, but it is no JSON that Stripe would send.") from error
    check_shape(event)
    found: dict[str, Any] = event
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def check_shape(event: object) -> None:
    """Check that this is a snapshot event which can be stored as it is.

    Raises:
        BadEvent: it is not; the text says what to set at Stripe.
    """
    if not _is_snapshot(event):
        raise BadEvent(
            "The body is signed, but it is no snapshot event. Set the webhook endpoint's payload style to Snapshot."
        )
    if _is_deeper(event, MAX_DEPTH):
        raise BadEvent(f"The event is nested more than {MAX_DEPTH} levels deep: Stripe's are not.")


def _is_snapshot(event: object) -> bool:
    return (
        isinstance(event, dict)
        and event.get("object") == "event"
        and _fits(_EVENT_ID, event.get("id"))
        and _fits(_TYPE, event.get("type"))
        # True is an int as well, and would be the first second of 1970.
        and type(event.get("created")) is int
        and 0 < event["created"] < _CREATED_BEFORE
        and isinstance(event.get("livemode"), bool)
        and (event.get("account") is None or _fits(_ACCOUNT, event["account"]))
        and (event.get("api_version") is None or _fits(_PRINTABLE, event["api_version"]))
        and isinstance(event.get("data"), dict)
        and isinstance(event["data"].get("object"), dict)
    )


def _fits(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_deeper(value: object, depth: int) -> bool:
    """Whether lists and objects stand more than `depth` deep. Without recursion: that is what it guards against."""
    level: list[Any] = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def store(session: Session, event: dict[str, Any], *, text: str, now: datetime, source: str = WEBHOOK) -> bool:
    """Store a verified event under its id, due now; False if it was known. The caller commits.

    A delivery of a known event counts as one more; one that stands in Stripe's list changes nothing. So an event that
    was only ever listed has no deliveries.
    """
    identity = event["data"]["object"].get("id")
    values = {
        "id": event["id"],
        "type": event["type"],
        "object_id": identity if _fits(_PRINTABLE, identity) else None,
        "livemode": event["livemode"],
        "account": event.get("account"),
        "api_version": event.get("api_version"),
        "source": source,
        "deliveries": 1 if source == WEBHOOK else 0,
        "payload": text,
        "created_at": datetime.fromtimestamp(event["created"], tz=UTC),
        "received_at": now,
        "next_attempt_at": now,
    }
    statement = insert(StripeEvent).values(values)
    if source == WEBHOOK:
        counted: dict[str, Any] = {"deliveries": literal_column("stripe_events.deliveries + 1")}
        statement = statement.on_conflict_do_update(index_elements=["id"], set_=counted)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=["id"])
    # xmax is 0 in a row that this statement made, and not in one that it found and changed.
    made = session.execute(statement.returning(literal_column("stripe_events.xmax = 0"))).scalar()
    _warn_of_version(event.get("api_version"))
    return bool(made)


_WARNED: set[str] = set()
_WARNING = threading.Lock()


def _warn_of_version(version: str | None) -> None:
    """Say once per process and version that the endpoint speaks another version than the SDK reads."""
    if version is None or version == PINNED_VERSION:
        return
    with _WARNING:
        if version in _WARNED:
            return
        _WARNED.add(version)
    _LOG.warning(
        "events come in another API version than ours; set the webhook endpoint's version at Stripe",
        theirs=version,
        ours=PINNED_VERSION,
    )
