"""What the process does that a test kills in the middle of sealing. Alone here, so that it starts quickly."""

from datetime import UTC, datetime

from app.database import create_engine
from ledger import seals


def seal_slowly(database_url: str) -> None:
    """One seal per transaction, so that a kill has many moments to choose from."""
    seals.RANGES_AT_ONCE = 1
    engine = create_engine(database_url)
    while True:
        seals.seal_due(engine, now=datetime.now(UTC))
