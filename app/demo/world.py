"""Who the demo's customers are and what they use: made up, and the same for every run of the same month.

All names are invented; addresses end in .test, which nobody can own (https://www.rfc-editor.org/rfc/rfc6761#section-6.2).
"""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Literal

from invoicing.usage.intake import UsageRecord
from ledger.zones import zone

SEED = 20_240_229
EARLIER_MONTHS = 3
"""Full months before the last one for which customers with a history have usage."""

GROWTH_DAYS = 24
"""Customers with a history start a further app every so many days."""

SECONDS_PER_DAY = 86_400
SATURDAY = 5  # as datetime counts weekdays
QUANTUM = Decimal("0.000000001")
REGIONS = ("ams", "fra", "lhr", "iad", "ord", "sjc", "syd", "nrt", "gru")

Role = Literal[
    "plain",  # paid by card
    "declined",  # the card is refused when charged
    "sent",  # gets invoices by e-mail instead
    "anomaly",  # last month is far above the earlier ones
    "adjusted",  # draft open, with a charge and a credit
    "unapproved",  # draft open, a large charge awaits a second person
    "waived",  # draft open, one line waived
    "reviewed",  # draft open, untouched
    "tiny",  # too little to collect
    "credited",  # credits cover the invoice
    "part_credited",  # credits cover a part of it
    "new",  # signed up, nothing used yet
    "settled",  # every invoice is paid, and paid out to the bank
    "corrected",  # credited in part before it was paid
    "refunded",  # paid, and refunded in part
    "refund_failed",  # paid; the refund did not arrive
    "disputed",  # paid; the bank takes it back, evidence is due soon
    "dispute_lost",  # paid; the bank took it back
    "rebilled",  # made void and billed again
    "written_off",  # given up
    "doubtful",  # a large credit note awaits a second person
    "transfer",  # paid by bank transfer
    "transfer_too_much",  # paid by bank transfer, and more than was due
    "launch",  # on the plan Launch, with a part of its usage used
    "upgraded",  # changed from Launch to Scale in the middle of last month
    "vat",  # taxed on top
    "reverse_charge",  # a business elsewhere in the European Union
    "tiered",  # pays by a list with tiers, and has a discount
    "credit_expires",  # promotional credit that will expire
    "prepaid",  # buys credit in advance, refilled when little is left
    "early",  # billed before this month's end
    "threshold",  # billed whenever so much is unbilled
]
SENT_ROLES: frozenset[Role] = frozenset({"sent", "corrected", "rebilled", "written_off"})
"""Who gets invoices by e-mail: no card is charged."""
TRANSFER_ROLES: frozenset[Role] = frozenset({"transfer", "transfer_too_much"})
"""Whose invoices we send ourselves; the money comes to our bank account."""
OPEN_DRAFT_ROLES: frozenset[Role] = frozenset({"adjusted", "unapproved", "waived", "reviewed"})
REVIEW_WINDOW = timedelta(days=45)
"""How long those drafts stay open, so that the demo keeps having some."""

SHARED_SMALL = "machine:shared-cpu-1x:256mb"
SHARED_1GB = "machine:shared-cpu-1x:1gb"
SHARED_2GB = "machine:shared-cpu-1x:2gb"
DEDICATED = "machine:dedicated-cpu-1x:2gb"
EGRESS_GB = 6_400
"""What one customer sends out in a month: over an allowance and into the third tier of its list."""
ROOTFS_GB = 3
"""Size of a stopped machine's root file system."""


@dataclass(frozen=True, slots=True)
class DemoCustomer:
    """One made-up customer. `apps` is how many apps run, `history` whether there are months before the last one."""

    name: str
    role: Role = "plain"
    apps: int = 2
    size: Literal["small", "medium", "large"] = "small"
    time_zone: str = "UTC"
    anchor_day: int = 1
    currency: str = "USD"
    history: bool = False

    @property
    def slug(self) -> str:
        return "-".join("".join(c if c.isalnum() else " " for c in self.name.lower()).split())

    @property
    def external_id(self) -> str:
        return f"org-{self.slug}"[:60].rstrip("-")

    @property
    def email(self) -> str:
        return f"billing@{self.slug[:40].rstrip('-')}.test"


