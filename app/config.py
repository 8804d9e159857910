"""The settings of every process, from environment variables, checked before anything is done with them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from environs import Env, EnvError

from app import embedded
from app.database import normalise_url
from app.embedded import state as states
from app.embedded.state import SANDBOX_KEY_PREFIX, State

PROJECT = Path(__file__).resolve().parent.parent

REAL_KEY_PREFIXES = ("sk_live_", "rk_live_", "sk_test_", "rk_test_")
"""Source: https://docs.stripe.com/keys"""

MAX_DRAFT_WINDOW_HOURS = 50 * 24
DEFAULT_MAIL_FROM = "billing@localhost"
DEFAULT_BANK_DETAILS = ("Account holder and number: ask us.",)
MIN_SECRET_KEY_LENGTH = 32


class ConfigError(Exception):
    """A setting is missing or wrong."""

    code = "config"


class _MappingEnv(Env):
    """Reads the mapping it was given, where environs itself would read the process's environment."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__()
        self._mapping = values

    def _get_value(self, env_key: str, default: Any) -> Any:
        # A variable that is set to nothing counts as unset: `STRIPE_API_BASE= billing web` is how a shell says so.
        return self._mapping.get(env_key) or default


@dataclass(frozen=True, slots=True)
class Config:
    """What a process needs to know. Secrets stay out of its `repr`, and so out of logs and tracebacks."""

    database_url: str = field(repr=False)
    """SQLAlchemy's form, driver included. Processes log in with it and take on the application's role."""
    redis_url: str = field(repr=False)
    stripe_api_key: str = field(repr=False)
    stripe_api_base: str | None
    """The sandbox's address; None is Stripe's own."""
    stripe_webhook_secrets: tuple[str, ...] = field(repr=False)
    """All that are valid now: two while one replaces the other."""
    secret_key: str = field(repr=False)
    """Signs sessions and one-time links."""

    grace: timedelta
    """How long after its end a period may still take late usage before it is closed."""
    draft_window: timedelta
    """How long a draft stays open for review, unless the customer has a window of its own."""
    approval_limit: Decimal
    """Major units: an adjustment above it needs a second person."""
    first_invoice_limit: Decimal | None
    """Major units: a customer's first invoices above it are held for a person. None: no such limit."""

    public_url: str
    """Where browsers reach the site, without a slash at the end."""
    web_port: int
    """The loopback port that `billing web` listens on."""
    web_port_is_configured: bool
    """Whether a person chose it: then another one will not do."""
    var: Path
    """The folder that embedded services and processes write to."""

    stripe_account_id: str | None = None
    """Our account at Stripe (`acct_...`): then events about any other are refused. None: those that name one are."""
    database_owner_url: str | None = field(default=None, repr=False)
    """Owns the schema and runs migrations. None: the login of `database_url` does."""
    database_panel_url: str | None = field(default=None, repr=False)
    """The customer panel logs in with it and takes on the panel's role. None: `database_url` serves the panel too."""
    smtp_url: str | None = field(default=None, repr=False)
    """The mail server for letters; None: they are written to `var`/mail."""
    mail_from: str = DEFAULT_MAIL_FROM
    """Whom letters are from."""
    bank_details: tuple[str, ...] = DEFAULT_BANK_DETAILS
    """What letters say about where to transfer money to, line by line."""
    seller_country: str | None = None
    """Where we are, by ISO 3166-1: it decides who owes the tax of businesses in the European Union."""

    @property
    def is_sandbox(self) -> bool:
        """Whether Stripe is the sandbox, so that no real money can move."""
        return self.stripe_api_base is not None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Config":
        """Read the settings. Starts nothing: the embedded services must have run once, or be replaced by variables.

        Raises:
            ConfigError: names the variable and the cure.
        """
        reader = _MappingEnv(env)
        var = var_folder(env)
        state = states.read(var) if var.exists() else None
        database_url, owner_url, panel_url = _database_urls(env, state)
        redis_url = _server_url(env, "REDIS_URL", ("redis", "rediss", "unix"))
        key, base, secrets = _stripe(env, state)
        web_port = _number(reader, "BILLING_WEB_PORT", minimum=1, maximum=65535)
        port = int(web_port) if web_port is not None else state.web_port if state else states.DEFAULT_WEB_PORT
        window = _number(reader, "BILLING_DRAFT_WINDOW_HOURS", default="24", maximum=MAX_DRAFT_WINDOW_HOURS)
        first_limit = _number(reader, "BILLING_FIRST_INVOICE_LIMIT")
        return cls(
            database_url=database_url,
            redis_url=redis_url or _kept(state, "REDIS_URL").redis_url,
            stripe_api_key=key,
            stripe_api_base=base,
            stripe_webhook_secrets=secrets,
            secret_key=_secret_key(env, state),
            grace=timedelta(hours=float(_number(reader, "BILLING_GRACE_HOURS", default="6") or 0)),
            draft_window=timedelta(hours=float(window or 0)),
            approval_limit=_number(reader, "BILLING_APPROVAL_LIMIT", default="100") or Decimal(0),
            first_invoice_limit=first_limit,
            public_url=_public_url(env, port),
            web_port=port,
            web_port_is_configured=web_port is not None,
            var=var,
            stripe_account_id=_account_id(env),
            database_owner_url=owner_url,
            database_panel_url=panel_url,
            seller_country=_seller_country(env),
            **_letters(env),
        )


