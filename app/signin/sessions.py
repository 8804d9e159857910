"""The staff's sessions: what the cookie says, and whom it stands for on each request."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from flask import Flask, g, redirect, request, url_for
from flask import session as cookie
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, login_user, logout_user
from sqlalchemy.orm import Session

from app.accounts import staff
from app.accounts.tables import StaffUser

SESSION_LIFETIME = timedelta(hours=12)
"""A working day: whoever comes back in the morning signs in again."""

SEEN_EVERY = timedelta(minutes=10)
"""`last_seen_at` is written at most this often, so that reading pages is not writing rows."""

HOME = "/support/"

login_manager = LoginManager()


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The user of a request, as pages see them: `flask_login.current_user`."""

    id: UUID
    email: str
    name: str
    role: str
    epoch: int

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def get_id(self) -> str:
        """What the cookie says: the user and the epoch of their sessions."""
        return f"{self.id}:{self.epoch}"


def init_app(app: Flask) -> None:
    """Make `current_user` known to the app, and end sessions after SESSION_LIFETIME."""
    login_manager.init_app(app)
    login_manager.user_loader(load)
    login_manager.unauthorized_handler(ask_to_sign_in)
    # The pages are never shown inside another site's, and their cookie is told apart by its epoch, not by addresses.
    login_manager.session_protection = None
    app.permanent_session_lifetime = SESSION_LIFETIME
    # Sliding would keep a stolen cookie alive for as long as it is used.
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False


def sign_in(user: StaffUser) -> None:
    """Start a session for this user, and forget whatever the browser's session held before."""
    # A session that somebody else prepared in this browser, with its CSRF token, must not become the user's.
    cookie.clear()
    cookie.permanent = True
    login_user(_signed_in(user))


def sign_out() -> None:
    """End the browser's session."""
    logout_user()
    cookie.clear()


def local_path(target: str | None) -> str:
    """Where to go after signing in: `target` if it is a page of the support site, else its home page."""
    # "//host", "/\host" and control characters are how browsers are led to another site.
    if target and target.startswith(HOME) and target.isprintable() and "\\" not in target and "//" not in target:
        return target
    return HOME


def load(cookie_id: str) -> SignedIn | None:
    """The user whom the session cookie names; None if they were shut out since, or if it is not one of ours."""
    session: Session | None = g.get("session")
    if session is None:
        # A form without its token is refused before anything else happens; the page that says so knows no user.
        return None
    user_id, _, epoch = cookie_id.partition(":")
    try:
        user = staff.user_of_session(session, user_id=UUID(user_id), epoch=int(epoch))
    except ValueError:
        return None
    if user is None:
        return None
    if user.last_seen_at is None or g.now - user.last_seen_at > SEEN_EVERY:
        user.last_seen_at = g.now
    return _signed_in(user)


def ask_to_sign_in() -> ResponseReturnValue:
    """Lead to the sign-in page, and back afterwards."""
    if "HX-Request" in request.headers:
        # A sign-in page inside a fragment's place would be nonsense: htmx is told to load it as a page.
        return "", 401, {"HX-Redirect": url_for("signin.show")}
    here = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("signin.show", next=here), code=303)


def _signed_in(user: StaffUser) -> SignedIn:
    return SignedIn(id=user.id, email=user.email, name=user.name, role=user.role, epoch=user.session_epoch)
