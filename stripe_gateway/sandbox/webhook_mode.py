"""How deliveries are bent: lost, late, doubled, in disorder, forged, stale; it lasts across a restart."""

from __future__ import annotations

from .errors import Json, invalid
from .world import World

FACT = "webhook_mode"
HEALTHY: Json = {
    "paused": False,  # nothing goes out, also not what is owed already
    "drop_probability": 0.0,  # of an event to be lost for good
    "delay_s": 0.0,  # real seconds by which every delivery is late
    "duplicate": 0,  # further copies with the same id
    "second_id": 0,  # further copies under another event id, as Stripe now and then sends them
    "shuffle": False,
    "shuffle_s": 0.5,  # real seconds over which deliveries are spread at random
    "forged": 0,  # further copies with a made-up id, signed with a secret that nobody has
    "stale": 0,  # further copies whose good signature is older than a receiver may accept
    "seed": 0,
}
_NOT_BENT = ("seed", "shuffle_s")


def read_mode(world: World) -> Json:
    """Every field of the mode."""
    return {**HEALTHY, **(world.store.fact(FACT) or {})}


def change_mode(world: World, asked: Json) -> Json:
    """Change some fields; the whole mode is returned. What was owed already stays as it was planned.

    Raises:
        ApiError: 400, naming the field that is unknown or malformed.
    """
    unknown = set(asked) - set(HEALTHY)
    if unknown:
        raise invalid(f"Unknown fields: {', '.join(sorted(unknown))}. Fields: {', '.join(HEALTHY)}")
    for name, value in asked.items():
        if isinstance(HEALTHY[name], bool):
            good = isinstance(value, bool)
        else:
            wanted = (int,) if isinstance(HEALTHY[name], int) else (int, float)
            good = isinstance(value, wanted) and not isinstance(value, bool) and value >= 0
        if not good:
            raise invalid(f"Invalid {name}: {value!r}", param=name)
    mode = {**read_mode(world), **asked}
    with world.store.transaction():
        world.store.keep_fact(FACT, mode)
    return mode


def count_bent(world: World) -> dict[str, int]:
    """How many deliveries were lost, forged and stale so far, and how many wait."""
    found = world.store.rows(
        "SELECT sum(state = 'lost'), sum(json_extract(options, '$.forged') IS NOT NULL),"
        " sum(json_extract(options, '$.stale_s') IS NOT NULL), sum(state = 'pending') FROM deliveries"
    )
    return dict(zip(("lost", "forged", "stale", "waiting"), (int(number or 0) for number in found[0]), strict=True))


def described(mode: Json) -> list[str]:
    """What is wrong with deliveries, a phrase each; empty while all is well."""
    bent = {name: value for name, value in mode.items() if value and name not in _NOT_BENT}
    texts = {
        "paused": "webhooks are held back",
        "drop_probability": f"{mode['drop_probability']:.0%} of all webhooks are lost",
        "delay_s": f"webhooks are {mode['delay_s']:g} s late",
        "duplicate": f"each webhook comes {1 + mode['duplicate']} times",
        "second_id": f"each webhook comes under {1 + mode['second_id']} ids",
        "shuffle": "webhooks come in disorder",
        "forged": "forged webhooks come",
        "stale": "stale webhooks come",
    }
    return [text for name, text in texts.items() if name in bent]
