"""Webhook endpoints and their signing secrets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from .errors import Json, invalid, missing
from .ids import new_id, new_token
from .lists import list_objects
from .params import merged_metadata
from .world import API_VERSION, Call, World

# What the command line's endpoint is called in the store.
_OWN = "command_line_endpoint"
KEEP_OLD_SECRET_S = 24 * 3600  # real seconds; Stripe's longest overlap while a secret is rolled


def create_endpoint(call: Call) -> Json:
    """A new endpoint. Its secret is shown in this answer only, as at Stripe."""
    params, world = call.params, call.world
    endpoint = _new(world, params["url"], params["enabled_events"], params.get("api_version"))
    endpoint["description"] = params.get("description")
    endpoint["metadata"] = merged_metadata({}, params.get("metadata", {}))
    world.store.insert(endpoint)
    secret = f"whsec_{new_token(32)}"
    _keep_secret(world, endpoint["id"], secret)
    return {**endpoint, "secret": secret}


def _new(world: World, url: str, events: Sequence[str], api_version: str | None = None) -> Json:
    _check_url(url)
    return {
        "id": new_id("we"),
        "object": "webhook_endpoint",
        "api_version": api_version or API_VERSION,
        "application": None,
        "created": world.clock.stamp(),
        "description": None,
        "enabled_events": list(events),
        "livemode": False,
        "metadata": {},
        "status": "enabled",
        "url": url,
    }


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise invalid(
            "Invalid URL: the sandbox delivers to http:// addresses of the loopback interface only", param="url"
        )


def update_endpoint(call: Call) -> Json:
    params, world = call.params, call.world
    endpoint = _get(world, call.ids[0])
    if "url" in params:
        _check_url(params["url"])
    endpoint.update({name: params[name] for name in ("url", "enabled_events", "description") if name in params})
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    if "metadata" in params:
        endpoint["metadata"] = merged_metadata(endpoint["metadata"], params["metadata"])
    return world.store.update(endpoint)


def delete_endpoint(call: Call) -> Json:
    endpoint = _get(call.world, call.ids[0])
    call.world.store.mark_deleted(endpoint["id"])
    return {"id": endpoint["id"], "object": "webhook_endpoint", "deleted": True}


def retrieve_endpoint(call: Call) -> Json:
    return _get(call.world, call.ids[0])


def list_endpoints(call: Call) -> Json:
    return list_objects(call, "webhook_endpoint", url="/v1/webhook_endpoints", filters={})


def _get(world: World, endpoint_id: str) -> Json:
    row = world.store.row(endpoint_id, kind="webhook_endpoint")
    if row is None:
        raise missing("webhook endpoint", endpoint_id)
    return row.data


def configure(world: World, *, url: str | None, secret: str, events: Sequence[str]) -> None:
    """Make the command line's endpoint what it says, keeping its id and its rolled secrets across restarts."""
    with world.store.transaction():
        row = world.store.row(world.store.fact(_OWN) or "", kind="webhook_endpoint")
        if url is None:
            if row is not None:
                world.store.update({**row.data, "status": "disabled"})
            return
        _check_url(url)
        if row is None:
            endpoint = world.store.insert(_new(world, url, events))
            world.store.keep_fact(_OWN, endpoint["id"])
        else:
            endpoint = {**row.data, "url": url, "enabled_events": list(events), "status": "enabled"}
            world.store.update(endpoint)
        if secret not in secrets_of(world, endpoint["id"]):
            world.store.execute("DELETE FROM secrets WHERE endpoint_id = ?", endpoint["id"])
            _keep_secret(world, endpoint["id"], secret)


def secrets_of(world: World, endpoint_id: str) -> list[str]:
    """The secrets that sign now, the newest first."""
    found = world.store.rows(
        "SELECT secret FROM secrets WHERE endpoint_id = ? AND (expires_at IS NULL OR expires_at > ?)"
        " ORDER BY rowid DESC",
        endpoint_id,
        time.time(),
    )
    return [row[0] for row in found]


def roll_secret(world: World, endpoint_id: str | None, *, secret: str | None, keep_old_s: float) -> str:
    """Give an endpoint (default: the command line's) a new secret and return it.

    The old one signs as well for another `keep_old_s` seconds of real time.
    """
    endpoint = _get(world, endpoint_id or world.store.fact(_OWN) or "")
    new = secret or f"whsec_{new_token(32)}"
    with world.store.transaction():
        world.store.execute(
            "UPDATE secrets SET expires_at = ? WHERE endpoint_id = ? AND expires_at IS NULL",
            time.time() + keep_old_s,
            endpoint["id"],
        )
        world.store.execute("DELETE FROM secrets WHERE endpoint_id = ? AND secret = ?", endpoint["id"], new)
        _keep_secret(world, endpoint["id"], new)
    return new


def _keep_secret(world: World, endpoint_id: str, secret: str) -> None:
    world.store.execute("INSERT INTO secrets (endpoint_id, secret) VALUES (?, ?)", endpoint_id, secret)