def var_folder(env: Mapping[str, str]) -> Path:
    """The folder for everything that is written: BILLING_VAR, else `var` beside the project's `pyproject.toml`."""
    configured = env.get("BILLING_VAR")
    if configured:
        return Path(os.path.realpath(configured))
    root = PROJECT if (PROJECT / "pyproject.toml").exists() else Path.cwd()
    return Path(os.path.realpath(root)) / "var"


def configured_ports(env: Mapping[str, str]) -> dict[str, int]:
    """The embedded services' ports that a person chose, by name of the field in their state.

    Raises:
        ConfigError: a port is no number between 1 and 65535.
    """
    reader = _MappingEnv(env)
    found = {
        name: _number(reader, variable, minimum=1, maximum=65535) for name, variable in states.PORT_VARIABLES.items()
    }
    return {name: int(port) for name, port in found.items() if port is not None}


def embedded_names(env: Mapping[str, str]) -> list[str]:
    """Which embedded services this environment uses: those that no variable replaces.

    A variable that holds the embedded service's own address (as `billing services env` prints it) replaces nothing.
    """
    var = var_folder(env)
    state = states.read(var) if var.exists() else None
    own = {
        "postgres": ("DATABASE_URL", state and state.database_url),
        "valkey": ("REDIS_URL", state and state.redis_url),
        "sandbox": ("STRIPE_API_KEY", state and state.stripe_api_key),
    }
    return [name for name, (variable, address) in own.items() if not env.get(variable) or env[variable] == address]


def load_config(env: Mapping[str, str] | None = None) -> Config:
    """The settings for a command or process; starts the embedded services that it needs and that do not run.

    BILLING_AUTOSTART=0 starts nothing: the supervisor sets it for its children, since it restarts services itself.

    Raises:
        ConfigError: a setting is missing or wrong.
        EmbeddedError: a service did not start.
    """
    env = os.environ if env is None else env
    names = embedded_names(env)
    if names and env.get("BILLING_AUTOSTART") != "0":
        embedded.ensure_up(var_folder(env), names=names, ports=configured_ports(env))
    return Config.from_env(env)


def _kept(state: State | None, variable: str) -> State:
    if state is None:
        raise ConfigError(
            f"{variable} is not set, and the embedded services never ran here. Run `billing services up`."
        )
    return state


def _database_urls(env: Mapping[str, str], state: State | None) -> tuple[str, str | None, str | None]:
    """The logins of processes, owner and panel. The embedded server has all three; elsewhere two are optional."""
    schemes = ("postgres", "postgresql", "postgresql+psycopg")
    given = _server_url(env, "DATABASE_URL", schemes)
    others = {name: _server_url(env, name, schemes) for name in ("DATABASE_OWNER_URL", "DATABASE_PANEL_URL")}
    if not given and any(others.values()):
        alone = next(name for name, url in others.items() if url)
        raise ConfigError(f"{alone} is set without DATABASE_URL. Set both, or neither for the embedded server.")
    if not given or (state is not None and given == state.database_url):
        kept = _kept(state, "DATABASE_URL")
        given, own = kept.database_url, (kept.database_owner_url, kept.database_panel_url)
        others = {name: url or address for (name, url), address in zip(others.items(), own, strict=True)}
    owner_url, panel_url = (normalise_url(url) if url else None for url in others.values())
    return normalise_url(given), owner_url, panel_url


def _server_url(env: Mapping[str, str], variable: str, schemes: tuple[str, ...]) -> str | None:
    value = env.get(variable)
    if value and urlsplit(value).scheme not in schemes:
        raise ConfigError(f"{variable} must begin with one of {', '.join(f'{scheme}://' for scheme in schemes)}.")
    return value or None


def _number(
    reader: Env, variable: str, *, default: str | None = None, minimum: int = 0, maximum: int | None = None
) -> Decimal | None:
    try:
        value = reader.decimal(variable, default=None if default is None else Decimal(default))
    except EnvError as error:
        raise ConfigError(f"{variable} must be a number.") from error
    if value is None:
        return None
    if not value.is_finite() or value < minimum or (maximum is not None and value > maximum):
        raise ConfigError(f"{variable} must be a number from {minimum}" + (f" to {maximum}." if maximum else " up."))
    if variable.endswith("_PORT") and value != int(value):
        raise ConfigError(f"{variable} must be a whole number.")
    return value


