"""Who may do what in the staff's pages: four roles, each of which may do what those before it may."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from flask import abort, request
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

ROLES = ("viewer", "agent", "approver", "admin")
"""viewer reads; agent adjusts, holds, finalizes, retries; approver approves others' work; admin manages users."""

P = ParamSpec("P")
R = TypeVar("R")


def signed_in(view: Callable[P, R]) -> Callable[P, R]:
    """Lead everybody who is not signed in to the sign-in page instead. Stands below the route's decorator."""
    guarded: Callable[P, R] = login_required(view)
    return guarded


def may(role: str) -> bool:
    """Whether the user of this request is signed in and has this role or a higher one."""
    if not current_user.is_authenticated:
        return False
    return ROLES.index(current_user.role) >= ROLES.index(role)


def needs(role: str) -> Callable[[Callable[P, ResponseReturnValue]], Callable[P, ResponseReturnValue]]:
    """Refuse a view with 403 to everybody below this role. Stands below the route's decorator."""
    ROLES.index(role)

    def decorate(view: Callable[P, ResponseReturnValue]) -> Callable[P, ResponseReturnValue]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
            if not may(role):
                abort(403, f"This needs the role {role}; yours is {current_user.role}. Ask an admin of your team.")
            return view(*args, **kwargs)

        return guarded

    return decorate


def actor() -> str:
    """How the signed-in user is named in entries, adjustments and histories."""
    return str(current_user.email)


def wants_fragment() -> bool:
    """Whether htmx asks, so that only the changed part of the page is to be sent."""
    return "HX-Request" in request.headers
