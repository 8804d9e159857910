"""Customers with open books."""

from datetime import UTC, datetime
from typing import Any

import factory
from sqlalchemy.orm import Session

from invoicing.customers import CustomerView, create_customer


class CustomerFactory(factory.Factory[CustomerView]):
    """Creates the customer and the books through `invoicing.customers`. Takes the `session`; the caller commits."""

    class Meta:
        model = CustomerView

    external_id = factory.Sequence(lambda n: f"org-{n}")
    name = factory.LazyAttribute(lambda o: f"Customer {o.external_id}")
    email = factory.LazyAttribute(lambda o: f"billing@{o.external_id}.test")
    currency = "USD"
    time_zone = "UTC"
    anchor_day = 1
    actor = "factory"
    now = datetime(2025, 1, 1, tzinfo=UTC)

    @classmethod
    def _create(cls, model_class: type[CustomerView], *_: Any, session: Session, **details: Any) -> CustomerView:  # noqa: ARG003 - the signature is factory-boy's
        return create_customer(session, **details)[0]
