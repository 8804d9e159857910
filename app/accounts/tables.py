"""Who may sign in, and which programs may call the API."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from ledger.orm import Base


class StaffUser(Base):
    """A member of staff. `role`: viewer, agent, approver, admin; each may do what those before it may.

    `session_epoch` is part of the session cookie: raising it (new password, deactivation) signs the user out
    everywhere.
    """

    __tablename__ = "staff_users"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    role: Mapped[str]
    password_hash: Mapped[str]
    active: Mapped[bool] = mapped_column(server_default="true")
    session_epoch: Mapped[int] = mapped_column(server_default="1")
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime | None]


class ApiToken(Base):
    """A bearer token of the platform; only its SHA-256 is kept."""

    __tablename__ = "api_tokens"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
