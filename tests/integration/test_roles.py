"""Logins that are limited to one role: what SQL of an attacker's own cannot make of them."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg import errors, sql
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from app.cli import main
from app.database import APP_ROLE, PANEL_ROLE, create_engine
from app.embedded import state as states
from tests.factories.entries import EntryFactory
from tests.integration.ledger.books import Ledger, plain_url
from tests.processes.services import TestServers


@pytest.fixture
def logins(servers: TestServers, database_url: str) -> Iterator[dict[str, str]]:
    """Addresses of the test's database by role: each with a login that is a member of that role and of no other."""
    found: dict[str, str] = {}
    names = {role: f"{role}_{secrets.token_hex(4)}" for role in (APP_ROLE, PANEL_ROLE)}
    admin = make_url(servers.admin_url).set(database=make_url(database_url).database)
    with psycopg.connect(plain_url(admin.render_as_string(hide_password=False)), autocommit=True) as connection:
        for role, name in names.items():
            words = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}")
            connection.execute(words.format(sql.Identifier(name), sql.Literal(name), sql.Identifier(role)))
            url = make_url(database_url).set(username=name, password=name)
            found[role] = url.render_as_string(hide_password=False)
        yield found
        for name in names.values():
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [name])
            connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def attempts(owner: str) -> dict[str, str]:
    """Ways to become somebody else, or to put the guards aside."""
    return {
        "become the owner": f"SET ROLE {owner}",
        "become the owner by a function": f"SELECT set_config('role', '{owner}', false)",
        "log in as the owner": f"SET SESSION AUTHORIZATION {owner}",
        "become a superuser": "SET ROLE postgres",
        "write totals after taking the role off": "RESET ROLE; UPDATE ledger_totals SET amount = 1",
        "write totals as nobody": "SET ROLE NONE; UPDATE ledger_totals SET amount = 1",
        "disable a guard": "SET ROLE NONE; ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
        "drop a guard": "SET ROLE NONE; DROP TRIGGER append_only ON ledger_entries",
        "skip the guards": "SET ROLE NONE; SET session_replication_role = replica",
        "join the owner": f"SET ROLE NONE; GRANT {owner} TO SESSION_USER",
        "make a role": "SET ROLE NONE; CREATE ROLE mine SUPERUSER",
        "take what is the owner's": f"SET ROLE NONE; REASSIGN OWNED BY {owner} TO SESSION_USER",
        "a function of its own": "SET ROLE NONE; CREATE FUNCTION public.lend() RETURNS void LANGUAGE sql AS ''",
    }


OWNER = "billing_owner"


@pytest.mark.parametrize("role", [APP_ROLE, PANEL_ROLE])
@pytest.mark.parametrize("name", attempts(OWNER))
def test_a_login_of_its_own_becomes_nobody_else(
    logins: dict[str, str], database_url: str, role: str, name: str
) -> None:
    statement = attempts(make_url(database_url).username or "")[name]
    with (
        psycopg.connect(plain_url(logins[role]), options=f"-c role={role}", autocommit=True) as connection,
        pytest.raises((errors.InsufficientPrivilege, errors.InvalidParameterValue, errors.UndefinedObject)),
    ):
        connection.execute(statement.encode())


def test_the_panels_login_does_not_become_the_application(logins: dict[str, str]) -> None:
    with psycopg.connect(plain_url(logins[PANEL_ROLE]), autocommit=True) as connection:
        for statement in (f"SET ROLE {APP_ROLE}", f"SELECT set_config('role', '{APP_ROLE}', false)"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement.encode())
        connection.execute("SET ROLE NONE")
        assert connection.execute("SELECT count(*) FROM ledger_books").fetchone() == (0,)


def test_with_its_own_login_the_application_posts_as_before(logins: dict[str, str]) -> None:
    engine = create_engine(logins[APP_ROLE])
    ledger = Ledger(engine)
    acme = ledger.open()
    ledger.post(EntryFactory.build(customer_id=acme))
    with Session(engine) as session:
        assert session.scalar(text("SELECT sum(entries) FROM ledger_totals")) == 1
        assert session.scalar(text("SELECT current_user")) == APP_ROLE
    engine.dispose()


@pytest.fixture
def environment(database_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "STRIPE_API_KEY": "sk_test_sandbox_none",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "STRIPE_WEBHOOK_SECRET": "whsec_none",
        "SECRET_KEY": "x" * 40,
        "BILLING_VAR": str(tmp_path / "var"),
    }


def db(environment: dict[str, str], *words: str) -> Result:
    return CliRunner().invoke(main, ["db", *words], env=environment)


def test_the_command_warns_while_the_processes_could_become_the_owner(environment: dict[str, str]) -> None:
    answer = db(environment, "roles")
    assert answer.exit_code == 1, answer.output
    assert "too much: " in answer.output
    assert "owner" in answer.output
    assert "docs/operations.md" in answer.output


def test_the_command_is_content_with_logins_of_their_own(
    environment: dict[str, str], logins: dict[str, str], database_url: str
) -> None:
    separate = environment | {
        "DATABASE_URL": logins[APP_ROLE],
        "DATABASE_PANEL_URL": logins[PANEL_ROLE],
        "DATABASE_OWNER_URL": database_url,
    }
    assert db(separate, "roles").exit_code == 0
    rows = {row["purpose"]: row for row in json.loads(db(separate, "roles", "--json").stdout)}
    assert [rows[purpose]["could_become"] for purpose in ("processes", "panel")] == [[APP_ROLE], [PANEL_ROLE]]
    assert "owner" in rows["migrations"]["could_become"]
    assert all(row["excess"] == [] for row in rows.values())
    assert db(separate, "upgrade").exit_code == 0
    assert db(separate, "check").exit_code == 0
    # Without the owner's login there is nobody who could migrate; with the wrong one for the panel it says so.
    assert db(separate | {"DATABASE_PANEL_URL": logins[APP_ROLE]}, "roles").exit_code == 1


def test_the_embedded_logins_act_as_the_roles_that_the_migrations_make() -> None:
    assert set(states.LOGINS.values()) == {APP_ROLE, PANEL_ROLE}
