"""Bank statements as banks write them: what is read exactly, and what is refused by name."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal

import pytest

from invoicing.manual.bank_files import BadLine, Layout, StatementLine, StatementUnusable, read_statement

PLAIN = Layout({})
GERMAN = Layout(
    {"booked_on": "Buchungstag", "amount": "Betrag", "reference": "Verwendungszweck", "payer": "Name"},
    currency="EUR",
    decimal_comma=True,
    date_format="%d.%m.%Y",
    delimiter=";",
)


def read(text: str, layout: Layout = PLAIN) -> list[StatementLine | BadLine]:
    return list(read_statement(text.splitlines(), layout=layout))


def one(cells: Mapping[str, str], layout: Layout = PLAIN) -> StatementLine | BadLine:
    given = {"booked_on": "2025-07-14", "amount": "12.34", "currency": "USD", "reference": "x", **cells}
    return read("\n".join((",".join(given), ",".join(f'"{cell}"' for cell in given.values()))), layout)[0]


def test_a_line_is_read_exactly() -> None:
    (line,) = read(
        "id,booked_on,amount,currency,payer,reference\n7,2025-07-14,1234.50,usd, Acme  Inc. ,ABCDEFGH-0001\n"
    )
    assert line == StatementLine("7", date(2025, 7, 14), Decimal("1234.50"), "USD", "Acme Inc.", "ABCDEFGH-0001")


def test_a_bank_may_name_columns_amounts_and_days_in_its_own_way() -> None:
    (line,) = read("Buchungstag;Name;Verwendungszweck;Betrag\n14.07.2025;Acme;RE ABCDEFGH-0001;-1.234,56\n", GERMAN)
    assert isinstance(line, StatementLine)
    assert (line.booked_on, line.amount, line.currency) == (date(2025, 7, 14), Decimal("-1234.56"), "EUR")


def test_two_equal_payments_of_a_day_are_two_and_the_same_file_again_is_the_same_lines() -> None:
    text = "booked_on,amount,currency,reference\n" + "2025-07-14,5.00,USD,fee\n" * 2 + "2025-07-14,5.0,USD,fee\n"
    first, again = read(text), read(text)
    ids = [line.id for line in first if isinstance(line, StatementLine)]
    assert len(set(ids)) == 3
    assert first == again


@pytest.mark.parametrize(
    ("amount", "value"),
    [("1,234.50", "1234.50"), ("1'234.50", "1234.50"), ("+7", "7"), ("\u22123.20", "-3.20"), ("1 000.00", "1000.00")],
)
def test_amounts_may_be_grouped(amount: str, value: str) -> None:
    line = one({"amount": amount})
    assert isinstance(line, StatementLine)
    assert line.amount == Decimal(value)


@pytest.mark.parametrize(
    ("field", "cell"),
    [
        ("amount", "1,50"), ("amount", "1e3"), ("amount", "0.00"), ("amount", "nan"), ("amount", "12.345"),
        ("amount", ""), ("amount", "12.34 USD"), ("amount", "1,23,456.00"), ("amount", "\u0661\u0662"),
        ("amount", "9" * 20), ("booked_on", "14.07.2025"), ("booked_on", "2025-02-30"), ("booked_on", ""),
        ("currency", "XXX"), ("currency", ""), ("reference", "x" * 2001), ("reference", "a\x00b"),
        ("payer", "p" * 501), ("payer", "\udcff"), ("id", "i" * 256),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_named_with_its_field(field: str, cell: str) -> None:
    bad = one({field: cell})
    assert isinstance(bad, BadLine)
    assert (bad.line, bad.field) == (2, field)
    assert bad.message


def test_bad_lines_do_not_spoil_the_others() -> None:
    found = read("booked_on,amount,currency,reference\nx,1,USD,a\n2025-07-14,1,USD,b\n2025-07-14,,USD,c\n")
    assert [type(line) for line in found] == [BadLine, StatementLine, BadLine]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it has nothing"),
        ("a,b\n1,2\n", "no column booked_on, amount, reference, currency"),
        ("booked_on,amount,reference\n2025-07-14,1,x\n", "currency"),
    ],
)
def test_a_file_that_is_no_statement_is_refused_with_the_columns_that_it_lacks(text: str, says: str) -> None:
    with pytest.raises(StatementUnusable, match=says):
        read(text)
