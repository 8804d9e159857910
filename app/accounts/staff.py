"""Staff users: making them, checking their passwords, changing their roles, shutting them out."""

import re
import secrets
from datetime import datetime
from functools import lru_cache
from uuid import UUID, uuid4

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.accounts.tables import StaffUser
from support_ui.access import ROLES

MIN_PASSWORD = 12  # characters, https://pages.nist.gov/800-63-4/sp800-63b.html recommends length over composition
MAX_PASSWORD = 1000  # characters: hashing must not become a way to keep us busy
GENERATED_BYTES = 15  # of randomness: 20 characters
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")

_hasher = PasswordHasher()


class StaffError(Exception):
    """A change to the staff's accounts is refused. `field` names what is wrong."""

    code = "staff_error"
    field = "email"


class EmailRefused(StaffError):
    """This is no e-mail address."""

    code = "bad_email"


class NameRefused(StaffError):
    """Give a name of 1 to 200 printable characters."""

    code = "bad_name"
    field = "name"


class RoleUnknown(StaffError):
    """There is no such role. Choose viewer, agent, approver or admin."""

    code = "unknown_role"
    field = "role"


class PasswordRefused(StaffError):
    """The password is too short or too long."""

    code = "bad_password"
    field = "password"


class UserExists(StaffError):
    """There is a user with this e-mail address already."""

    code = "user_exists"


class UserNotFound(StaffError):
    """There is no user with this e-mail address."""

    code = "unknown_user"


class LastAdmin(StaffError):
    """This is the last active admin: make somebody else an admin first."""

    code = "last_admin"
    field = "role"


class SignInRefused(StaffError):
    """E-mail address and password do not belong together, or the user is not active."""

    code = "sign_in_refused"


def create_user(session: Session, *, email: str, name: str, role: str, password: str, now: datetime) -> StaffUser:
    """Make an active user who can sign in. The caller commits.

    Raises:
        EmailRefused, NameRefused, RoleUnknown, PasswordRefused: a detail is not acceptable.
        UserExists: the address is taken, also by a user who is not active any more.
    """
    email = normalise_email(email)
    name = name.strip()
    if not _EMAIL.fullmatch(email) or len(email) > 320 or not email.isprintable():
        raise EmailRefused(f"{email[:80]!r} is no e-mail address.")
    if not 0 < len(name) <= 200 or not name.isprintable():
        raise NameRefused("Give a name of 1 to 200 printable characters.")
    _check_role(role)
    created = session.scalars(
        insert(StaffUser)
        .values(
            id=uuid4(),
            email=email,
            name=name,
            role=role,
            password_hash=_hash(password),
            active=True,
            session_epoch=1,
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=[StaffUser.email])
        .returning(StaffUser)
    ).one_or_none()
    if created is None:
        raise UserExists(f"There is a user {email} already. Change their role or password instead.")
    return created


def verify(session: Session, *, email: str, password: str) -> StaffUser:
    """The active user with this address and password.

    Takes as long for an unknown address as for a wrong password, so that nobody can find out who works here. A hash
    made with older parameters is replaced; the caller commits.

    Raises:
        SignInRefused: for every reason alike.
    """
    user = session.scalar(select(StaffUser).where(StaffUser.email == normalise_email(email)))
    stored = user.password_hash if user is not None else _nobodys_hash()
    try:
        _hasher.verify(stored, password[: MAX_PASSWORD + 1])
    except (VerificationError, InvalidHashError):
        raise SignInRefused("E-mail address and password do not belong together.") from None
    if user is None or not user.active:
        raise SignInRefused("E-mail address and password do not belong together.")
    if _hasher.check_needs_rehash(user.password_hash):
        user.password_hash = _hash(password)
    return user


def user_of_session(session: Session, *, user_id: UUID, epoch: int) -> StaffUser | None:
    """The user whom a session cookie names; None if they were shut out or signed out everywhere since."""
    user = session.get(StaffUser, user_id)
    return user if user is not None and user.active and user.session_epoch == epoch else None


def get_user(session: Session, *, email: str) -> StaffUser:
    """One user, active or not.

    Raises:
        UserNotFound: there is none.
    """
    email = normalise_email(email)
    user = session.scalar(select(StaffUser).where(StaffUser.email == email).with_for_update())
    if user is None:
        raise UserNotFound(f"There is no user {email}. See who there is with: billing users list")
    return user


def list_users(session: Session) -> list[StaffUser]:
    """Everybody, active ones first, by address."""
    return list(session.scalars(select(StaffUser).order_by(StaffUser.active.desc(), StaffUser.email)))


def set_password(session: Session, *, email: str, password: str) -> StaffUser:
    """Give the user another password and sign them out everywhere. The caller commits.

    Raises:
        UserNotFound, PasswordRefused.
    """
    user = get_user(session, email=email)
    user.password_hash = _hash(password)
    user.session_epoch += 1
    return user


def set_role(session: Session, *, email: str, role: str) -> StaffUser:
    """Give the user another role, from their next request on. The caller commits.

    Raises:
        UserNotFound, RoleUnknown.
        LastAdmin: nobody would be left who can manage users.
    """
    _check_role(role)
    admins = _locked_admins(session)
    user = get_user(session, email=email)
    if role != "admin":
        _keep_an_admin(admins, user)
    user.role = role
    return user


def deactivate(session: Session, *, email: str) -> StaffUser:
    """Shut the user out, at once and everywhere; what they did stays under their name. The caller commits.

    Raises:
        UserNotFound.
        LastAdmin: nobody would be left who can manage users.
    """
    admins = _locked_admins(session)
    user = get_user(session, email=email)
    _keep_an_admin(admins, user)
    user.active = False
    user.session_epoch += 1
    return user


def reactivate(session: Session, *, email: str) -> StaffUser:
    """Let the user sign in again, with the password they had. The caller commits.

    Raises:
        UserNotFound.
    """
    user = get_user(session, email=email)
    user.active = True
    return user


def generate_password() -> str:
    """A random password to hand over once."""
    return secrets.token_urlsafe(GENERATED_BYTES)


def normalise_email(email: str) -> str:
    """As addresses are stored: without surrounding white space, in lower case."""
    return email.strip().lower()


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise RoleUnknown(f"There is no role {role!r}. Choose one of: {', '.join(ROLES)}.")


def _hash(password: str) -> str:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise PasswordRefused(f"Choose a password of {MIN_PASSWORD} to {MAX_PASSWORD:,} characters.")
    return _hasher.hash(password)


@lru_cache(maxsize=1)
def _nobodys_hash() -> str:
    return _hasher.hash(secrets.token_urlsafe())


def _locked_admins(session: Session) -> set[UUID]:
    """The active admins, locked in id order: two admins who demote each other at once must not both succeed."""
    return set(
        session.scalars(
            select(StaffUser.id)
            .where(StaffUser.active, StaffUser.role == "admin")
            .order_by(StaffUser.id)
            .with_for_update()
        )
    )


def _keep_an_admin(admins: set[UUID], user: StaffUser) -> None:
    if admins == {user.id}:
        raise LastAdmin(f"{user.email} is the last active admin: make somebody else an admin first.")
