"""What all of the staff's pages share: the blueprint, who may enter, error pages, words and figures in templates."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, abort, flash, g, redirect, render_template, request
from flask.sansio.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden, NotFound

from invoicing.customers import CustomerNotFound
from invoicing.drafts import InvoiceNotFound
from support_ui import figures, history, wording
from support_ui.access import may, signed_in, wants_fragment

bp = Blueprint(
    "support",
    __name__,
    url_prefix="/support",
    template_folder="templates",
    static_folder="static",
    static_url_path="/static",
)

FRAGMENT = "X-Fragment"
"""The header of answers that htmx may put into the page; any other error is shown as a message instead."""


def refuse_unstorable() -> None:
    """Refuse NUL characters, which no keyboard makes and Postgres does not store: a probe, never a person."""
    given = (request.path, *request.args.values(), *request.form.values())
    if any("\x00" in text for text in given):
        abort(400, "The request holds a character that cannot be stored.")


bp.before_request(refuse_unstorable)


@bp.before_request
def ask_who() -> ResponseReturnValue | None:
    """Nobody reads anything here without signing in."""
    return None if request.endpoint == "support.static" else _pass_signed_in()


@signed_in
def _pass_signed_in() -> None:
    """Nothing, for a user; the decorator leads everybody else to the sign-in page."""


@bp.after_request
def keep_private(response: Response) -> Response:
    """Pages of money are nobody's to keep; style sheets are asked for again only if they changed."""
    response.headers["Cache-Control"] = "no-cache" if request.endpoint == "support.static" else "no-store"
    return response


@bp.record_once
def for_templates(state: BlueprintSetupState) -> None:
    """Words, figures and roles, in every template that builds on this layout. As globals, since macros need them."""
    state.app.jinja_env.globals.update(fig=figures, words=wording, history=history, may=may)


@bp.app_context_processor
def clock() -> dict[str, object]:
    """The time of the request, for "in 3 h"."""
    return {"now": g.get("now")}


@bp.errorhandler(CustomerNotFound)
@bp.errorhandler(InvoiceNotFound)
@bp.errorhandler(NotFound)
def not_found(error: Exception) -> ResponseReturnValue:
    """Nothing stands at this address."""
    text = "There is no such page." if isinstance(error, NotFound) else str(error)
    return render_template("support/error.html", title="Not found", text=text), 404


@bp.errorhandler(Forbidden)
def forbidden(error: Forbidden) -> ResponseReturnValue:
    """The role does not reach."""
    return render_template("support/error.html", title="Not allowed", text=error.description), 403


def answer_form(
    *, page: str, fragment: str, status: int = 200, context: Mapping[str, Any], done_at: str
) -> ResponseReturnValue:
    """Answer a form: with its part of the page to htmx, else with a redirect after success or the whole page.

    `done_at` is where a browser without JavaScript goes on after success, so that reloading sends nothing again.
    """
    if wants_fragment():
        return render_template(fragment, **context), status, {FRAGMENT: "1"}
    if status < 400:
        return redirect(done_at, code=303)
    return render_template(page, **context), status


def say(message: str, kind: str = "ok") -> None:
    """Show a message on the next page or fragment; `kind` is ok, info, warn or bad."""
    flash(message, kind)


def refusal_text(error: Exception) -> str | None:
    """The sentence of a refusal that the provider makes on purpose; None for any other error.

    Its classes are the gateway's, which this room does not import: they are known by their stable `code`.
    """
    return str(error) if isinstance(getattr(error, "code", None), str) and str(error) else None
