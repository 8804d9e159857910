"""The base of every refusal that this room makes."""


class InvoicingError(Exception):
    """Invoicing refuses. `code` is stable; the text is for people and names the cure."""

    code = "invoicing_error"
