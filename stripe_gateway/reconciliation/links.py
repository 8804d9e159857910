"""Where a person looks at an object of Stripe's: in the Dashboard, or on the sandbox's own page."""

from stripe_gateway.views import DASHBOARD

_FOLDERS = {
    "in": "invoices",
    "cus": "customers",
    "pi": "payments",
    "ch": "payments",
    "py": "payments",
    "dp": "disputes",
    "du": "disputes",
    "po": "payouts",
}


def link_to(external_id: str, *, livemode: bool, api_base: str | None) -> str | None:
    """The address of the object's page; None for an id that is not Stripe's."""
    prefix, _, rest = external_id.partition("_")
    if not rest:
        return None
    if api_base is not None:
        return f"{api_base}/objects/{external_id}"
    mode = "" if livemode else "test/"
    folder = _FOLDERS.get(prefix)
    # What has no page of its own is found by the Dashboard's search.
    return f"{DASHBOARD}/{mode}{folder}/{external_id}" if folder else f"{DASHBOARD}/{mode}search?query={external_id}"
