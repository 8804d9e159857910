"""Settings from the environment: every mistake is a refusal that names the variable."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from app.config import Config, ConfigError, embedded_names
from app.embedded import state as states
from app.embedded.state import State

SANDBOX_KEY = states.SANDBOX_KEY_PREFIX + "0" * 32
OUTSIDE = {
    "DATABASE_URL": "postgres://billing@db.example.org/billing",
    "REDIS_URL": "redis://redis.example.org:6379/0",
    "STRIPE_API_KEY": "rk_live_1234",
    "STRIPE_WEBHOOK_SECRET": "whsec_new, whsec_old",
    "SECRET_KEY": "s" * 48,
}


@pytest.fixture
def var(tmp_path: Path) -> str:
    return str(tmp_path)


@pytest.fixture
def kept(var: str) -> State:
    """The state of embedded services that ran once."""
    state = states.create({"web_port": 8123})
    states.write(Path(var), state)
    return state


def test_a_deployment_of_its_own_needs_nothing_embedded(var: str) -> None:
    config = Config.from_env(OUTSIDE | {"BILLING_VAR": var})
    assert config.database_url == "postgresql+psycopg://billing@db.example.org/billing"
    assert config.stripe_webhook_secrets == ("whsec_new", "whsec_old")
    assert config.stripe_api_base is None
    assert not config.is_sandbox
    assert embedded_names(OUTSIDE | {"BILLING_VAR": var}) == []


def test_what_is_unset_comes_from_the_embedded_services(var: str, kept: State) -> None:
    config = Config.from_env({"BILLING_VAR": var})
    assert config.database_url == kept.database_url.replace("postgresql://", "postgresql+psycopg://")
    assert (config.redis_url, config.stripe_api_key) == (kept.redis_url, kept.stripe_api_key)
    assert (config.stripe_api_base, config.secret_key) == (kept.stripe_api_base, kept.secret_key)
    assert config.public_url == "http://127.0.0.1:8123"
    assert config.is_sandbox


def test_defaults_are_those_of_the_design(var: str, kept: State) -> None:
    config = Config.from_env({"BILLING_VAR": var})
    assert (config.grace, config.draft_window) == (timedelta(hours=6), timedelta(hours=24))
    assert (config.approval_limit, config.first_invoice_limit) == (Decimal(100), None)


def test_secrets_do_not_show(var: str, kept: State) -> None:
    shown = repr(Config.from_env({"BILLING_VAR": var}))
    secrets = kept.owner_password, kept.redis_password, kept.stripe_api_key, kept.webhook_secret, kept.secret_key
    assert not [secret for secret in secrets if secret in shown]


def test_an_embedded_address_in_the_environment_is_still_the_embedded_service(var: str, kept: State) -> None:
    """After `eval "$(billing services env)"` the shell holds the addresses, and commands must still start them."""
    env = {"DATABASE_URL": kept.database_url, "REDIS_URL": "redis://redis.example.org", "BILLING_VAR": var}
    assert embedded_names(env) == ["postgres", "sandbox"]
    assert Config.from_env(env).secret_key == kept.secret_key


def test_processes_panel_and_migrations_may_log_in_as_three(var: str, kept: State) -> None:
    own = Config.from_env(OUTSIDE | {"BILLING_VAR": var})
    assert (own.database_owner_url, own.database_panel_url) == (None, None)
    three = {"DATABASE_OWNER_URL": "postgresql://o@db/b", "DATABASE_PANEL_URL": "postgresql://p@db/b"}
    own = Config.from_env(OUTSIDE | {"BILLING_VAR": var} | three)
    assert own.database_owner_url == "postgresql+psycopg://o@db/b"
    assert own.database_panel_url == "postgresql+psycopg://p@db/b"
    assert "//o@" not in repr(own)
    for env in ({"BILLING_VAR": var}, {"BILLING_VAR": var, "DATABASE_URL": kept.database_url}):
        embedded = Config.from_env(env)
        assert "//billing_service:" in embedded.database_url
        assert "//billing_owner:" in (embedded.database_owner_url or "")
        assert "//billing_visitor:" in (embedded.database_panel_url or "")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"STRIPE_API_BASE": "http://127.0.0.1:9"}, "STRIPE_API_BASE is set together with a real Stripe key"),
        ({"STRIPE_API_KEY": "", "STRIPE_API_BASE": "http://127.0.0.1:9"}, "STRIPE_API_BASE is set without"),
        ({"STRIPE_API_KEY": "pk_live_1"}, "STRIPE_API_KEY must begin with"),
        ({"STRIPE_API_KEY": SANDBOX_KEY}, "set STRIPE_API_BASE to its address"),
        ({"STRIPE_WEBHOOK_SECRET": " , "}, "STRIPE_WEBHOOK_SECRET is not set"),
        ({"STRIPE_API_KEY": ""}, "Run `billing services up`"),
        ({"SECRET_KEY": ""}, "SECRET_KEY is not set"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY must have at least 32"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL must begin with"),
        ({"DATABASE_PANEL_URL": "mysql://x"}, "DATABASE_PANEL_URL must begin with"),
        ({"DATABASE_URL": "", "DATABASE_OWNER_URL": "postgresql://o@db/b"}, "DATABASE_OWNER_URL is set without"),
        ({"REDIS_URL": "http://x"}, "REDIS_URL must begin with"),
        ({"BILLING_GRACE_HOURS": "six"}, "BILLING_GRACE_HOURS must be a number"),
        ({"BILLING_GRACE_HOURS": "-1"}, "BILLING_GRACE_HOURS must be a number from 0"),
        ({"BILLING_DRAFT_WINDOW_HOURS": "1201"}, "BILLING_DRAFT_WINDOW_HOURS must be a number from 0 to 1200"),
        ({"BILLING_APPROVAL_LIMIT": "NaN"}, "BILLING_APPROVAL_LIMIT must be a number"),
        ({"BILLING_WEB_PORT": "80.5"}, "BILLING_WEB_PORT must be a whole number"),
        ({"BILLING_WEB_PORT": "70000"}, "BILLING_WEB_PORT must be a number from 1 to 65535"),
        ({"BILLING_PUBLIC_URL": "billing.example.org"}, "BILLING_PUBLIC_URL must be"),
    ],
)
def test_a_mistake_names_its_variable(var: str, change: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Config.from_env(OUTSIDE | {"BILLING_VAR": var} | change)


def test_a_real_key_is_never_sent_to_the_sandboxs_address(var: str, kept: State) -> None:
    for key in ("sk_test_1", "rk_test_1", "sk_live_1", "rk_live_1"):
        with pytest.raises(ConfigError, match="STRIPE_API_BASE"):
            Config.from_env({"BILLING_VAR": var, "STRIPE_API_KEY": key, "STRIPE_API_BASE": kept.stripe_api_base})


def test_a_database_of_ones_own_does_not_borrow_the_embedded_secret(var: str, kept: State) -> None:
    with pytest.raises(ConfigError, match="SECRET_KEY"):
        Config.from_env({"BILLING_VAR": var, "DATABASE_URL": "postgresql://db.example.org/billing"})
