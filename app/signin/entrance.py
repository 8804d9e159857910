"""Signing in and out, and one's own password."""

import structlog
from flask import flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_limiter.errors import RateLimitExceeded
from flask_login import current_user

from app.accounts import staff
from app.accounts.staff import PasswordRefused, SignInRefused
from app.signin import sessions
from app.signin.blueprint import bp
from app.signin.limits import TRIES, TRIES_PER_ADDRESS, by_address_and_email, is_failure, limiter
from support_ui.access import signed_in

log = structlog.get_logger(__name__)


@bp.get("/sign-in")
def show() -> ResponseReturnValue:
    """The sign-in page; whoever is signed in goes on."""
    target = sessions.local_path(request.args.get("next"))
    if current_user.is_authenticated:
        return redirect(target, code=303)
    return render_template("signin/sign_in.html", email="", next=target, error=None)


@bp.post("/sign-in")
@limiter.limit(TRIES, key_func=by_address_and_email, deduct_when=is_failure)
@limiter.limit(TRIES_PER_ADDRESS, deduct_when=is_failure)
def sign_in() -> ResponseReturnValue:
    """Check address and password, and start a session."""
    email, password = request.form.get("email", ""), request.form.get("password", "")
    target = sessions.local_path(request.form.get("next"))
    try:
        user = staff.verify(g.session, email=email, password=password)
    except SignInRefused as refusal:
        log.warning("sign_in_refused", address=request.remote_addr)
        page = render_template("signin/sign_in.html", email=email, next=target, error=str(refusal))
        return page, 422
    sessions.sign_in(user)
    log.info("signed_in", user=user.email, address=request.remote_addr)
    return redirect(target, code=303)


@bp.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """End the session. A POST, so that no link or picture can sign anybody out."""
    sessions.sign_out()
    return redirect(url_for(".show"), code=303)


@bp.errorhandler(RateLimitExceeded)
def too_many_tries(error: RateLimitExceeded) -> ResponseReturnValue:
    """Say so on the page, with what was typed."""
    log.warning("sign_in_limited", address=request.remote_addr, limit=str(error.description))
    page = render_template(
        "signin/sign_in.html",
        email=request.form.get("email", ""),
        next=sessions.local_path(request.form.get("next")),
        error="Too many tries. Wait five minutes, then try again.",
    )
    return page, 429


@bp.get("/account")
@signed_in
def account() -> ResponseReturnValue:
    """One's own account: who one is, what one may do, and the password."""
    return render_template("signin/account.html", errors={})


@bp.post("/account/password")
@limiter.limit(TRIES, key_func=lambda: str(current_user.get_id()), deduct_when=is_failure)
@signed_in
def change_password() -> ResponseReturnValue:
    """Replace one's own password; other browsers are signed out, this one goes on."""
    new = request.form.get("new", "")
    errors: dict[str, str] = {}
    try:
        staff.verify(g.session, email=current_user.email, password=request.form.get("current", ""))
    except SignInRefused:
        errors["current"] = "This is not your password."
    if new != request.form.get("again", ""):
        errors["again"] = "The two are not the same."
    if not errors:
        try:
            user = staff.set_password(g.session, email=current_user.email, password=new)
        except PasswordRefused as refusal:
            errors["new"] = str(refusal)
        else:
            sessions.sign_in(user)
            flash("Your password is changed. Other browsers are signed out.", "ok")
            return redirect(url_for(".account"), code=303)
    return render_template("signin/account.html", errors=errors), 422
