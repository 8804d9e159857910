"""Sending events again on purpose: twice, in disorder, under another id, stale or forged."""

from __future__ import annotations

import json
import random
import time

from .errors import Json, missing
from .events import copied, listeners, unpack
from .world import World

MAX_TIMES = 100
# Deliveries that are due together go out in row order; this step keeps a wanted order among them.
_STEP_S = 0.0001


def resend(
    world: World,
    *,
    event_ids: list[str] | None,
    types: list[str] | None,
    times: int,
    shuffle: bool,
    seed: int,
    new_event_id: bool,
    stale_s: float,
    forged: bool,
    once: bool,
) -> list[str]:
    """Owe further deliveries of the given events (default: all, oldest first) to every endpoint that listens.

    Pending deliveries of the same events stay as they are. Returns the ids under which they go out.

    Raises:
        ApiError: 404, for an event id that does not exist.
    """
    chosen = _chosen(world, event_ids, types)
    order = [body for body in chosen for _ in range(times)]
    if shuffle:
        random.Random(seed).shuffle(order)  # noqa: S311 - reproducible disorder, not a secret
    options = json.dumps(
        {name: value for name, value in (("stale_s", stale_s), ("forged", forged), ("once", once)) if value}
    )
    start = time.time()
    sent = []
    with world.store.transaction():
        for position, body in enumerate(order):
            event_id = copied(world, body) if new_event_id else body["id"]
            sent.append(event_id)
            for endpoint_id in listeners(world, body["type"]):
                world.store.execute(
                    "INSERT INTO deliveries (event_id, endpoint_id, state, next_at, options) VALUES (?, ?, ?, ?, ?)",
                    event_id, endpoint_id, "pending", start + position * _STEP_S, options,
                )  # fmt: skip
    return sent


def _chosen(world: World, event_ids: list[str] | None, types: list[str] | None) -> list[Json]:
    if event_ids is None:
        bodies = [unpack(row[0]) for row in world.store.rows("SELECT body FROM events ORDER BY seq")]
    else:
        bodies = []
        for event_id in event_ids:
            found = world.store.rows("SELECT body FROM events WHERE id = ?", event_id)
            if not found:
                raise missing("event", event_id)
            bodies.append(unpack(found[0][0]))
    return [body for body in bodies if types is None or body["type"] in types]
