"""What each of our logins at Postgres could become, whatever SQL somebody made it run."""

from dataclasses import dataclass

import sqlalchemy
from sqlalchemy import text

from app.config import Config
from app.database import APP_ROLE, PANEL_ROLE, normalise_url

PROCESSES, PANEL, MIGRATIONS = "processes", "panel", "migrations"


@dataclass(frozen=True, slots=True)
class Login:
    """`could_become`: roles of ours, `owner` for whoever owns the journal, `superuser`, `createrole`."""

    purpose: str
    name: str
    could_become: frozenset[str]

    @property
    def excess(self) -> frozenset[str]:
        """What it should not be able to become. A role taken on is no wall: whoever took it on can take it off."""
        needed = {PROCESSES: {APP_ROLE}, PANEL: {PANEL_ROLE}}.get(self.purpose, self.could_become)
        # That the processes may read what the panel may read gives them nothing.
        return self.could_become - needed - ({PANEL_ROLE} if self.purpose == PROCESSES else set())


_COULD_BECOME = text("""
    SELECT session_user AS name, found.role
      FROM pg_roles me
     CROSS JOIN LATERAL (VALUES
            ('superuser', me.rolsuper),
            ('createrole', me.rolcreaterole),
            ('owner', pg_has_role(me.oid, (SELECT relowner FROM pg_class WHERE oid = to_regclass('ledger_entries')),
                                  'MEMBER')),
            ('billing_app', pg_has_role(me.oid, (SELECT oid FROM pg_roles WHERE rolname = 'billing_app'), 'MEMBER')),
            ('billing_panel', pg_has_role(me.oid, (SELECT oid FROM pg_roles WHERE rolname = 'billing_panel'), 'MEMBER'))
           ) AS found (role, is_so)
     WHERE me.rolname = session_user AND found.is_so
""")


def logins(config: Config) -> list[Login]:
    """Each login that the settings name, asked over a connection of its own. Writes nothing.

    The schema must be up to date.
    """
    urls = {
        PROCESSES: config.database_url,
        PANEL: config.database_panel_url or config.database_url,
        MIGRATIONS: config.database_owner_url or config.database_url,
    }
    return [_login(purpose, url) for purpose, url in urls.items()]


def _login(purpose: str, url: str) -> Login:
    engine = sqlalchemy.create_engine(normalise_url(url), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        name = connection.scalar(text("SELECT session_user"))
        rows = connection.execute(_COULD_BECOME).all()
    return Login(purpose, str(name), frozenset(row.role for row in rows))
