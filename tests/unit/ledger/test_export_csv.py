"""A cell of the CSV export never runs as a formula, and says exactly which text was there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.export_csv import FORMULA_STARTS, _cell


def read(cell: str) -> str | None:
    """What whoever reads the export makes of a cell: docs/tamper-evidence.md."""
    return None if cell == "" else cell.removeprefix("'")


@given(st.text(max_size=8) | st.text("'=+-@\t\r", max_size=4) | st.none())
def test_a_cell_can_be_read_back(text: str | None) -> None:
    cell = _cell(text)
    assert read(cell) == text
    assert not cell.startswith(FORMULA_STARTS)


@pytest.mark.parametrize(("text", "cell"), [("=x", "'=x"), ("'=x", "''=x"), ("", "'"), (None, ""), ("x'", "x'")])
def test_an_apostrophe_stands_where_a_cell_could_be_taken_for_another(text: str | None, cell: str) -> None:
    assert _cell(text) == cell