CUSTOMERS: tuple[DemoCustomer, ...] = (
    DemoCustomer("Lanternfish Logistics", role="settled", apps=4, size="medium", history=True),
    DemoCustomer("Copper Kettle Games", apps=3, size="medium"),
    DemoCustomer("Saltmarsh Weather Service", role="transfer", apps=2, time_zone="Europe/London"),
    DemoCustomer("Thistledown Textiles", role="declined", apps=3, size="medium"),
    DemoCustomer("Ninepin Ticketing", role="anomaly", apps=2, history=True),
    DemoCustomer("Birch & Barrow Seed Exchange", role="adjusted", apps=3, size="medium"),
    DemoCustomer("Quillfeather Press", role="unapproved", apps=3, size="large"),
    DemoCustomer("Tidepool Robotics", role="waived", apps=2, size="medium"),
    DemoCustomer("Marzipan Metrics", role="reviewed", apps=2),
    DemoCustomer("Fennel Street Bakery", role="tiny", apps=1),
    DemoCustomer("Ostrich Parcel", role="sent", apps=4, size="large"),
    DemoCustomer(
        "Kupferhain Kartenwerk", "vat", apps=2, size="medium", time_zone="Europe/Berlin", currency="EUR", history=True
    ),
    DemoCustomer("Pebbleworks Pottery School", role="credited", apps=1),
    DemoCustomer("Juniper Signal", role="part_credited", apps=2, size="medium"),
    DemoCustomer("Brass Otter Maps", role="new", apps=0),
    DemoCustomer("Moonmoth Media Monitoring", role="tiered", apps=26),
    DemoCustomer("Association of Volunteer Lighthouse Keepers of the Western Skerries and Outer Banks", apps=2),
    DemoCustomer("Velvet Anvil Studio", role="corrected", apps=2, time_zone="America/New_York"),
    DemoCustomer(
        "Cloudberry Clinic Scheduling", role="transfer_too_much", apps=2, size="medium", time_zone="Europe/Helsinki"
    ),
    DemoCustomer("Harrowgate Hops", role="early", apps=1),
    DemoCustomer("Paper Lantern Tutoring", role="threshold", apps=2, time_zone="Asia/Tokyo"),
    DemoCustomer("Gravelpit Geodata", role="doubtful", apps=9, size="large"),
    DemoCustomer("Winterwheat Weaving", apps=1, anchor_day=15),
    DemoCustomer("Foxglove Fleet Charging", role="refunded", apps=3, size="medium"),
    DemoCustomer("Sundial Choir Archive", role="prepaid", apps=1),
    DemoCustomer("Rooftop Apiary Network", apps=2, time_zone="Australia/Sydney"),
    DemoCustomer("Driftwood Drone Survey", role="disputed", apps=2, size="medium"),
    DemoCustomer("Plum Orchard Payroll", apps=3, size="medium", anchor_day=31),
    DemoCustomer("Skylark Stage Lighting", role="written_off", apps=1),
    DemoCustomer("Cinder Cone Observatory", apps=2, time_zone="Pacific/Auckland"),
    DemoCustomer("Bramble Board Games", role="credit_expires", apps=2),
    DemoCustomer("Northgate Nut Cooperative", apps=1, anchor_day=15, time_zone="America/Sao_Paulo"),
    DemoCustomer("Pocket Ferry Timetables", role="launch", apps=2),
    DemoCustomer("Silo Seven Sound", role="refund_failed", apps=2, size="medium"),
    DemoCustomer("Mistral Mosaic Tiles", role="reverse_charge", apps=1, time_zone="Europe/Paris"),
    DemoCustomer("Wandering Yak Outfitters", role="rebilled", apps=2, time_zone="Asia/Kolkata"),
    DemoCustomer("Hedgerow Herbarium", apps=1),
    DemoCustomer("Teacup Telemetry", role="dispute_lost", apps=3, size="medium", time_zone="America/Los_Angeles"),
    DemoCustomer("Ironwood Invoicing Museum", apps=1),
    DemoCustomer("Parsnip Project Planner", role="upgraded", apps=2),
)
SHOWCASE = CUSTOMERS[0]
"""Whose panel to look at first."""

_APP_NAMES = (
    "web", "api", "worker", "scheduler", "images", "search", "auth", "mailer", "metrics", "docs", "staging", "edge",
    "importer", "exporter", "chat", "queue", "cache", "admin", "webhooks", "feeds", "reports", "tiles", "sync",
    "thumbnails", "previews", "crawler",
)  # fmt: skip
_SIZES: dict[str, tuple[str, ...]] = {
    "small": (SHARED_SMALL, SHARED_SMALL, SHARED_1GB),
    "medium": (SHARED_1GB, SHARED_2GB, SHARED_2GB),
    "large": (SHARED_2GB, DEDICATED, DEDICATED),
}


@dataclass(frozen=True, slots=True)
class Series:
    """One metered thing: what it is, whose it is, and between which days it existed (`until` exclusive)."""

    key: str
    item: str
    labels: dict[str, str]
    uptime: float = 1.0
    gigabytes: int = 0
    since: date = date.min
    until: date = date.max


@dataclass(frozen=True, slots=True)
class Calendar:
    """The demo's months, from the moment at which it is made. All in UTC."""

    now: datetime

    @property
    def this_month(self) -> date:
        return self.now.date().replace(day=1)

    @property
    def last_month(self) -> date:
        return (self.this_month - timedelta(days=1)).replace(day=1)

    @property
    def first_month(self) -> date:
        """Where the history begins."""
        month = self.last_month
        for _ in range(EARLIER_MONTHS):
            month = (month - timedelta(days=1)).replace(day=1)
        return month

    def start_of(self, customer: DemoCustomer) -> date:
        """The customer's first day. Customers that are new came six days ago, or at the month's start."""
        if customer.role == "new":
            return max(self.now.date() - timedelta(days=6), self.this_month)
        return self.first_month if customer.history else self.last_month

    def created_at(self, customer: DemoCustomer) -> datetime:
        """When the customer signed up: the midnight at which the first day begins."""
        return _midnight(self.start_of(customer), customer)


