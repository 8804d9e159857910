"""What commands that write one thing share: the composed product, and one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from app.composition import Billing, build
from app.config import load_config


@contextmanager
def books() -> Iterator[tuple[Session, Billing]]:
    """One transaction, committed at the block's end; a refusal leaves nothing behind."""
    billing = build(load_config())
    try:
        with Session(billing.engine, expire_on_commit=False) as session, session.begin():
            yield session, billing
    finally:
        billing.dispose()
