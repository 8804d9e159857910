"""The house: in whose books the account at Stripe stands."""

from dataclasses import dataclass

from stripe_gateway.cash import PROVIDER
from stripe_gateway.client import Client


@dataclass(frozen=True, slots=True)
class House:
    """The account at Stripe, as the books call it, and whether real money moves there."""

    account: str
    livemode: bool


def house_of(client: Client) -> House:
    """The house of the client's account; `stripe` where no account id is configured."""
    return House(client.account_id or PROVIDER, client.livemode)
