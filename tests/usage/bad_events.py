"""Bad usage events, and what every entrance says to each: the field and the code."""

from typing import Any

LONG_AGO = "1999-12-31T23:59:59Z"
FAR_OFF = "2200-01-01T00:00:00Z"

BAD_EVENTS: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = [
    # amounts and quantities beyond precision or range
    ("an amount of 31 decimals", {"amount": "0." + "1" * 31}, [("amount", "too_many_decimals")]),
    ("an amount of 10^15", {"amount": "1" + "0" * 15}, [("amount", "too_large")]),
    ("an amount of 1e999", {"amount": "1e999"}, [("amount", "too_large")]),
    ("an amount of 1e-999", {"amount": "1e-999"}, [("amount", "too_many_decimals")]),
    ("a quantity of 19 decimals", {"quantity": "1." + "1" * 19}, [("quantity", "too_many_decimals")]),
    ("a quantity of 10^18", {"quantity": "1" + "0" * 18}, [("quantity", "too_large")]),
    ("a negative quantity of -10^18", {"quantity": "-1" + "0" * 18}, [("quantity", "too_large")]),
    ("both at once", {"amount": "1e99", "quantity": "1e99"}, [("quantity", "too_large"), ("amount", "too_large")]),
    # no numbers at all
    ("NaN", {"quantity": "NaN"}, [("quantity", "not_finite")]),
    ("a signalling NaN", {"amount": "sNaN"}, [("amount", "not_finite")]),
    ("infinity", {"amount": "Infinity"}, [("amount", "not_finite")]),
    ("less than any number", {"quantity": "-inf"}, [("quantity", "not_finite")]),
    ("words", {"quantity": "lots"}, [("quantity", "not_a_number")]),
    ("a comma", {"amount": "1,5"}, [("amount", "not_a_number")]),
    ("Arabic digits", {"quantity": "\u0663"}, [("quantity", "not_a_number")]),
    ("underscores", {"quantity": "1_000"}, [("quantity", "not_a_number")]),
    ("hexadecimal", {"quantity": "0x10"}, [("quantity", "not_a_number")]),
    ("a flood of digits", {"amount": "9" * 5000}, [("amount", "too_many_digits")]),
    ("neither amount nor quantity", {"quantity": None}, [("quantity", "missing")]),
    ("an amount of 0 without a quantity", {"quantity": None, "amount": "0"}, [("quantity", "missing")]),
    # times
    ("a time before 2000", {"at": LONG_AGO}, [("at", "time_out_of_range")]),
    ("a time after 2199", {"at": FAR_OFF}, [("at", "time_out_of_range")]),
    ("the first moment", {"at": "0001-01-01T00:00:00+14:00"}, [("at", "not_a_time")]),
    ("the last moment", {"at": "9999-12-31T23:59:59-14:00"}, [("at", "not_a_time")]),
    ("the future", {"at": "2199-12-31T00:00:00Z"}, [("at", "in_the_future")]),
    ("a time without a zone", {"at": "2025-06-01T00:00:00"}, [("at", "no_time_zone")]),
    ("a day", {"at": "2025-06-31"}, [("at", "not_a_time")]),
    ("no time", {"at": "noon"}, [("at", "not_a_time")]),
    # names
    ("an unknown customer", {"customer": "nobody"}, [("customer", "unknown_customer")]),
    ("an item without a price", {"item": "unheard-of"}, [("item", "no_price")]),
    ("an item that is too long", {"item": "x" * 201}, [("item", "bad_text")]),
    ("an event id that is too long", {"id": "x" * 301}, [("id", "bad_text")]),
    ("an item with a control character", {"item": "a\u0007b"}, [("item", "bad_text")]),
    ("another currency", {"amount": "1", "currency": "EUR"}, [("currency", "currency_mismatch")]),
    ("a currency of four letters", {"amount": "1", "currency": "USDT"}, [("currency", "bad_text")]),
    # labels
    ("too many labels", {"labels": {f"l{n}": "x" for n in range(33)}}, [("labels", "too_many_labels")]),
    ("a label that is too long", {"labels": {"note": "x" * 501}}, [("labels", "label_too_long")]),
    ("an app that is too long", {"labels": {"app": "x" * 201}}, [("labels", "label_too_long")]),
    ("a label's name that is too long", {"labels": {"k" * 65: "x"}}, [("labels", "bad_label_name")]),
    ("a label without a name", {"labels": {"": "x"}}, [("labels", "bad_label_name")]),
    ("all labels too long", {"labels": {f"l{n}": "x" * 500 for n in range(17)}}, [("labels", "labels_too_long")]),
    ("a label that is a number", {"labels": {"app": 1}}, [("labels", "label_not_text")]),
    ("a label that is an object", {"labels": {"app": {"name": "web"}}}, [("labels", "label_not_text")]),
    ("a label that is nothing", {"labels": {"app": None}}, [("labels", "label_not_text")]),
    ("a label with a NUL", {"labels": {"note": "a\u0000b"}}, [("labels", "bad_label")]),
    ("labels that are a list", {"labels": ["app"]}, [("labels", "labels_not_an_object")]),
    ("several bad labels", {"labels": {"a": 1, "b" * 65: "x"}},
     [("labels", "label_not_text"), ("labels", "bad_label_name")]),
    ("everything at once",
     {"quantity": "NaN", "at": "noon", "item": ""},
     [("quantity", "not_finite"), ("at", "not_a_time"), ("item", "bad_text")]),
]  # fmt: skip
"""A name, what is changed of a good event (None: left out), and the problems. Each event has an id of its own."""

NOT_IN_CSV: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = [
    # ids and other fields of the wrong kind: in CSV every cell is text
    ("an id that is a number", {"id": 7}, [("id", "not_text")]),
    ("an id that is a list", {"id": ["7"]}, [("id", "not_text")]),
    ("an id that is nothing", {"id": None}, [("id", "missing")]),
    ("a customer that is an object", {"customer": {"id": "acme"}}, [("customer", "not_text")]),
    ("an item that is a number", {"item": 7}, [("item", "not_text")]),
    ("a quantity that is true", {"quantity": True}, [("quantity", "not_a_number")]),
    ("a quantity that is a list", {"quantity": [1]}, [("quantity", "not_a_number")]),
    ("a time that is a number", {"at": 1_748_736_000}, [("at", "not_a_time")]),
    ("a field that nobody knows", {"colour": "red"}, [("colour", "unknown_field")]),
    ("an empty id", {"id": ""}, [("id", "bad_text")]),
    ("labels that are text", {"labels": "app=web"}, [("labels", "labels_not_an_object")]),
]

GOOD_EVENT = {"customer": "acme", "item": "volume", "quantity": "10", "at": "2026-11-03T12:00:00Z"}


def event(number: int, changes: dict[str, Any]) -> dict[str, Any]:
    """A good event with these changes."""
    changed = {"id": f"bad-{number}", **GOOD_EVENT, **changes}
    kept_out = {name for name, value in changes.items() if value is None and name == "quantity"}
    return {name: value for name, value in changed.items() if name not in kept_out}
