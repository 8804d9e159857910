"""Bearer tokens with which the platform's programs call the API: made, recognised, revoked."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.tables import ApiToken

PREFIX = "fbt_"
"""Every token begins with it, so that one that leaked into a log or a repository can be found by searching."""

SECRET_BYTES = 32
MAX_NAME = 180  # characters: an entry's actor is "api:" and the name


class TokenError(Exception):
    """A change to the API tokens is refused."""

    code = "token_error"


class TokenNameRefused(TokenError):
    """Give the token a name of 1 to 180 printable characters: say which program will use it."""

    code = "bad_token_name"


class TokenNameTaken(TokenError):
    """A token of this name exists, or did: the journal names it as the actor of what it posted. Choose another name."""

    code = "token_name_taken"


class TokenNotFound(TokenError):
    """There is no token of this name. `billing tokens list` shows all."""

    code = "unknown_token"


class WrongToken(TokenError):
    """This token opens nothing: it is unknown or was revoked. Make one with `billing tokens create NAME`."""

    code = "wrong_token"


def create_token(session: Session, *, name: str, now: datetime) -> str:
    """A new token, shown this once: only its SHA-256 is kept. The caller commits.

    Raises:
        TokenNameRefused: the name is empty, too long or not printable.
        TokenNameTaken: another token has it, or had it before it was revoked.
    """
    if not 0 < len(name.strip()) <= MAX_NAME or not name.isprintable():
        raise TokenNameRefused(TokenNameRefused.__doc__)
    token = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    created = session.execute(
        insert(ApiToken)
        .values(id=uuid4(), name=name.strip(), token_hash=hash_token(token), created_at=now)
        .on_conflict_do_nothing(index_elements=[ApiToken.name])
        .returning(ApiToken.id)
    ).scalar()
    if created is None:
        raise TokenNameTaken(TokenNameTaken.__doc__)
    return token


def recognise(session: Session, *, token: str) -> ApiToken:
    """The row of a valid token.

    Raises:
        WrongToken: it is unknown or was revoked; which of the two is not told.
    """
    hashed = hash_token(token)
    known = session.scalar(select(ApiToken).where(ApiToken.token_hash == hashed, ApiToken.revoked_at.is_(None)))
    # The index finds by hash, so that its timing tells nothing about a token; the comparison does not rely on it.
    if known is None or not hmac.compare_digest(known.token_hash, hashed):
        raise WrongToken(WrongToken.__doc__)
    return known


def revoke_token(session: Session, *, name: str, now: datetime) -> bool:
    """Make the token of this name worthless at once. False if it was revoked before. The caller commits.

    Raises:
        TokenNotFound: there is none.
    """
    known = session.scalar(select(ApiToken).where(ApiToken.name == name).with_for_update())
    if known is None:
        raise TokenNotFound(TokenNotFound.__doc__)
    if known.revoked_at is not None:
        return False
    known.revoked_at = now
    session.flush()
    return True


def list_tokens(session: Session) -> Sequence[ApiToken]:
    """Every token that was ever made, by name."""
    return session.scalars(select(ApiToken).order_by(ApiToken.name)).all()


def hash_token(token: str) -> str:
    """What is kept of a token. It is long and random, so one round of SHA-256 cannot be guessed back."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
