"""Sums of money keep every digit, in every thread: Python's own default would round them to 28."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from ledger.money import plain


def add_up() -> str:
    return plain(sum([Decimal("123456789012345.0"), Decimal("0.000000000000000000000000000001")], Decimal(0)))


def test_the_largest_and_the_smallest_amount_add_up_exactly_here_and_in_new_threads() -> None:
    exact = "123456789012345.000000000000000000000000000001"
    assert add_up() == exact
    with ThreadPoolExecutor(2) as pool:
        assert {future.result() for future in [pool.submit(add_up), pool.submit(add_up)]} == {exact}
