"""Joins the rooms: engine, provider and rules are built here, for web, worker, cron and commands alike."""

from dataclasses import dataclass

from sqlalchemy import Engine

from app.config import Config
from app.database import PANEL_ROLE, create_engine
from app.mail import mailer_of
from invoicing.manual.letters import BankDetails
from invoicing.manual.provider import ManualProvider
from invoicing.manual.sending import Mailer
from invoicing.providers import Providers
from invoicing.settings import Settings
from stripe_gateway.client import ClientSettings
from stripe_gateway.gateway import StripeGateway


@dataclass(frozen=True, slots=True)
class Billing:
    """The joined system. `dispose` it when done."""

    config: Config
    engine: Engine
    provider: StripeGateway
    """Stripe: for what only it has, such as webhooks, syncs and reconciliation."""
    settings: Settings
    panel_engine: Engine
    """For what customers read in the panel: it sees one customer's rows, and writes nothing."""
    providers: Providers
    """Everybody who collects, as one."""
    mailer: Mailer

    def dispose(self) -> None:
        self.engine.dispose()
        self.panel_engine.dispose()


def settings_of(config: Config) -> Settings:
    """The rules of billing that the configuration sets."""
    return Settings(
        grace=config.grace,
        draft_window=config.draft_window,
        approval_limit=config.approval_limit,
        first_invoice_limit=config.first_invoice_limit,
        seller_country=config.seller_country,
    )


def build(config: Config, *, pool_size: int = 5) -> Billing:
    """Join the rooms for one process. Connects to nothing yet."""
    engine = create_engine(config.database_url, pool_size=pool_size)
    client = ClientSettings(
        api_key=config.stripe_api_key,
        api_base=config.stripe_api_base,
        webhook_secrets=config.stripe_webhook_secrets,
        account_id=config.stripe_account_id,
        redis_url=config.redis_url,
    )
    panel_engine = create_engine(config.database_panel_url or config.database_url, pool_size=pool_size, role=PANEL_ROLE)
    gateway = StripeGateway(engine, client)
    return Billing(
        config,
        engine,
        gateway,
        settings_of(config),
        panel_engine,
        Providers(engine, [gateway, ManualProvider(BankDetails(config.bank_details))]),
        mailer_of(smtp_url=config.smtp_url, sender=config.mail_from, folder=config.var / "mail"),
    )
