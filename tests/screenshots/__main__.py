"""`make screenshots`: the pages of the running demo (`make run`), wide and narrow, light and dark.

`python -m tests.screenshots FOLDER --all` writes all four kinds of every page; without --all, those that the docs show;
`--only NAME ...` takes these pages alone.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from playwright.sync_api import Browser, BrowserContext, Page
from sqlalchemy import Engine, text

from app.config import Config, load_config
from app.database import create_engine, session_scope
from app.demo.seed import SIGN_INS
from app.demo.terms import of_role
from app.demo.world import SHOWCASE, Role
from app.panel.links import create_link
from invoicing.customers import customer_id_for
from tests.browser import executable, launched

DOCS = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
SCHEMES = ("light", "dark")
REFUNDED = "(customer_id, id) IN (SELECT customer_id, invoice_id FROM refunds)"
"""Invoices to which something happened after they were final."""
TALLEST = 2000  # pixels; of a longer page its beginning is shown
LIST = 1000  # of a page whose rows go on alike
HIGH = 900  # pixels of a page that is shown from some place on


@dataclass(frozen=True)
class Shot:
    """One page: its name, its path, and the kinds ("desktop-light") that stand in the docs."""

    name: str
    path: str
    in_docs: tuple[str, ...] = ("desktop-light",)
    tallest: int = TALLEST


@dataclass(frozen=True)
class Wanted:
    """What is to be taken, and where to: `names` alone if there are any; all four kinds of each if `everything`."""

    folder: Path
    everything: bool
    names: frozenset[str]

    def has(self, shot: Shot, kind: str) -> bool:
        return (self.everything or kind in shot.in_docs) and (not self.names or shot.name in self.names)


def support_shots(engine: Engine) -> list[Shot]:
    """The staff's pages, on the demo's own customers and invoices."""
    customer = customer_id_for(SHOWCASE.external_id)
    shots = [
        Shot("support-home", "/support/", ("desktop-light", "desktop-dark", "phone-light")),
        Shot("support-search", "/support/customers?q=co"),
        Shot("support-customer", f"/support/customers/{customer}", ("desktop-light", "phone-light")),
        Shot("support-journal", f"/support/customers/{customer}/journal"),
        Shot("support-drafts", "/support/drafts"),
        Shot("support-tasks", "/support/tasks", ("desktop-light", "phone-light")),
        Shot("support-collection", "/support/collection"),
        Shot("support-bank", "/support/bank"),
        Shot("support-disputes", "/support/disputes", ("desktop-light", "phone-light")),
        Shot("support-payouts", "/support/payouts"),
        Shot("support-webhooks", "/support/webhooks"),
        Shot("support-prices", "/support/prices", tallest=LIST),
        Shot("support-tax", f"/support/customers/{_id('vat')}/tax"),
        Shot("support-plan", f"/support/customers/{_id('upgraded')}#plan"),
        Shot("support-credits", f"/support/customers/{_id('credit_expires')}#credits"),
        Shot("support-bill-now", f"/support/customers/{_id('threshold')}#billing-now"),
        Shot("support-users", "/support/users"),
        Shot("support-account", "/support/account"),
    ]
    with engine.connect() as connection:
        entry = connection.execute(
            text(
                "SELECT id, recorded_at FROM ledger_entries WHERE customer_id = :customer AND kind = 'finalization' "
                "ORDER BY seq DESC LIMIT 1"
            ),
            {"customer": customer},
        ).one_or_none()
    with engine.connect() as connection:
        change = connection.scalar(text("SELECT id FROM price_changes WHERE state = 'drafted' ORDER BY id LIMIT 1"))
    if change is not None:
        shots.append(Shot("support-price-change", f"/support/prices/changes/{change}", tallest=LIST))
    shots.append(Shot("support-statement", f"/support/customers/{customer}/accounts/assets:receivable"))
    if entry is not None:
        before = quote(entry.recorded_at.isoformat())
        shots += [
            Shot("support-entry", f"/support/customers/{customer}/entries/{entry.id}"),
            Shot(
                "support-time-machine",
                f"/support/customers/{customer}/time_machine?at={before}",
                ("desktop-light", "phone-light"),
            ),
        ]
    cases = {
        "draft": "state = 'draft' AND held_at IS NULL AND version > 1",
        "draft-held": "state = 'draft' AND held_at IS NOT NULL",
        "invoice-paid": "state = 'paid' AND amount_due > 0",
        "invoice-failed": "(customer_id, id) IN (SELECT customer_id, invoice_id FROM payment_failures)",
        "invoice-carried": "state = 'carried_forward'",
        "invoice-refunded": REFUNDED,
    }
    with engine.connect() as connection:
        for name, where in cases.items():
            row = connection.execute(
                text(f"SELECT customer_id, id FROM invoices WHERE {where} ORDER BY compiled_at DESC LIMIT 1")  # noqa: S608 - our own conditions, above
            ).one_or_none()
            if row is None:
                print(f"no page for {name}: the demo has no such invoice yet", file=sys.stderr)
                continue
            is_shown_often = name in ("draft", "invoice-refunded")
            kinds = ("desktop-light", "desktop-dark", "phone-light") if is_shown_often else ("desktop-light",)
            shots.append(Shot(f"support-{name}", f"/support/customers/{row.customer_id}/invoices/{row.id}", kinds))
    return shots


def panel_shots(engine: Engine) -> list[Shot]:
    """The customer's pages, for the demo's showcase customer."""
    shots = [
        Shot("panel-current", "/billing/", ("desktop-light", "desktop-dark", "phone-light")),
        Shot("panel-by-app", "/billing/?by=app"),
        Shot("panel-invoices", "/billing/invoices"),
    ]
    with engine.connect() as connection:
        invoice = connection.scalar(
            text("SELECT id FROM invoices WHERE customer_id = :customer AND number IS NOT NULL ORDER BY 1"),
            {"customer": customer_id_for(SHOWCASE.external_id)},
        )
    if invoice:
        shots.append(Shot("panel-invoice", f"/billing/invoices/{invoice}", ("desktop-light", "phone-light")))
    return shots


def agreed_shots(engine: Engine) -> Iterator[tuple[UUID, list[Shot]]]:
    """The pages of customers with whom something was agreed: prices, a plan, tax, credit; and a line explained."""
    with engine.connect() as connection:
        tiered = connection.execute(
            text(
                "SELECT l.invoice_id, l.id FROM invoice_lines l JOIN prices p ON p.id = l.price_id "
                "WHERE l.customer_id = :customer AND p.model <> 'per_unit' ORDER BY l.amount DESC LIMIT 1"
            ),
            {"customer": _id("tiered")},
        ).one_or_none()
    line = [Shot("panel-line", f"/billing/invoices/{tiered.invoice_id}/lines/{tiered.id}")] if tiered else []
    yield _id("tiered"), [Shot("panel-prices", "/billing/prices", ("desktop-light", "phone-light"), LIST), *line]
    yield _id("launch"), [Shot("panel-plan", "/billing/", ("desktop-light", "phone-light"))]
    yield _id("vat"), [Shot("panel-tax", "/billing/"), Shot("panel-bill-now", "/billing/#bill-now")]
    yield _id("prepaid"), [Shot("panel-credit", "/billing/credit", ("desktop-light", "phone-light"))]


def _id(role: Role) -> UUID:
    return customer_id_for(of_role(role).external_id)


def changed_shots(engine: Engine) -> tuple[UUID, list[Shot]] | None:
    """A customer whose invoice was credited and refunded, and that invoice; None if the demo has none."""
    with engine.connect() as connection:
        row = connection.execute(
            text(f"SELECT customer_id, id FROM invoices WHERE {REFUNDED} ORDER BY compiled_at DESC, id LIMIT 1")  # noqa: S608 - our own condition, above
        ).one_or_none()
    if row is None:
        return None
    kinds = ("desktop-light", "desktop-dark", "phone-light")
    return row.customer_id, [Shot("panel-invoice-changed", f"/billing/invoices/{row.id}", kinds)]


@contextmanager
def visitor(browser: Browser, *, size: str, scheme: str) -> Iterator[BrowserContext]:
    """A fresh visitor with this window and colour scheme."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        device_scale_factor=1,
        reduced_motion="reduce",
    )
    yield context
    context.close()


