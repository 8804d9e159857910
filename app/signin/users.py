"""The users page: who may sign in, and what they may do. For admins."""

from flask import flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user

from app.accounts import staff
from app.accounts.staff import LastAdmin, StaffError
from app.signin.blueprint import bp
from support_ui.access import ROLES, needs, signed_in


def _page(*, typed: dict[str, str] | None = None, error: StaffError | None = None, made: str | None = None) -> str:
    return render_template(
        "signin/users.html",
        users=staff.list_users(g.session),
        roles=ROLES,
        typed=typed or {},
        errors={error.field: str(error)} if error else {},
        made=made,
    )


@bp.get("/users")
@signed_in
@needs("admin")
def users() -> ResponseReturnValue:
    """Everybody, and a form for one more."""
    return _page()


@bp.post("/users")
@signed_in
@needs("admin")
def create() -> ResponseReturnValue:
    """Make a user with a made-up password, shown this once."""
    typed = {field: request.form.get(field, "") for field in ("email", "name", "role")}
    password = staff.generate_password()
    try:
        user = staff.create_user(g.session, **typed, password=password, now=g.now)
    except StaffError as error:
        g.session.rollback()
        return _page(typed=typed, error=error), 422
    # No redirect here: the password would have to be kept somewhere until the next request.
    flash(f"{user.email} may sign in as {user.role}.", "ok")
    return _page(made=password), 201


@bp.post("/users/<email>/role")
@signed_in
@needs("admin")
def change_role(email: str) -> ResponseReturnValue:
    """Give a user another role."""
    try:
        user = staff.set_role(g.session, email=email, role=request.form.get("role", ""))
    except StaffError as error:
        return _refused(error)
    flash(f"{user.email} is {user.role} now.", "ok")
    return redirect(url_for(".users"), code=303)


@bp.post("/users/<email>/deactivation")
@signed_in
@needs("admin")
def deactivate(email: str) -> ResponseReturnValue:
    """Shut a user out at once."""
    try:
        if staff.normalise_email(email) == current_user.email:
            raise LastAdmin("You cannot deactivate yourself: ask another admin.")
        user = staff.deactivate(g.session, email=email)
    except StaffError as error:
        return _refused(error)
    flash(f"{user.email} is shut out; what they did stays under their name.", "ok")
    return redirect(url_for(".users"), code=303)


@bp.post("/users/<email>/activation")
@signed_in
@needs("admin")
def activate(email: str) -> ResponseReturnValue:
    """Let a user sign in again."""
    try:
        user = staff.reactivate(g.session, email=email)
    except StaffError as error:
        return _refused(error)
    flash(f"{user.email} may sign in again, with the password they had.", "ok")
    return redirect(url_for(".users"), code=303)


@bp.post("/users/<email>/password")
@signed_in
@needs("admin")
def reset_password(email: str) -> ResponseReturnValue:
    """Make up a new password for a user who forgot theirs, shown this once."""
    password = staff.generate_password()
    try:
        user = staff.set_password(g.session, email=email, password=password)
    except StaffError as error:
        return _refused(error)
    flash(f"{user.email} has a new password and is signed out everywhere.", "ok")
    return _page(made=password), 201


def _refused(error: StaffError) -> ResponseReturnValue:
    g.session.rollback()
    flash(str(error), "bad")
    return _page(), 409
