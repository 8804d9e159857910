"""Fly.io's public prices, as the price book's first content.

Source: https://fly.io/docs/about/pricing/
"""

from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy.orm import Session

from invoicing.prices import ItemDetails, publish_price

CURRENCY = "USD"
VALID_FROM = datetime(2020, 1, 1, tzinfo=UTC)
"""Early enough to rate whatever usage is imported."""

PRICE_LIST = (
    (ItemDetails("machine:shared-cpu-1x:256mb", "Machine shared-cpu-1x, 256 MB", "second"), Decimal("0.0000008")),
    (ItemDetails("machine:shared-cpu-1x:1gb", "Machine shared-cpu-1x, 1 GB", "second"), Decimal("0.0000022")),
    (ItemDetails("machine:shared-cpu-1x:2gb", "Machine shared-cpu-1x, 2 GB", "second"), Decimal("0.0000041")),
    (ItemDetails("machine:dedicated-cpu-1x:2gb", "Machine dedicated-cpu-1x, 2 GB", "second"), Decimal("0.0000120")),
    (ItemDetails("volume", "Volume storage", "GB-month"), Decimal("0.15")),
    (ItemDetails("rootfs:stopped", "Root file system of a stopped machine", "GB-month"), Decimal("0.15")),
    (ItemDetails("ipv4:dedicated", "Dedicated IPv4 address", "month"), Decimal("2")),
)
"""Item, and the price of one unit in major units."""


def seed_prices(session: Session, *, actor: str, now: datetime) -> int:
    """Publish the list; what is published already stays. Returns how many prices are new. The caller commits."""
    published = [
        publish_price(
            session,
            item=item,
            currency=CURRENCY,
            unit_amount=unit_amount,
            valid_from=VALID_FROM,
            actor=actor,
            now=now,
        )
        for item, unit_amount in PRICE_LIST
    ]
    return sum(is_new for _, is_new in published)
