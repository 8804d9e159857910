"""Runs a script of several statements as one migration step."""

from alembic import op


def run(script: str) -> None:
    """Send the script as it stands: no parameters, so colons and percent signs mean themselves."""
    op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})
