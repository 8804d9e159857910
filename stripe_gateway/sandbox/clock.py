"""The sandbox's own time: real time plus an offset, or frozen at one instant."""

from __future__ import annotations

import time

from .store import Store


class Clock:
    """Time as the sandbox's objects see it, in unix seconds. Its state lasts across a restart."""

    def __init__(self, store: Store) -> None:
        self._store = store
        state = store.fact("clock") or {}
        self._offset_s = float(state.get("offset_s", 0.0))
        self._frozen_at: float | None = state.get("frozen_at")

    @property
    def frozen(self) -> bool:
        return self._frozen_at is not None

    def now(self) -> float:
        return self._frozen_at if self._frozen_at is not None else time.time() + self._offset_s

    def stamp(self) -> int:
        """Now, in whole seconds, as Stripe's `created` fields have it."""
        return int(self.now())

    def set(self, instant: float) -> None:
        """Make it `instant` now. The caller holds the transaction."""
        if self._frozen_at is not None:
            self._frozen_at = instant
        else:
            self._offset_s = instant - time.time()
        self._keep()

    def freeze(self, frozen: bool) -> None:
        """Stop time at this instant, or let it flow again from there. The caller holds the transaction."""
        instant = self.now()
        self._frozen_at = instant if frozen else None
        if not frozen:
            self._offset_s = instant - time.time()
        self._keep()

    def _keep(self) -> None:
        self._store.keep_fact("clock", {"offset_s": self._offset_s, "frozen_at": self._frozen_at})
