"""The collection's progress: how much is left, how fast it goes, how long it takes, and since when Stripe is away."""

from flask import g, render_template
from flask.typing import ResponseReturnValue

from support_ui.site import bp


@bp.get("/collection")
def collection() -> ResponseReturnValue:
    """The figures as of now; the page asks for them again every few seconds."""
    return render_template("support/collection.html", progress=g.gateway.progress(g.session, now=g.now))
