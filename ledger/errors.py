"""The base of every refusal that this room makes."""


class LedgerError(Exception):
    """The ledger refuses. `code` is stable; the text is for people."""

    code = "ledger_error"