def take(page: Page, base: str, shots: list[Shot], *, kind: str, wanted: Wanted) -> None:
    for shot in shots:
        if not wanted.has(shot, kind):
            continue
        path, _, place = shot.path.partition("#")
        answer = page.goto(base + path, wait_until="networkidle")
        assert answer is not None, shot.path
        assert answer.ok, f"{shot.path} answered {answer.status}"
        top = unfold(page, place)
        suffix = "" if kind == "desktop-light" and not wanted.everything else f"-{kind}"
        size = page.evaluate("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
        page.screenshot(
            path=wanted.folder / f"{shot.name}{suffix}.png",
            full_page=True,
            clip={"x": 0, "y": top, "width": size[0], "height": min(size[1] - top, HIGH if place else shot.tallest)},
        )
        wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        print(f"{kind:14} {shot.path}{'   WIDER THAN THE WINDOW' if wide else ''}")


def unfold(page: Page, name: str) -> float:
    """Unfold what an address points at, and say how far down it is: a picture of it begins a little above."""
    if not name:
        return 0
    place = page.locator(f"#{name}")
    for summary in place.locator("summary").all():
        summary.click()
    box = place.bounding_box()
    assert box is not None, name
    return max(0, box["y"] + float(page.evaluate("scrollY")) - 24)


def open_panel(page: Page, engine: Engine, base: str, *, customer_id: UUID) -> None:
    """Enter a customer's panel by a link of their own."""
    with session_scope(engine) as session:
        token = create_link(session, customer_id=customer_id, return_url=f"{base}/", now=datetime.now(UTC))
        session.commit()
    page.goto(f"{base}/billing/open/{token}", wait_until="networkidle")
    if "/open/" in page.url:
        page.get_by_role("button").first.click()
    page.wait_for_url("**/billing/")


def shoot(config: Config, browser: Browser, wanted: Wanted) -> None:
    engine = create_engine(config.database_url)
    staff = support_shots(engine)
    panels = [(customer_id_for(SHOWCASE.external_id), panel_shots(engine))]
    changed = changed_shots(engine)
    panels += [changed] if changed else []
    panels += agreed_shots(engine)
    email, password, _ = SIGN_INS[-1]
    for size in SIZES:
        for scheme in SCHEMES:
            kind = f"{size}-{scheme}"
            with visitor(browser, size=size, scheme=scheme) as context:
                page = context.new_page()
                take(
                    page,
                    config.public_url,
                    [Shot("sign-in", "/support/sign-in")],
                    kind=kind,
                    wanted=wanted,
                )
                page.goto(f"{config.public_url}/support/sign-in", wait_until="networkidle")
                page.fill("input[name=email]", email)
                page.fill("input[name=password]", password)
                page.press("input[name=password]", "Enter")
                page.wait_for_url("**/support/")
                take(page, config.public_url, staff, kind=kind, wanted=wanted)
            for customer_id, shots in panels:
                with visitor(browser, size=size, scheme=scheme) as context:
                    page = context.new_page()
                    open_panel(page, engine, config.public_url, customer_id=customer_id)
                    take(page, config.public_url, shots, kind=kind, wanted=wanted)
    if config.stripe_api_base:
        with visitor(browser, size="desktop", scheme="light") as context:
            page = context.new_page()
            take(
                page,
                config.stripe_api_base,
                [Shot("sandbox", "/")],
                kind="desktop-light",
                wanted=wanted,
            )
    engine.dispose()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DOCS)
    parser.add_argument("--all", action="store_true", dest="everything")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these pages alone, such as support-tasks")
    arguments = parser.parse_args()
    chromium = executable()
    if chromium is None:
        print("No Chromium here. Install one, or set CHROMIUM to its path, then try again.", file=sys.stderr)
        return 2
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with launched(chromium) as browser:
        wanted = Wanted(arguments.folder, arguments.everything, frozenset(arguments.only or ()))
        shoot(load_config(), browser, wanted)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
