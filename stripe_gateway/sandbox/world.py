"""What every part of the sandbox shares: the store, the clock, the settings and the request being served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .clock import Clock
from .errors import Json
from .settings import Settings
from .store import Store

API_VERSION = "2026-10-28.endive"


@dataclass(frozen=True)
class Origin:
    """The API request that causes an event; both are None for what Stripe does of its own accord."""

    request_id: str | None = None
    idempotency_key: str | None = None


class World:
    """One account at the stand-in. All changes happen inside `store.transaction()`."""

    def __init__(self, store: Store, *, public_url: str) -> None:
        self.store = store
        self.clock = Clock(store)
        self.settings = Settings().changed(store.fact("settings") or {})
        self.public_url = public_url.rstrip("/")
        self.origin = Origin()
        self.on_schedule: Callable[[], None] = _nobody

    def change_settings(self, change: Json) -> Settings:
        """Apply and keep new settings. Raises ApiError for unknown names or values."""
        changed = self.settings.changed(change)
        with self.store.transaction():
            self.store.keep_fact("settings", changed.as_json())
        self.settings = changed
        return changed

    @contextmanager
    def acting_for(self, origin: Origin) -> Iterator[None]:
        """Events inside carry this request. Only the holder of the store's lock may enter."""
        before, self.origin = self.origin, origin
        try:
            yield
        finally:
            self.origin = before

    def schedule(self, kind: str, object_id: str, *, delay_s: float) -> None:
        """Do a job (see `scheduling`) after `delay_s` seconds of the sandbox's clock. Inside a transaction."""
        self.store.execute(
            "INSERT INTO jobs (due_at, kind, object_id) VALUES (?, ?, ?)", self.clock.now() + delay_s, kind, object_id
        )
        self.on_schedule()


def _nobody() -> None:
    """Nobody waits for new jobs yet."""


@dataclass(frozen=True)
class Call:
    """One understood API request: the ids in its address, and its typed parameters."""

    world: World
    ids: tuple[str, ...]
    params: Json
    expand: list[str] = field(default_factory=list)
