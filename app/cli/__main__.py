"""`python -m app.cli` is `billing`."""

from app.cli import main

main(prog_name="billing")
