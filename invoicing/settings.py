"""The rules of billing that an operator may set, with the defaults of the design."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Settings:
    """`grace` is how long after a period's end we wait for late usage; `draft_window` how long a draft stays open.

    Amounts are in major units of each customer's own currency. An adjustment above `approval_limit` needs a second
    person. A draft is held for a person if it is `anomaly_factor` times above or below the customer's usual amount
    (the mean of the last six invoices, once there are three) and differs from it by more than `anomaly_floor`; before
    that, if it is above `first_invoice_limit` (None: no such limit). `seller_country` is where we are, by ISO 3166-1,
    for the reverse charge within the European Union (None: nowhere that matters).
    """

    grace: timedelta = timedelta(hours=6)
    draft_window: timedelta = timedelta(hours=24)
    approval_limit: Decimal = Decimal(100)
    first_invoice_limit: Decimal | None = None
    anomaly_factor: Decimal = Decimal(3)
    anomaly_floor: Decimal = Decimal(10)
    seller_country: str | None = None
