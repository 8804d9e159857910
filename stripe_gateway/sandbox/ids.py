"""Identifiers that look like Stripe's: a type prefix and random letters."""

from __future__ import annotations

import secrets
import string

_ALPHABET = (string.ascii_letters + string.digits).encode()
# One random byte per letter. 256 is no multiple of 62, so some letters are a little likelier: ids need no better, and
# a thousand of them per second must not cost more than the work they name.
_LETTERS = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
# Stripe's own lengths differ by type; our tables and log greps should meet the long ones as well as the short ones.
_LENGTHS = {"cus": 14, "req": 14, "evt": 24, "in": 24, "il": 24, "pi": 24, "ch": 24, "txn": 24}


def new_id(prefix: str) -> str:
    """A fresh identifier such as ``cus_Qh1...``; unique for all practical purposes, never reused."""
    length = _LENGTHS.get(prefix, 24)
    body = new_token(length)
    return f"{prefix}_1{body[1:]}" if length == 24 else f"{prefix}_{body}"


def new_token(length: int = 48) -> str:
    """Letters for an address that nobody can guess, such as a hosted invoice page: more than 5 bits each."""
    return secrets.token_bytes(length).translate(_LETTERS).decode()
