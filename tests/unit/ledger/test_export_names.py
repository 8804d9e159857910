"""Account names in exports: valid for both tools, different for different accounts, the same for ever."""

import re
from uuid import UUID

from ledger.accounts import CUSTOMER_ACCOUNTS, HOUSE_ACCOUNTS
from ledger.export_beancount import quoted
from ledger.export_csv import _cell as csv_cell
from ledger.export_hledger import escaped
from ledger.export_names import account_name

CUSTOMER = UUID("0e0f0a0b-0000-5000-8000-00000000000e")


def test_names_follow_the_codes() -> None:
    assert account_name("assets:unbilled", CUSTOMER) == f"Assets:Unbilled:C{CUSTOMER}"
    assert account_name("expenses:payment_fees", CUSTOMER) == f"Expenses:PaymentFees:C{CUSTOMER}"
    assert account_name("liabilities:credits:promotional", CUSTOMER).startswith("Liabilities:Credits:Promotional:C0e")


def test_every_account_has_a_name_of_its_own_that_beancount_accepts() -> None:
    codes = CUSTOMER_ACCOUNTS | HOUSE_ACCOUNTS
    names = {account_name(code, CUSTOMER) for code in codes}
    assert len(names) == len(codes)
    part = r"[A-Z0-9][A-Za-z0-9-]*"
    assert all(re.fullmatch(rf"(Assets|Liabilities|Income|Expenses|Equity)(:{part})+", name) for name in names)


def test_texts_stay_on_one_line_and_lose_nothing() -> None:
    assert quoted('say "hi" \\ 🚀') == r'"say \"hi\" \\ 🚀"'
    assert quoted("a\nb\x07\u2028") == '"a\\\\nb\\\\u0007\\\\u2028"'
    assert escaped("a;b,c:d|e[2025-01-01]\n%é🚀\u2028") == "a%3Bb%2Cc:d%7Ce%5B2025-01-01%5D%0A%25é🚀%E2%80%A8"


def test_a_spreadsheet_runs_no_cell_of_ours() -> None:
    assert csv_cell("=1+1") == "'=1+1"
    assert csv_cell("@SUM(A1)") == "'@SUM(A1)"
    assert csv_cell("machine") == "machine"