def _stripe(env: Mapping[str, str], state: State | None) -> tuple[str, str | None, tuple[str, ...]]:
    """Key, base and webhook secrets, with the one mistake made impossible that costs money: a real key and the
    sandbox's address, or the other way round."""
    key, base = env.get("STRIPE_API_KEY"), env.get("STRIPE_API_BASE")
    secrets = tuple(secret.strip() for secret in env.get("STRIPE_WEBHOOK_SECRET", "").split(",") if secret.strip())
    if not key:
        if base:
            raise ConfigError(
                "STRIPE_API_BASE is set without STRIPE_API_KEY. Unset it for the embedded sandbox, "
                "or set the key of the sandbox that it names."
            )
        kept = _kept(state, "STRIPE_API_KEY")
        return kept.stripe_api_key, kept.stripe_api_base, tuple(dict.fromkeys((*secrets, kept.webhook_secret)))
    if key.startswith(SANDBOX_KEY_PREFIX):
        if not base or urlsplit(base).scheme not in ("http", "https"):
            raise ConfigError("STRIPE_API_KEY is a sandbox's; set STRIPE_API_BASE to its address, http://HOST:PORT.")
    elif not key.startswith(REAL_KEY_PREFIXES):
        raise ConfigError(
            f"STRIPE_API_KEY must begin with one of {', '.join(REAL_KEY_PREFIXES)}. Unset it for the embedded sandbox."
        )
    elif base:
        raise ConfigError(
            "STRIPE_API_BASE is set together with a real Stripe key. Unset STRIPE_API_BASE for Stripe itself, "
            "or STRIPE_API_KEY for the embedded sandbox."
        )
    if state is not None and key == state.stripe_api_key:
        secrets = tuple(dict.fromkeys((*secrets, state.webhook_secret)))
    if not secrets:
        raise ConfigError("STRIPE_WEBHOOK_SECRET is not set. Copy it from the webhook endpoint's page at Stripe.")
    return key, base.rstrip("/") if base else None, secrets


def _account_id(env: Mapping[str, str]) -> str | None:
    value = env.get("STRIPE_ACCOUNT_ID")
    if value and not re.fullmatch(r"acct_[A-Za-z0-9]{1,60}", value):
        raise ConfigError("STRIPE_ACCOUNT_ID must be an account's id, acct_...; it stands in Settings at Stripe.")
    return value or None


def _seller_country(env: Mapping[str, str]) -> str | None:
    value = env.get("BILLING_SELLER_COUNTRY")
    if value and not re.fullmatch("[A-Z]{2}", value):
        raise ConfigError("BILLING_SELLER_COUNTRY must be two capital letters by ISO 3166-1, such as IE.")
    return value or None


def _secret_key(env: Mapping[str, str], state: State | None) -> str:
    value = env.get("SECRET_KEY")
    if value:
        if len(value) < MIN_SECRET_KEY_LENGTH:
            raise ConfigError(f"SECRET_KEY must have at least {MIN_SECRET_KEY_LENGTH} characters, drawn at random.")
        return value
    if state is None or env.get("DATABASE_URL", state.database_url) != state.database_url:
        # Several hosts may serve one database: a key of each host's own would sign users out at random.
        raise ConfigError(
            "SECRET_KEY is not set, and DATABASE_URL names a database of yours. Set it to a random text that all "
            "hosts share: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    return state.secret_key


def _letters(env: Mapping[str, str]) -> dict[str, Any]:
    """How letters are sent, and what they say about our bank account."""
    found: dict[str, Any] = {}
    if url := env.get("SMTP_URL"):
        if urlsplit(url).scheme not in ("smtp", "smtps") or not urlsplit(url).hostname:
            raise ConfigError("SMTP_URL must name a mail server: smtp://[user:password@]host[:port], or smtps://.")
        if not env.get("BILLING_MAIL_FROM"):
            raise ConfigError("SMTP_URL is set without BILLING_MAIL_FROM: set it to the address of letters.")
        if not env.get("BILLING_BANK_DETAILS"):
            raise ConfigError(
                "SMTP_URL is set without BILLING_BANK_DETAILS: customers would not know where to transfer money to. "
                "Separate its lines by semicolons."
            )
        found["smtp_url"] = url
    if sender := env.get("BILLING_MAIL_FROM"):
        if not re.fullmatch(r"[^@\s<>]+@[^@\s<>]+|[^<>\r\n]{1,100} <[^@\s<>]+@[^@\s<>]+>", sender):
            raise ConfigError("BILLING_MAIL_FROM must be an address, like Billing <billing@example.org>.")
        found["mail_from"] = sender
    if details := [line.strip() for line in env.get("BILLING_BANK_DETAILS", "").split(";") if line.strip()]:
        found["bank_details"] = tuple(details)
    return found


def _public_url(env: Mapping[str, str], port: int) -> str:
    value = env.get("BILLING_PUBLIC_URL") or f"http://127.0.0.1:{port}"
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError("BILLING_PUBLIC_URL must be the site's address, like https://billing.example.org.")
    return value.rstrip("/")
