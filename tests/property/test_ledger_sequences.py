"""No order of steps leaves the books wrong, nor does one session get what another one should."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from app.database import create_engine
from invoicing import checks as invoicing_checks
from ledger.checks import CHECKS, run_checks
from tests.property.machine import Machine

LOCK_TIMEOUT_MS = 40


@pytest.fixture
def impatient(database_url: str) -> Iterator[Engine]:
    """An engine whose sessions hardly wait for a lock: the one who holds it stands still meanwhile."""
    engine = create_engine(database_url)

    @event.listens_for(engine, "connect")
    def hurry(connection: Any, record: object) -> None:
        connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_MS}ms'")
        connection.commit()

    yield engine
    engine.dispose()


@pytest.mark.parametrize("examples", [6, pytest.param(400, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_no_sequence_of_steps_leaves_the_books_wrong(impatient: Engine, examples: int) -> None:
    class OnThisDatabase(Machine):
        engine = impatient

    run_state_machine_as_test(
        OnThisDatabase,
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    with Session(impatient) as session:
        for result in run_checks(session, {**CHECKS, **invoicing_checks.CHECKS}):
            assert result.holds, f"{result.name}: {result.offenders}"
