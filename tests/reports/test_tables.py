"""Tables on the terminal: aligned, exact, visibly cut, and harmless."""

from decimal import Decimal

from app.cli.tables import SAMPLE, WIDTH, Column, TableLine, cells_of, display_width, padded, table_lines, totalled

Row = tuple[str, str, Decimal]
COLUMNS: tuple[Column[Row], ...] = (
    Column("currency", lambda row: row[0]),
    Column("name", lambda row: row[1], least=12),
    Column("amount", lambda row: row[2], is_number=True),
)


def shown(*rows: Row) -> list[str]:
    lines = totalled(cells_of(COLUMNS, rows), by=(0,), sums=(2,))
    return "".join(table_lines(COLUMNS, lines)).splitlines()


def test_amounts_stand_at_the_decimal_point_with_all_their_digits() -> None:
    lines = shown(
        ("USD", "a", Decimal("1234567.5")),
        ("USD", "b", Decimal("-0.000000000000000000000000000001")),
        ("USD", "c", Decimal("-1000")),
        ("USD", "d", Decimal("1E+3")),
    )
    assert lines[2:] == [
        "USD       a      1,234,567.5",
        "USD       b             -0.000000000000000000000000000001",
        "USD       c         -1,000",
        "USD       d          1,000",
        "USD       total  1,234,567.499999999999999999999999999999",
    ]


def test_currencies_are_added_up_apart() -> None:
    lines = shown(("EUR", "a", Decimal(1)), ("USD", "b", Decimal(2)), ("USD", "c", Decimal(3)))
    assert [line.split() for line in lines if "total" in line] == [["EUR", "total", "1"], ["USD", "total", "5"]]


def test_a_long_name_is_cut_where_one_can_see_it() -> None:
    lines = shown(("USD", "x" * 300, Decimal("0.1")), ("USD", "short", Decimal(2)))
    assert all(len(line) <= WIDTH for line in lines)
    assert "xx… " in lines[2]
    assert lines[2].endswith("0.1")


def test_a_wide_sign_takes_the_two_columns_that_it_needs() -> None:
    lines = shown(("JPY", "東京", Decimal(1)), ("JPY", "e\u0301te\u0301", Decimal(2)))
    assert [display_width(line) for line in lines[2:4]] == [display_width(lines[0])] * 2
    assert padded("東京都", 4) == "東… "
    assert padded("東京都", 6) == "東京都"


def test_a_name_does_not_speak_to_the_terminal() -> None:
    (line,) = (line for line in shown(("USD", "red\x1b[31m\nnew\x07", Decimal(1))) if "red" in line)
    assert "red?[31m?new?" in line


def test_what_comes_after_the_sample_is_not_cut() -> None:
    small = [TableLine(("USD", "a", Decimal(1)))] * SAMPLE
    large = TableLine(("USD", "a", Decimal("123456789012345.123456789012345678901234567891")))
    assert "123,456,789,012,345.123456789012345678901234567891" in list(table_lines(COLUMNS, [*small, large]))[-1]