def _midnight(day: date, customer: DemoCustomer) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone(customer.time_zone)).astimezone(UTC)


def usage(customer: DemoCustomer, calendar: Calendar) -> Iterator[UsageRecord]:
    """All of the customer's usage until now: a record per series and day, today's with the hours that are full.

    Days are the customer's own, so that none of them reaches over the end of a billing period.
    """
    local_now = calendar.now.astimezone(zone(customer.time_zone))
    today = local_now.date()
    row = 0
    for series in _series(customer, calendar):
        day = max(calendar.start_of(customer), series.since)
        while day < min(series.until, today + timedelta(days=1)):
            hours = 24 if day < today else local_now.hour
            if hours:
                row += 1
                yield _record(customer, series, row, _midnight(day, customer), hours=hours)
            day += timedelta(days=1)


def _series(customer: DemoCustomer, calendar: Calendar) -> Iterator[Series]:
    """The customer's machines, volumes, stopped machines and addresses."""
    if customer.role == "new":
        return
    random = _random(customer.external_id)
    if customer.role == "tiny":
        # A machine that runs for minutes a day: cents in a month.
        yield _machine("landing", SHARED_SMALL, "fra", random, uptime=0.12)
        return
    for index in range(customer.apps):
        app = f"{customer.slug.split('-')[0]}-{_APP_NAMES[index % len(_APP_NAMES)]}"
        since = calendar.first_month + timedelta(days=GROWTH_DAYS * index) if customer.history else date.min
        for series in _app_series(customer, app, index, random):
            yield replace(series, since=since)
    if customer.role == "tiered":
        labels = {"app": "moonmoth-web", "region": "fra"}
        yield Series("egress-moonmoth-web", "egress", labels, gigabytes=EGRESS_GB)
    if customer.role == "anomaly":
        # Somebody left a load test running for ten days.
        since = calendar.last_month + timedelta(days=9)
        for _ in range(20):
            machine = _machine("loadtest", DEDICATED, "iad", random)
            yield replace(machine, since=since, until=since + timedelta(days=10))


def _app_series(customer: DemoCustomer, app: str, index: int, random: Random) -> Iterator[Series]:
    item = random.choice(_SIZES[customer.size])
    count = 1 if customer.apps > 10 else random.choice((1, 1, 1, 2))
    regions = random.sample(REGIONS, k=min(count, 3))
    for number in range(count):
        uptime = random.choice((1.0, 1.0, 0.97, 0.6))
        yield _machine(app, item, regions[number % len(regions)], random, uptime=uptime)
    if index == 0 or random.random() < 0.1:
        labels = {"app": app, "region": regions[0], "volume": f"vol_{random.getrandbits(48):012x}"}
        yield Series(f"{labels['volume']}", "volume", labels, gigabytes=random.choice((1, 3, 10, 40)))
    if random.random() < 0.1:
        labels = {"app": app, "region": regions[0], "machine": f"{random.getrandbits(56):014x}"}
        yield Series(f"rootfs-{labels['machine']}", "rootfs:stopped", labels, gigabytes=ROOTFS_GB)
    if index == 0 and customer.size != "small":
        labels = {"app": app, "region": regions[0], "address": f"198.51.100.{random.randrange(1, 255)}"}
        yield Series(f"ipv4-{app}", "ipv4:dedicated", labels, gigabytes=1)


def _machine(app: str, item: str, region: str, random: Random, *, uptime: float = 1.0) -> Series:
    machine = f"{random.getrandbits(56):014x}"
    return Series(machine, item, {"app": app, "region": region, "machine": machine}, uptime)


def _record(customer: DemoCustomer, series: Series, row: int, at: datetime, *, hours: int) -> UsageRecord:
    event_id = f"{customer.external_id}:{series.key}:{at.isoformat()}"
    if series.item.startswith("machine:"):
        seconds = SECONDS_PER_DAY * hours // 24
        # Some days bring a restart or a night's sleep; the same ones in every run.
        used = series.uptime * _random(event_id).choice((1.0, 1.0, 1.0, 0.98, 0.9))
        if series.uptime < 1 and (at + timedelta(hours=14)).weekday() >= SATURDAY:
            used /= 2
        quantity = Decimal(int(seconds * used))
    else:
        # A month's worth is spread over the month's own days, so that a full month is one unit per gigabyte.
        share = Decimal(series.gigabytes * hours) / (24 * _days_of_month(at))
        quantity = share.quantize(QUANTUM)
    return UsageRecord(
        row=row,
        event_id=event_id,
        customer=customer.external_id,
        item=series.item,
        quantity=quantity,
        effective_at=at,
        labels=series.labels,
    )


def _days_of_month(at: datetime) -> int:
    middle = at + timedelta(hours=14)  # east of Greenwich the day began on the evening before
    return monthrange(middle.year, middle.month)[1]


def _random(name: str) -> Random:
    """A generator of its own for each name, so that adding a customer changes no other."""
    return Random(f"{SEED}:{name}")  # noqa: S311 - demo data, no secret
