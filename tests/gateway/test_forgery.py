"""What Stripe did not send is refused at the webhook endpoint and stored nowhere, and no such thing is a fault."""

import hashlib
import hmac
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.composition import build
from app.config import Config
from app.factory import create_app
from stripe_gateway.tables import StripeEvent
from stripe_gateway.webhooks import MAX_BODY_BYTES, MAX_DEPTH
from tests.gateway.conftest import now

SECRET = "whsec_none"
SIGNED_FOR_S = 300

Delivery = tuple[bytes, str]
Mutation = Callable[[random.Random], Delivery]


def sign(body: bytes, *, secret: str = SECRET, age_s: int = 0) -> str:
    stamp = int(now().timestamp()) - age_s
    return f"t={stamp},v1={mac(body, stamp, secret)}"


def mac(body: bytes, stamp: int, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()


def genuine(dice: random.Random, **changes: Any) -> bytes:
    """An event as Stripe would send it, if it were signed."""
    body = {
        "id": f"evt_{dice.getrandbits(64):x}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": int(now().timestamp()),
        "data": {"object": {"id": f"inpay_{dice.getrandbits(32):x}", "amount_paid": 1234, "currency": "usd"}},
        "livemode": False,
        "type": "invoice_payment.paid",
    }
    return json.dumps({**body, **changes}).encode()


def flipped(dice: random.Random) -> Delivery:
    """Some bits of the body changed on the way: another amount, currency, mode, id."""
    body = genuine(dice)
    changed = bytearray(body)
    for place in dice.sample(range(len(changed)), dice.randint(1, 3)):
        changed[place] ^= 1 << dice.randrange(8)
    return bytes(changed), sign(body)


def other_header(dice: random.Random) -> Delivery:
    body = genuine(dice)
    stamp = int(now().timestamp())
    good, zeros = mac(body, stamp), "0" * 64
    return body, dice.choice(
        [
            "",
            ",",
            "t=,v1=",
            f"t={stamp}",
            f"v1={good}",
            f"t={stamp},v0={good}",
            f"t={stamp},V1={good}",
            f"t={stamp},v1={good.upper()}",
            f"t={stamp},v1={good[:-1]}",
            f"t={stamp},v1={good}0",
            f"t={stamp},v1={zeros}",
            f"t={stamp};v1={good}",
            f"t={stamp - 1},v1={good}",
            f"t={stamp - 1},t={stamp},v1={good}",
            f"t={stamp},t={stamp - 1},v1={good}",
            f"t=0{stamp}0,v1={good}",
            f"t=-{stamp},v1={good}",
            f"t={stamp}.0,v1={good}",
            f"t={'9' * 40},v1={good}",
            f"t={stamp},v1=" + "é" * 64,
            ",".join([f"t={stamp}", *[f"v1={zeros}"] * 60]),
        ]
    )


def other_secret(dice: random.Random) -> Delivery:
    body = genuine(dice)
    return body, sign(body, secret=dice.choice(["", " ", "whsec_", "whsec_other", SECRET[:-1], SECRET + " ", "null"]))


def cut_or_longer(dice: random.Random) -> Delivery:
    body = genuine(dice)
    cut = body[: dice.randrange(len(body))] if dice.random() < 0.7 else body + b" " * dice.randint(1, 5)
    return cut, sign(body)


def replayed(dice: random.Random) -> Delivery:
    """A true delivery that somebody kept, or one from a clock that runs ahead."""
    body = genuine(dice)
    age_s = dice.choice([SIGNED_FOR_S + 1, SIGNED_FOR_S + 30, 3600, 86_400 * 30, -SIGNED_FOR_S - 5, -86_400])
    return body, sign(body, age_s=age_s + (1 if age_s > 0 else 0))


def signed_nonsense(dice: random.Random) -> Delivery:
    """Rightly signed and no event: nobody but the holder of the secret can send it, and still it must do no harm."""
    nested = "[" * dice.choice([MAX_DEPTH + 1, 900, 50_000, 400_000])
    text = genuine(dice).decode()
    body = dice.choice(
        [
            nested.encode(),
            (nested + "]" * len(nested)).encode(),
            b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
            genuine(dice, data={"object": {"id": "in_1", "deep": json.loads("[" * 200 + "]" * 200)}}),
            b"\xff\xfe" + text.encode("utf-16"),
            text.encode()[:-2] + b"\xc3(" + b'"}',
            b"\xef\xbb\xbf" + text.encode(),
            text.replace('"livemode": false', '"livemode": false, "livemode": true').encode(),
            text.replace('"amount_paid": 1234', '"amount_paid": 1, "amount_paid": 1234').encode(),
            text.replace("1234", "NaN").encode(),
            text.replace("1234", "-Infinity").encode(),
            text.replace("1234", "9" * 5000).encode(),
            genuine(dice, id="evt_\x00"),
            genuine(dice, id="evt_\ud800"),
            genuine(dice, id="evt_" + "x" * 300),
            genuine(dice, id="in_1"),
            genuine(dice, id=None),
            genuine(dice, type="invoice.paid\x00"),
            genuine(dice, type=""),
            genuine(dice, type=["invoice.paid"]),
            genuine(dice, created=True),
            genuine(dice, created=10**30),
            genuine(dice, created=-1),
            genuine(dice, created="1"),
            genuine(dice, livemode="false"),
            genuine(dice, livemode=None),
            genuine(dice, account="somebody"),
            genuine(dice, account={"id": "acct_1"}),
            genuine(dice, api_version=7),
            genuine(dice, data=[]),
            genuine(dice, data={"object": None}),
            genuine(dice, object="v2.core.event"),
            b"",
            b"null",
            b"{}",
            b"0" * 3,
            b" " * (MAX_BODY_BYTES + dice.randint(1, 10)),
        ]
    )
    return body, sign(body)


MUTATIONS: dict[str, Mutation] = {
    "bits of the body": flipped,
    "header": other_header,
    "secret": other_secret,
    "length": cut_or_longer,
    "time": replayed,
    "signed nonsense": signed_nonsense,
}


@pytest.fixture
def door(environment: dict[str, str]) -> Iterator[FlaskClient]:
    config = Config.from_env(environment)
    billing = build(config)
    yield create_app(config, billing=billing).test_client()
    billing.dispose()


def knock(door: FlaskClient, body: bytes, header: str) -> int:
    return door.post("/webhooks/stripe", data=body, headers={"Stripe-Signature": header}).status_code


def stored(engine: Engine) -> int:
    with Session(engine) as session:
        return int(session.scalar(select(func.count()).select_from(StripeEvent)) or 0)


def assert_all_refused(door: FlaskClient, engine: Engine, mutation: Mutation, *, seed: str, count: int) -> None:
    dice = random.Random(seed)
    statuses: dict[int, int] = {}
    for _ in range(count):
        body, header = mutation(dice)
        status = knock(door, body, header)
        statuses[status] = statuses.get(status, 0) + 1
        assert status in (400, 413), (seed, status, header[:100], body[:300])
    assert sum(statuses.values()) == count
    assert stored(engine) == 0


@pytest.mark.parametrize("kind", MUTATIONS)
def test_what_stripe_did_not_send_is_refused_and_stored_nowhere(door: FlaskClient, engine: Engine, kind: str) -> None:
    assert_all_refused(door, engine, MUTATIONS[kind], seed=kind, count=80)
    body = genuine(random.Random("genuine"))
    assert knock(door, body, sign(body)) == 200, "the same event, untouched, is taken"
    assert stored(engine) == 1


@pytest.mark.soak
@pytest.mark.parametrize("kind", MUTATIONS)
def test_fifty_thousand_mutated_deliveries_are_refused(door: FlaskClient, engine: Engine, kind: str) -> None:
    assert_all_refused(door, engine, MUTATIONS[kind], seed=f"soak {kind}", count=50_000 // len(MUTATIONS) + 1)


@pytest.mark.parametrize("age_s", [0, 250, -250])
def test_a_delivery_within_the_tolerance_is_taken(door: FlaskClient, age_s: int) -> None:
    body = genuine(random.Random(f"age {age_s}"))
    assert knock(door, body, sign(body, age_s=age_s)) == 200
