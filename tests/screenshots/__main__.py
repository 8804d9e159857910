"""`make screenshots`: the pages of the running demo (`make run`), wide and narrow, light and dark.

`python -m tests.screenshots FOLDER --all` writes all four kinds of every page; without --all, those that the docs show.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from sqlalchemy import Engine, text

from app.config import Config, load_config
from app.database import create_engine, session_scope
from app.demo.seed import SIGN_INS
from app.demo.world import SHOWCASE
from app.panel.links import create_link
from invoicing.customers import customer_id_for
from tests.browser import FLAGS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
SCHEMES = ("light", "dark")
TALLEST = 2000  # pixels; of a longer page its beginning is shown


@dataclass(frozen=True)
class Shot:
    """One page: its name, its path, and the kinds ("desktop-light") that stand in the docs."""

    name: str
    path: str
    in_docs: tuple[str, ...] = ("desktop-light",)


def support_shots(engine: Engine) -> list[Shot]:
    """The staff's pages, on the demo's own customers and invoices."""
    customer = customer_id_for(SHOWCASE.external_id)
    shots = [
        Shot("support-home", "/support/", ("desktop-light", "desktop-dark", "phone-light")),
        Shot("support-search", "/support/customers?q=co"),
        Shot("support-customer", f"/support/customers/{customer}", ("desktop-light", "phone-light")),
        Shot("support-journal", f"/support/customers/{customer}/journal"),
        Shot("support-drafts", "/support/drafts"),
        Shot("support-webhooks", "/support/webhooks"),
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
    }
    with engine.connect() as connection:
        for name, where in cases.items():
            row = connection.execute(
                text(f"SELECT customer_id, id FROM invoices WHERE {where} ORDER BY compiled_at DESC LIMIT 1")  # noqa: S608 - our own conditions, above
            ).one_or_none()
            if row is None:
                print(f"no page for {name}: the demo has no such invoice yet", file=sys.stderr)
                continue
            kinds = ("desktop-light", "desktop-dark", "phone-light") if name == "draft" else ("desktop-light",)
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


def take(page: Page, base: str, shots: list[Shot], *, kind: str, folder: Path, everything: bool) -> None:
    for shot in shots:
        if not everything and kind not in shot.in_docs:
            continue
        answer = page.goto(base + shot.path, wait_until="networkidle")
        assert answer is not None, shot.path
        assert answer.ok, f"{shot.path} answered {answer.status}"
        suffix = "" if kind == "desktop-light" and not everything else f"-{kind}"
        size = page.evaluate("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
        page.screenshot(
            path=folder / f"{shot.name}{suffix}.png",
            full_page=True,
            clip={"x": 0, "y": 0, "width": size[0], "height": min(size[1], TALLEST)},
        )
        wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        print(f"{kind:14} {shot.path}{'   WIDER THAN THE WINDOW' if wide else ''}")


def shoot(config: Config, browser: Browser, *, folder: Path, everything: bool) -> None:
    engine = create_engine(config.database_url)
    staff, panel = support_shots(engine), panel_shots(engine)
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
                    folder=folder,
                    everything=everything,
                )
                page.goto(f"{config.public_url}/support/sign-in", wait_until="networkidle")
                page.fill("input[name=email]", email)
                page.fill("input[name=password]", password)
                page.press("input[name=password]", "Enter")
                page.wait_for_url("**/support/")
                take(page, config.public_url, staff, kind=kind, folder=folder, everything=everything)
            with visitor(browser, size=size, scheme=scheme) as context, session_scope(engine) as session:
                token = create_link(
                    session,
                    customer_id=customer_id_for(SHOWCASE.external_id),
                    return_url=f"{config.public_url}/",
                    now=datetime.now(UTC),
                )
                session.commit()
                page = context.new_page()
                page.goto(f"{config.public_url}/billing/open/{token}", wait_until="networkidle")
                if "/open/" in page.url:
                    page.get_by_role("button").first.click()
                page.wait_for_url("**/billing/")
                take(page, config.public_url, panel, kind=kind, folder=folder, everything=everything)
    if config.stripe_api_base:
        with visitor(browser, size="desktop", scheme="light") as context:
            page = context.new_page()
            take(
                page,
                config.stripe_api_base,
                [Shot("sandbox", "/")],
                kind="desktop-light",
                folder=folder,
                everything=everything,
            )
    engine.dispose()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DOCS)
    parser.add_argument("--all", action="store_true", dest="everything")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("No Chromium here. Install one (apt-get install chromium), then try again.", file=sys.stderr)
        return 2
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        shoot(load_config(), browser, folder=arguments.folder, everything=arguments.everything)
        browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
