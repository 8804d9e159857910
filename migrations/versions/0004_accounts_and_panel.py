"""Staff users, API tokens, one-time links into the customer panel.

Why: who may do what. Secrets are stored as hashes only.
Locks: none that matter; all tables are new.
Undo: drops the tables; staff and tokens must be made anew.
"""

from migrations.sql import run

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run("""
        CREATE TABLE staff_users (
            id            uuid PRIMARY KEY,
            email         text NOT NULL UNIQUE CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 320),
            name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
            role          text NOT NULL CHECK (role IN ('viewer', 'agent', 'approver', 'admin')),
            password_hash text NOT NULL,
            active        boolean NOT NULL DEFAULT true,
            session_epoch integer NOT NULL DEFAULT 1,
            created_at    timestamptz NOT NULL,
            last_seen_at  timestamptz
        );
        CREATE TABLE api_tokens (
            id         uuid PRIMARY KEY,
            name       text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 200),
            token_hash text NOT NULL UNIQUE CHECK (length(token_hash) = 64),
            created_at timestamptz NOT NULL,
            revoked_at timestamptz
        );
        CREATE TABLE panel_links (
            token_hash  text PRIMARY KEY CHECK (length(token_hash) = 64),
            customer_id uuid NOT NULL REFERENCES customers,
            return_url  text,
            created_at  timestamptz NOT NULL,
            expires_at  timestamptz NOT NULL,
            used_at     timestamptz
        );
        GRANT SELECT, INSERT, UPDATE ON staff_users, api_tokens, panel_links TO billing_app;
        GRANT DELETE ON panel_links TO billing_app;
    """)


def downgrade() -> None:
    run("DROP TABLE panel_links, api_tokens, staff_users;")
