"""What the process does that a test kills in the middle of sealing. Alone here, so that it starts quickly."""

import time
from datetime import UTC, datetime

from app.database import create_engine
from ledger.seals import seal_due


def seal_slowly(database_url: str) -> None:
    """One seal per transaction and a pause after each, so that a kill has many moments to choose from."""
    engine = create_engine(database_url)
    while True:
        seal_due(engine, now=datetime.now(UTC), at_once=1, progress=lambda _: time.sleep(0.05))
