"""Pages for people: the state of the sandbox, the hosted invoice page and the customer portal."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined

from . import money_tables, tables
from .api import Api
from .control import Control
from .currencies import shown_amount
from .customers import make_default
from .errors import ApiError, Json
from .events import shown, unpack
from .faults import KINDS, REASONS
from .invoices import shown_day
from .messages import Answer, Request
from .payment_methods import attach
from .payments import under_way
from .portal import SESSION_S
from .presets import PRESETS
from .steering import steer
from .views import view
from .webhook_mode import count_bent
from .world import Origin, World

PAGE_ROWS = 50
FRONT_ROWS = 8
_CARDS = {"working": "pm_card_visa", "declining": "pm_card_chargeCustomerFail", "account": "pm_usBankAccount_success"}
_LISTS = {**tables.LISTS, **money_tables.LISTS}
_COPIES = ("duplicate", "second_id", "forged", "stale", "delay_s")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class NotFound(LookupError):
    """There is no such page. Go back to the overview and start from there."""

    code = "page_not_found"


class Pages:
    """Renders the pages and serves their forms, which work without any script."""

    def __init__(self, world: World, api: Api, control: Control) -> None:
        self.world = world
        self._api = api
        self._control = control
        self._templates = Environment(
            loader=PackageLoader("stripe_gateway.sandbox"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._templates.globals.update(moment=tables.moment, money=shown_amount, day=shown_day)
        self._forms: dict[str, Callable[[Json], str]] = {
            "clock": self._advance,
            "faults": self._switch_fault_on,
            "faults/clear": self._switch_faults_off,
            "faults/clear_all": self._clear_all,
            "faults/preset": self._use_preset,
            "webhooks/resend": self._resend,
            "webhooks/mode": self._change_mode,
            "settlement": self._settle_in,
        }

    def answer(self, request: Request) -> Answer:
        """Serve one page or one form."""
        parts = [part for part in request.path.split("/") if part]
        try:
            if request.method == "POST":
                return _see_other(self._press(parts, _form(request)))
            return self._page(parts, _query(request))
        except NotFound:
            return self._render("message.html", 404, title="Not found", text=str(NotFound.__doc__))
        except ApiError as error:
            return self._render("message.html", error.status, title="Refused", text=str(error))

    # Reading

    def _page(self, parts: list[str], query: dict[str, str]) -> Answer:
        match parts:
            case []:
                lists = [make(self.world, before=None, limit=FRONT_ROWS) for make in _LISTS.values()]
                return self._render("overview.html", tables=lists, state=self._control.state(), here="")
            case [name] if name in _LISTS:
                before = int(query["before"]) if query.get("before", "").isdigit() else None
                table = _LISTS[name](self.world, before=before, limit=PAGE_ROWS)
                return self._render("list.html", table=table, here=name)
            case ["faults"]:
                return self._render(
                    "faults.html", faults=self._api.faults.all(), kinds=KINDS, reasons=REASONS,
                    mode=self._control.mode(), presets=PRESETS, bent=count_bent(self.world), here="faults",
                )  # fmt: skip
            case ["objects", object_id] | ["credit_notes", object_id, "pdf"]:
                return self._object(object_id)
            case ["events", event_id]:
                return self._event(event_id)
            case ["i", token] | ["i", token, "pdf"]:
                return self._hosted(token)
            case ["p", "session", token]:
                return self._portal(token)
        raise NotFound

    def _object(self, object_id: str) -> Answer:
        row = self.world.store.row(object_id, deleted=True)
        if row is None:
            raise NotFound
        text = json.dumps(view(self.world, row.data), indent=2)
        about = tables.events_of(self.world, object_id)
        return self._render("object.html", title=object_id, text=text, table=about, event=None, here="")

    def _event(self, event_id: str) -> Answer:
        found = self.world.store.rows("SELECT body FROM events WHERE id = ?", event_id)
        if not found:
            raise NotFound
        body = shown(self.world, unpack(found[0][0]))
        table = tables.deliveries_of(self.world, event_id)
        text = json.dumps(body, indent=2)
        return self._render("object.html", title=body["type"], text=text, table=table, event=event_id, here="events")

    def _hosted(self, token: str) -> Answer:
        row = self.world.store.by_token("invoice", token)
        if row is None or row.data["status"] == "draft":
            raise NotFound
        lines = self.world.store.where("line_item", "parent = ?", row.data["id"], newest_first=False)
        waits = under_way(self.world, row.data) is not None
        return self._render("hosted.html", invoice=row.data, lines=lines, token=token, waits=waits, here=None)

    def _session(self, token: str) -> Json:
        row = self.world.store.by_token("billing_portal.session", token)
        if row is None or self.world.clock.now() - row.data["created"] > SESSION_S:
            raise NotFound
        return row.data

    def _portal(self, token: str) -> Answer:
        session = self._session(token)
        store = self.world.store
        customer = store.get(session["customer"], kind="customer")
        invoices = store.where("invoice", "customer = ? AND status <> 'draft'", customer["id"], limit=PAGE_ROWS)
        methods = store.where("payment_method", "customer = ?", customer["id"])
        back = session["return_url"] or ""
        return self._render(
            "portal.html", customer=customer, methods=methods, invoices=invoices, token=token, here=None,
            back=back if urlsplit(back).scheme in ("http", "https") else None,
        )  # fmt: skip

    # Pressing buttons

    def _press(self, parts: list[str], form: Json) -> str:
        """Do what a form asks; returns where to go next."""
        match parts:
            case ["i", token, ("pay" | "fail") as button]:
                row = self.world.store.by_token("invoice", token)
                if row is None:
                    raise NotFound
                self._control.press(row.data["id"], button)
                return f"/i/{token}"
            case ["p", "session", token, "card"]:
                return self._add_card(token, form)
            case ["p", "session", token, "default"]:
                return self._set_default(token, form)
            case ["act", noun, *rest]:
                # What a button of a list asks for, as the control plane would have it: true and false are not text.
                asked = {name: value == "true" if name == "inquiry" else value for name, value in form.items()}
                if steer(self.world, [noun, *rest], asked) is None:
                    raise NotFound
                return f"/{noun}" if noun in _LISTS else "/events"
        form_of = self._forms.get("/".join(parts))
        if form_of is None:
            raise NotFound
        return form_of(form)

    def _add_card(self, token: str, form: Json) -> str:
        session = self._session(token)
        name = _CARDS.get(form.get("card", ""))
        if name is None:
            raise NotFound
        with self.world.store.transaction(), self.world.acting_for(Origin()):
            customer = self.world.store.get(session["customer"], kind="customer")
            make_default(self.world, customer, attach(self.world, name, customer)["id"])
        return f"/p/session/{token}"

    def _set_default(self, token: str, form: Json) -> str:
        session = self._session(token)
        with self.world.store.transaction(), self.world.acting_for(Origin()):
            customer = self.world.store.get(session["customer"], kind="customer")
            method = self.world.store.row(form.get("method", ""), kind="payment_method")
            if method is None or method.data["customer"] != customer["id"]:
                raise NotFound
            make_default(self.world, customer, method.data["id"])
        return f"/p/session/{token}"

    def _advance(self, form: Json) -> str:
        hours = form.get("hours", "")
        self._control.move_clock({"advance_s": float(hours) * 3600 if hours.isdigit() else 0})
        return "/"

    def _settle_in(self, form: Json) -> str:
        """What the account settles in, and what one of another currency is worth in it from now on."""
        rates = dict(self.world.settings.exchange_rates)
        if form.get("currency"):
            rates[form["currency"].lower()] = form.get("rate", "")
        self.world.change_settings({"settlement_currency": form.get("settles_in", ""), "exchange_rates": rates})
        return "/"

    def _switch_fault_on(self, form: Json) -> str:
        asked: Json = {"endpoint": form.get("endpoint") or "*", "kind": form.get("kind", "")}
        if form.get("reason"):
            asked["reason"] = form["reason"]
        asked.update(_whole_numbers(form, "count", "every", "skip", "delay_s"))
        self._api.faults.add(asked)
        return "/faults"

    def _switch_faults_off(self, form: Json) -> str:
        self._api.faults.clear(form.get("id") or None)
        return "/faults"

    def _clear_all(self, _: Json) -> str:
        self._control.clear_all()
        return "/faults"

    def _use_preset(self, form: Json) -> str:
        self._control.use_preset({"name": form.get("name", "")})
        return "/faults"

    def _resend(self, form: Json) -> str:
        event_id = form.get("event", "")
        self._control.resend({"events": [event_id]})
        return f"/events/{event_id}"

    def _change_mode(self, form: Json) -> str:
        percent = form.get("drop_percent", "0")
        self._control.change_mode(
            {
                "paused": form.get("paused") == "on",
                "shuffle": form.get("shuffle") == "on",
                **dict.fromkeys(_COPIES, 0),
                **_whole_numbers(form, *_COPIES),
                "drop_probability": min(100, int(percent)) / 100 if percent.isdigit() else 0.0,
            }
        )
        return "/faults"

    def _render(self, template: str, status: int = 200, /, **values: Any) -> Answer:
        values.setdefault("here", None)
        values.setdefault("troubles", self._control.troubles())
        text = self._templates.get_template(template).render(now=self.world.clock.now(), **values)
        return Answer(status, text.encode(), dict(_HEADERS), "text/html; charset=utf-8")


def _see_other(address: str) -> Answer:
    return Answer(303, b"", {**_HEADERS, "Location": address}, "text/plain")


def _form(request: Request) -> Json:
    return {name: values[-1] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}


def _whole_numbers(form: Json, *names: str) -> Json:
    return {name: int(form[name]) for name in names if form.get(name, "").isdigit()}


def _query(request: Request) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(request.query).items()}
