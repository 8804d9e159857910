"""The control plane, `/_sim/*`: JSON for tests and for the demo, which real Stripe does not have."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from . import collection, presets, resending, scheduling, webhook_mode
from .api import Api
from .errors import ApiError, Json, invalid
from .messages import Answer, Request, json_answer
from .payment_methods import fresh_method
from .request_log import clear_log, count_log, read_log
from .steering import steer
from .views import view
from .webhook_endpoints import KEEP_OLD_SECRET_S, roll_secret
from .webhooks import Courier
from .world import Origin, World

MAX_WAIT_S = 60.0


class Control:
    """Everything that moves the sandbox from outside the API."""

    def __init__(self, world: World, api: Api, courier: Courier) -> None:
        self.world = world
        self._api = api
        self._courier = courier
        self._routes: dict[tuple[str, str], Callable[[Json], Any]] = {
            ("GET", "health"): self._health,
            ("GET", "state"): lambda _: self.state(),
            ("GET", "requests"): self._requests,
            ("DELETE", "requests"): lambda _: {"deleted": clear_log(world)},
            ("GET", "clock"): lambda _: self._clock(0),
            ("POST", "clock"): self.move_clock,
            ("GET", "settings"): lambda _: world.settings.as_json(),
            ("POST", "settings"): lambda asked: world.change_settings(asked).as_json(),
            ("GET", "faults"): lambda _: {"faults": api.faults.all()},
            ("POST", "faults"): lambda asked: api.faults.add(asked).as_json(),
            ("DELETE", "faults"): lambda asked: {"deleted": api.faults.clear(asked.get("id"))},
            ("GET", "presets"): self._presets,
            ("POST", "presets"): self.use_preset,
            ("DELETE", "presets"): lambda _: self.clear_all(),
            ("GET", "webhooks"): self._deliveries,
            ("GET", "webhooks/mode"): lambda _: self.mode(),
            ("POST", "webhooks/mode"): self.change_mode,
            ("POST", "webhooks/resend"): self.resend,
            ("POST", "webhooks/wait"): self._wait,
            ("POST", "secrets/roll"): self._roll,
        }

    def answer(self, request: Request) -> Answer:
        """Serve one control request; refusals have the API's error shape."""
        name = request.path.removeprefix("/_sim/")
        try:
            asked = _asked(request)
            serve = self._routes.get((request.method, name))
            if serve is not None:
                return json_answer(200, serve(asked))
            parts = name.split("/")
            if request.method == "POST" and len(parts) == 3 and parts[0] == "invoices" and parts[2] in ("pay", "fail"):
                return json_answer(200, self.press(parts[1], parts[2]))
            steered = steer(self.world, parts, asked) if request.method == "POST" else None
            if steered is not None:
                return json_answer(200, steered)
            raise ApiError(404, f"No such control: {request.method} {request.path}")
        except ApiError as error:
            return json_answer(error.status, error.body)

    def _health(self, _: Json) -> Json:
        return {"ok": True, "now": self.world.clock.now(), "url": self.world.public_url}

    def state(self) -> Json:
        """Counts of everything, and what is still to be done."""
        store = self.world.store
        with store.lock:
            kinds = dict(store.rows("SELECT kind, count(*) FROM objects WHERE deleted = 0 GROUP BY kind"))
            statuses = dict(
                store.rows(
                    "SELECT status, count(*) FROM objects WHERE deleted = 0 AND kind = 'invoice' GROUP BY status"
                )
            )
            deliveries = dict(store.rows("SELECT state, count(*) FROM deliveries GROUP BY state"))
            types = dict(store.rows("SELECT type, count(*) FROM events GROUP BY type"))
            jobs = store.rows("SELECT count(*), min(due_at) FROM jobs")[0]
        return {
            "objects": kinds,
            "invoices": statuses,
            "events": {"total": sum(types.values()), "by_type": types},
            "deliveries": deliveries,
            "jobs": {"waiting": jobs[0], "next_due_at": jobs[1]},
            "requests": count_log(self.world),
            "clock": self._clock(0),
            "settings": self.world.settings.as_json(),
            "webhook_mode": self.mode(),
            "faults": self._api.faults.all(),
            "in_flight": self._api.limits.in_flight(),
            "locked": self._api.locks.all(),
        }

    def _requests(self, asked: Json) -> Json:
        lines = read_log(
            self.world,
            limit=_whole(asked, "limit", 1000),
            after=_whole(asked, "after", 0),
            endpoint=asked.get("endpoint"),
            newest_first=asked.get("order") == "newest",
        )
        return {"requests": lines, "counts": count_log(self.world)}

    def _clock(self, jobs_done: int) -> Json:
        now = self.world.clock.now()
        shown = datetime.fromtimestamp(now, tz=UTC).isoformat()
        return {"now": now, "iso": shown, "frozen": self.world.clock.frozen, "jobs_done": jobs_done}

    def move_clock(self, asked: Json) -> Json:
        """Advance by seconds, or set an instant; due jobs are done, in order, before this answers."""
        _only(asked, "advance_s", "set", "freeze")
        if "advance_s" in asked and "set" in asked:
            raise invalid("Send either advance_s or set", param="set")
        if "freeze" in asked:
            if not isinstance(asked["freeze"], bool):
                raise invalid("freeze must be true or false", param="freeze")
            with self.world.store.transaction():
                self.world.clock.freeze(asked["freeze"])
        before = self.world.clock.now()
        instant = before
        if "advance_s" in asked:
            seconds = asked["advance_s"]
            if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds < 0:
                raise invalid("advance_s must be a number of seconds, not negative", param="advance_s")
            instant = before + seconds
        elif "set" in asked:
            instant = _instant(asked["set"])
        if instant >= before:
            done = scheduling.advance(self.world, instant)
        else:
            with self.world.store.transaction():
                self.world.clock.set(instant)
            done = 0
        self._hasten(instant - before)
        return self._clock(done)

    def _hasten(self, seconds: float) -> None:
        """Waiting redeliveries come nearer by as much as the clock moved."""
        if seconds > 0:
            with self.world.store.transaction():
                self.world.store.execute(
                    "UPDATE deliveries SET next_at = next_at - ? WHERE state = 'pending' AND next_at > ?",
                    seconds,
                    time.time(),
                )
        self._courier.wake()

    def mode(self) -> Json:
        """How deliveries are bent at present."""
        return webhook_mode.read_mode(self.world)

    def change_mode(self, asked: Json) -> Json:
        """Change how deliveries are bent; what was already owed stays as it was planned, but a pause holds it."""
        mode = webhook_mode.change_mode(self.world, asked)
        self._courier.wake()
        return mode

    def use_preset(self, asked: Json) -> Json:
        """Put a preset in the place of everything that is switched on."""
        _only(asked, "name")
        presets.switch_on(self.world, self._api.faults, str(asked.get("name")))
        self._courier.wake()
        return {"troubles": self.troubles()}

    def clear_all(self) -> Json:
        """Switch off every fault of requests and of webhooks."""
        deleted = presets.clear_all(self.world, self._api.faults)
        self._courier.wake()
        return {"deleted": deleted}

    def troubles(self) -> list[str]:
        """What is wrong at present, a phrase each."""
        return presets.troubles(self.world, self._api.faults)

    def _presets(self, _: Json) -> Json:
        shown = {name: {"title": preset.title, "text": preset.text} for name, preset in presets.PRESETS.items()}
        return {"presets": shown, "troubles": self.troubles()}

    def resend(self, asked: Json) -> Json:
        """Send events again; see `resending.resend`."""
        _only(asked, "events", "types", "times", "shuffle", "seed", "new_event_id", "stale_s", "forged", "once")
        times = asked.get("times", 1)
        if not isinstance(times, int) or not 1 <= times <= resending.MAX_TIMES:
            raise invalid(f"times must be a whole number from 1 to {resending.MAX_TIMES}", param="times")
        sent = resending.resend(
            self.world,
            event_ids=asked.get("events"),
            types=asked.get("types"),
            times=times,
            shuffle=bool(asked.get("shuffle", False)),
            seed=int(asked.get("seed", 0)),
            new_event_id=bool(asked.get("new_event_id", False)),
            stale_s=float(asked.get("stale_s", 0)),
            forged=bool(asked.get("forged", False)),
            # No receiver takes these, so repeating them would only fill its log.
            once=bool(asked.get("once", asked.get("forged") or asked.get("stale_s"))),
        )
        return {"scheduled": len(sent), "events": sent}

    def _deliveries(self, asked: Json) -> Json:
        names = (
            "seq", "event_id", "type", "endpoint_id", "state", "attempts", "next_at", "last_status", "last_error",
            "delivered_at",
        )  # fmt: skip
        found = self.world.store.rows(
            "SELECT d.seq, d.event_id, e.type, d.endpoint_id, d.state, d.attempts, d.next_at, d.last_status,"
            " d.last_error, d.delivered_at FROM deliveries d JOIN events e ON e.id = d.event_id"
            " WHERE d.seq > ? AND (? IS NULL OR d.state = ?) ORDER BY d.seq LIMIT ?",
            _whole(asked, "after", 0),
            asked.get("state"),
            asked.get("state"),
            _whole(asked, "limit", 1000),
        )
        return {"deliveries": [dict(zip(names, row, strict=True)) for row in found]}

    def _wait(self, asked: Json) -> Json:
        """Block until nothing is owed any more, or the time is over."""
        _only(asked, "timeout_s")
        timeout_s = min(MAX_WAIT_S, float(asked.get("timeout_s", 10)))
        return {"pending": self._courier.wait_until_idle(timeout_s)}

    def _roll(self, asked: Json) -> Json:
        _only(asked, "endpoint", "secret", "keep_old_s")
        keep_old_s = min(float(asked.get("keep_old_s", KEEP_OLD_SECRET_S)), KEEP_OLD_SECRET_S)
        secret = roll_secret(self.world, asked.get("endpoint"), secret=asked.get("secret"), keep_old_s=keep_old_s)
        return {"secret": secret, "old_signs_for_s": keep_old_s}

    def press(self, invoice_id: str, button: str) -> Json:
        """What the customer does on the hosted page: pay with a working card, or with one that is declined."""
        world = self.world
        with world.store.transaction(), world.acting_for(Origin()):
            invoice = world.store.get(invoice_id, kind="invoice")
            if invoice["status"] not in ("open", "uncollectible"):
                raise invalid(f"This invoice is {invoice['status']}: nothing is due on it")
            name = "pm_card_visa" if button == "pay" else "pm_card_chargeDeclined"
            method = fresh_method(world, name)
            try:
                collection.attempt(world, invoice, method["id"], automatic=False, off_session=False)
            except ApiError as error:
                if not error.keeps_work:
                    raise
        return view(world, world.store.get(invoice_id, kind="invoice"))


def _asked(request: Request) -> Json:
    if request.method in ("GET", "DELETE") and not request.body:
        return dict(parse_qsl(request.query))
    try:
        asked = json.loads(request.body or b"{}")
    except ValueError as error:
        raise invalid(f"The body is not JSON: {error}") from error
    if not isinstance(asked, dict):
        raise invalid("The body must be a JSON object")
    return asked


def _only(asked: Json, *names: str) -> None:
    unknown = set(asked) - set(names)
    if unknown:
        raise invalid(f"Unknown fields: {', '.join(sorted(unknown))}. Fields: {', '.join(names)}")


def _whole(asked: Json, name: str, default: int) -> int:
    try:
        return int(asked.get(name, default))
    except (TypeError, ValueError) as error:
        raise invalid(f"{name} must be a whole number", param=name) from error


def _instant(value: Any) -> float:
    """A unix second or an ISO 8601 time with a zone."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise invalid(f"Not a time: {value!r}. Send unix seconds or ISO 8601 with a zone", param="set") from error
    if moment.tzinfo is None:
        raise invalid(f"The time has no zone: {value!r}", param="set")
    return moment.timestamp()
