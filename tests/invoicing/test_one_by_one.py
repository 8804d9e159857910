"""A run over many: one's trouble is named, costs the others nothing, and leaves nothing half done."""

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.database import create_engine
from invoicing.one_by_one import by_itself
from invoicing.tables import Customer
from tests.invoicing.conftest import Company


@dataclass
class Run:
    busy: int = 0
    problems: list[str] = field(default_factory=list)


def rename(session: Session, name: str) -> str:
    session.execute(text("UPDATE customers SET name = :name"), {"name": name})
    return name


def named(company: Company) -> str | None:
    with Session(company.engine) as session:
        return session.scalar(select(func.max(Customer.name)))


def fail_with(error: Exception) -> Callable[[Session], str]:
    def work(session: Session) -> str:
        rename(session, "half done")
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("two lines\nof it"), "customer 7: two lines"),
        (ValueError(), "customer 7: ValueError"),
        (KeyError("x"), "customer 7: 'x'"),
    ],
    ids=["in two lines", "without a word", "of a key"],
)
def test_what_goes_wrong_is_named_in_a_line_and_leaves_nothing(company: Company, error: Exception, said: str) -> None:
    company.customer("acme")
    run = Run()
    assert by_itself(company.engine, fail_with(error), about="customer 7", trouble=run) is None
    assert (run.busy, run.problems) == (0, [said])
    assert named(company) == "acme"
    assert by_itself(company.engine, lambda session: rename(session, "next"), about="customer 8", trouble=run) == "next"
    assert named(company) == "next"


def test_whoever_is_held_by_somebody_else_is_busy_and_nothing_is_wrong(company: Company) -> None:
    acme: UUID = company.customer("acme")
    run = Run()

    def locked(session: Session) -> None:
        session.execute(text("SELECT FROM ledger_books WHERE customer_id = :c FOR UPDATE NOWAIT"), {"c": acme})

    with Session(company.engine) as holding:
        holding.execute(text("SELECT FROM ledger_books WHERE customer_id = :c FOR UPDATE"), {"c": acme})
        assert by_itself(company.engine, locked, about="acme", trouble=run) is None
    assert (run.busy, run.problems) == (1, [])


def test_a_database_that_is_away_is_nobodys_own_trouble(engine: Engine) -> None:
    away = create_engine(engine.url.set(host="127.0.0.1", port=1).render_as_string(hide_password=False))
    run = Run()
    with pytest.raises(OperationalError):
        by_itself(away, lambda session: session.scalar(text("SELECT 1")), about="acme", trouble=run)
    assert run.problems == []
    away.dispose()
