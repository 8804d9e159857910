"""Events: a snapshot of an object at the moment something happened to it, and the deliveries that it owes."""

from __future__ import annotations

import json
import random
import time
import zlib
from typing import Any

from .errors import Json, invalid, missing
from .ids import new_id
from .lists import page_of
from .views import view
from .webhook_mode import read_mode
from .world import API_VERSION, Call, World

RETENTION_S = 30 * 86400  # events.list returns no older ones
STALE_S = 600.0  # by how much a stale signature is older than now; receivers accept 300 s
MAX_TYPES = 20  # of one events.list call; https://docs.stripe.com/api/events/list


def emit(world: World, kind: str, obj: Json, *, previous: Json | None = None) -> str:
    """Record that `kind` happened to `obj` and owe a delivery to every endpoint that listens. In a transaction.

    `previous` holds the old values of the fields that an `*.updated` event changed.
    """
    data: Json = {"object": view(world, obj)}
    if previous is not None:
        data["previous_attributes"] = previous
    body = {
        "id": new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": world.clock.stamp(),
        "data": data,
        "livemode": False,
        "request": {"id": world.origin.request_id, "idempotency_key": world.origin.idempotency_key},
        "type": kind,
    }
    return record(world, body)


def record(world: World, body: Json) -> str:
    """Keep an event's body and owe its deliveries; returns its id."""
    keep(world, body)
    mode = read_mode(world)
    second_ids = [copied(world, body) for _ in range(int(mode["second_id"]))]
    for endpoint_id in listeners(world, body["type"]):
        for event_id in (body["id"], *second_ids):
            owe(world, event_id, endpoint_id, mode=mode)
        _owe_false_ones(world, body["id"], endpoint_id, mode=mode)
    return str(body["id"])


def copied(world: World, body: Json) -> str:
    """Keep the same happening under a second event id, as Stripe now and then sends it; returns that id."""
    copy = {**body, "id": new_id("evt")}
    keep(world, copy)
    return str(copy["id"])


def keep(world: World, body: Json) -> None:
    """Keep an event's body without owing it to anybody."""
    world.store.execute(
        "INSERT INTO events (id, type, created, object_id, body) VALUES (?, ?, ?, ?, ?)",
        body["id"],
        body["type"],
        body["created"],
        body["data"]["object"].get("id", ""),
        # Snapshots repeat themselves: a fast compression keeps ten thousand invoices in a small file.
        zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 1),
    )


def listeners(world: World, kind: str) -> list[str]:
    """The enabled endpoints that want events of this type."""
    return [
        endpoint["id"]
        for endpoint in world.store.where("webhook_endpoint", "status = 'enabled'", newest_first=False)
        if "*" in endpoint["enabled_events"] or kind in endpoint["enabled_events"]
    ]


def owe(world: World, event_id: str, endpoint_id: str, *, mode: Json) -> None:
    """Plan one delivery, as the webhook mode bends it: lost, late, several times, in disorder."""
    dice = random.Random(f"{mode['seed']}:{event_id}")  # noqa: S311 - reproducible disorder, not a secret
    lost = dice.random() < float(mode["drop_probability"])
    for _ in range(1 + int(mode["duplicate"])):
        disorder_s = dice.random() * float(mode["shuffle_s"]) if mode["shuffle"] else 0.0
        world.store.execute(
            "INSERT INTO deliveries (event_id, endpoint_id, state, next_at) VALUES (?, ?, ?, ?)",
            event_id,
            endpoint_id,
            "lost" if lost else "pending",
            time.time() + float(mode["delay_s"]) + disorder_s,
        )


def _owe_false_ones(world: World, event_id: str, endpoint_id: str, *, mode: Json) -> None:
    """Plan deliveries that no receiver may take; they are given up after one refusal."""
    for kind, options in (("forged", {"forged": True}), ("stale", {"stale_s": STALE_S})):
        for _ in range(int(mode[kind])):
            world.store.execute(
                "INSERT INTO deliveries (event_id, endpoint_id, state, next_at, options) VALUES (?, ?, ?, ?, ?)",
                event_id, endpoint_id, "pending", time.time(), json.dumps({**options, "once": True}),
            )  # fmt: skip


def unpack(blob: bytes) -> Json:
    body: Json = json.loads(zlib.decompress(blob))
    return body


def shown(world: World, body: Json) -> Json:
    """An event as it stands now: with the number of deliveries it still owes."""
    owed = world.store.rows("SELECT count(*) FROM deliveries WHERE event_id = ? AND state = 'pending'", body["id"])
    return {**body, "pending_webhooks": int(owed[0][0])}


def retrieve_event(call: Call) -> Json:
    """An event of the last 30 days; older ones are gone, as at Stripe."""
    since = call.world.clock.stamp() - RETENTION_S
    found = call.world.store.rows("SELECT body FROM events WHERE id = ? AND created >= ?", call.ids[0], since)
    if not found:
        raise missing("event", call.ids[0])
    return shown(call.world, unpack(found[0][0]))


def list_events(call: Call) -> Json:
    """Newest first; only the last 30 days, as at Stripe."""
    params = call.params
    clauses = ["created >= ?"]
    values: list[Any] = [call.world.clock.stamp() - RETENTION_S]
    if params.get("type") and params.get("types"):
        raise invalid("You may pass either type or types, but not both.", param="types")
    kinds = [*(params.get("types") or []), *([params["type"]] if params.get("type") else [])]
    if kinds:
        patterns = " OR ".join("type GLOB ?" for _ in kinds)
        clauses.append(f"({patterns})")
        values.extend(kinds)
    if "delivery_success" in params:
        # Unsuccessful: some endpoint has not answered 2xx, be it pending, given up or lost on the way.
        unsuccessful = "EXISTS (SELECT 1 FROM deliveries d WHERE d.event_id = events.id AND d.state <> 'delivered')"
        clauses.append(f"NOT {unsuccessful}" if params["delivery_success"] else unsuccessful)
    rows, has_more = page_of(call, table="events", clauses=clauses, values=values, noun="event")
    bodies = [shown(call.world, unpack(row[1])) for row in rows]
    return {"object": "list", "data": bodies, "has_more": has_more, "url": "/v1/events"}
