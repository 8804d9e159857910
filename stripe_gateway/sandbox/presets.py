"""Whole bad days at one click, and one list of what is wrong at present."""

from __future__ import annotations

from dataclasses import dataclass, field

from .debits import choose_next, chosen_next
from .errors import ApiError, Json
from .faults import Faults
from .webhook_mode import HEALTHY, change_mode, described, read_mode
from .world import World


@dataclass(frozen=True)
class Preset:
    """Faults and a webhook mode that belong together."""

    title: str
    text: str
    faults: tuple[Json, ...] = ()
    mode: Json = field(default_factory=dict)
    next_debit: str | None = None


PRESETS = {
    "down": Preset(
        "Stripe is down",
        "Every connection is reset before anything happens, and webhooks wait.",
        ({"endpoint": "*", "kind": "reset_before"},),
        {"paused": True},
    ),
    "answers_lost": Preset(
        "Every second answer is lost",
        "The work is done each time, but every other connection is reset before it is told.",
        ({"endpoint": "*", "kind": "reset_after", "every": 2},),
    ),
    "slow": Preset(
        "Slow: 30 s",
        "Every request takes 30 seconds, with its key in flight.",
        ({"endpoint": "*", "kind": "delay_before", "delay_s": 30},),
    ),
    "limited": Preset(
        "Too many requests",
        "Every third request is refused with a 429 of the global limiter.",
        ({"endpoint": "*", "kind": "429", "reason": "global-rate", "every": 3},),
    ),
    "unknown": Preset(
        "500, outcome unknown",
        "Every fourth write is done and answered with a 500 that stays under its key.",
        ({"endpoint": "POST *", "kind": "500_after", "every": 4},),
    ),
    "webhooks_lost": Preset(
        "Webhooks lost", "Events happen and are listed, but none is delivered.", (), {"drop_probability": 1.0}
    ),
    "webhooks_chaos": Preset(
        "Webhooks late, twice, in disorder",
        "Each comes twice and once more under another id, spread over ten seconds.",
        (),
        {"duplicate": 1, "second_id": 1, "shuffle": True, "shuffle_s": 10.0},
    ),
    "webhooks_forged": Preset(
        "Webhooks forged and stale",
        "With each true one comes one that is forged and one whose signature is ten minutes old.",
        (),
        {"forged": 1, "stale": 1},
    ),
    "debit_fails": Preset(
        "The next debit fails",
        "The next bank debit whose bank answers is not paid, days after it began.",
        next_debit="fail",
    ),
    "debit_returned": Preset(
        "The next debit is returned",
        "The next bank debit is paid, and taken back at once: a dispute that is lost from the start.",
        next_debit="return",
    ),
}

_NEXT_DEBIT = {"pay": "is paid", "fail": "fails", "return": "is paid and returned"}


def switch_on(world: World, faults: Faults, name: str) -> Preset:
    """Put the preset in the place of everything that is switched on.

    Raises:
        ApiError: 404, naming the presets there are.
    """
    preset = PRESETS.get(name)
    if preset is None:
        raise ApiError(404, f"No such preset: {name!r}. Presets: {', '.join(PRESETS)}")
    clear_all(world, faults)
    for fault in preset.faults:
        faults.add(fault)
    change_mode(world, preset.mode)
    choose_next(world, preset.next_debit)
    return preset


def clear_all(world: World, faults: Faults) -> int:
    """All is well again; returns how many faults of requests were switched off."""
    change_mode(world, HEALTHY)
    choose_next(world, None)
    return faults.clear()


def troubles(world: World, faults: Faults) -> list[str]:
    """Everything that is wrong at present, a phrase each, for the banner on every page."""
    on = [fault for fault in faults.all() if not fault["over"]]
    requests = [f"{fault['kind']} on {fault['endpoint']}, struck {_times(fault['hits'])}" for fault in on]
    chosen = chosen_next(world)
    debits = [] if chosen is None else [f"the next bank debit {_NEXT_DEBIT[chosen]}"]
    return [*requests, *described(read_mode(world)), *debits]


def _times(hits: int) -> str:
    return ("never yet", "once")[hits] if hits < 2 else f"{hits} times"
