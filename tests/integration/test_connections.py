"""Connections that the server closes while they lie in the pool."""

import psycopg
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

ASK = text("SELECT pg_backend_pid()")


def test_a_connection_that_the_server_closed_is_replaced_before_anybody_notices(
    engine: Engine, database_url: str
) -> None:
    with Session(engine) as session:
        before = session.scalar(ASK)
    with Session(engine) as session:
        assert session.scalar(ASK) == before, "an idle connection is used again"
    with psycopg.connect(database_url.replace("postgresql+psycopg://", "postgresql://"), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [before])
    with Session(engine) as session:
        assert session.scalar(ASK) != before
