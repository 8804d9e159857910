"""The list of guards is true of today's sources and of today's schema."""

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.mutations.guard import Guard, Sql
from tests.mutations.listed import GUARDS

ENOUGH = 240


def test_there_are_enough_guards_and_each_has_its_own_name() -> None:
    assert len({guard.name for guard in GUARDS}) == len(GUARDS) >= ENOUGH
    assert all(guard.protects.endswith(".") for guard in GUARDS)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_stands_where_the_list_says(guard: Guard) -> None:
    assert not guard.moved(), "this guard has moved"


def test_every_guard_in_the_database_is_there(database_url: str) -> None:
    """Each statement is run as the schema's owner, and taken back: what it takes away has to exist."""
    moved = []
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        for guard in GUARDS:
            try:
                for step in guard.taken:
                    if isinstance(step, Sql):
                        connection.execute(step.statement.encode())
            except psycopg.Error as error:
                moved.append(f"{guard.name}: {error}")
            connection.rollback()
    assert not moved, "these guards have moved"
