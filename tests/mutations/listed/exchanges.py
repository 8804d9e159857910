"""The guards of exchanges: what met the provider's balance in another currency left its customer's books, once."""

from tests.mutations.guard import Guard, Replace, Sql, without

_TESTS = "tests/gateway/test_settlement_currency.py"
_POSTGRES = f"{_TESTS}::test_postgres_refuses_an_exchange_that_is_none"
_AGAIN = f"{_TESTS}::test_a_movement_that_was_exchanged_is_neither_cleared_nor_exchanged_again"
_BOOKED = "exchanges_booked"

GUARDS = (
    Guard(
        name="exchange: it never changes",
        protects="What one currency was given for the other could be told otherwise later.",
        taken=[Sql("DROP TRIGGER append_only ON exchanges")],
        noticed_by=f"{_POSTGRES}[changed]",
    ),
    Guard(
        name="exchange: its amount has left its customer's books",
        protects="The house would have money of a customer that the customer's books still hold.",
        taken=[without(_BOOKED, "IF NEW.amount <> 0 AND NOT EXISTS (", "IF false AND NOT EXISTS (")],
        noticed_by=f"{_POSTGRES}[without its entry]",
    ),
    Guard(
        name="exchange: it is in the currency of its customer's books",
        protects="One book would hold two currencies, and no sum of it would mean anything.",
        taken=[without(_BOOKED, "AND b.currency = NEW.currency", "")],
        noticed_by=f"{_POSTGRES}[of other books]",
    ),
    Guard(
        name="exchange: it is one customer's alone",
        protects="The same money of the provider's would be booked for two customers.",
        taken=[without(_BOOKED, "IF EXISTS (SELECT FROM exchanges x", "IF false AND EXISTS (SELECT FROM exchanges x")],
        noticed_by=f"{_TESTS}::test_postgres_refuses_that_two_customers_have_the_same_exchange",
    ),
    Guard(
        name="exchange: both sides go the same way",
        protects="Money that came in would be booked as money that went out.",
        taken=[Sql("ALTER TABLE exchanges DROP CONSTRAINT exchanges_one_way")],
        noticed_by=f"{_POSTGRES}[both ways]",
    ),
    Guard(
        name="exchange: it is between two currencies",
        protects="What settles in its own currency would be booked a second time, as exchanged.",
        taken=[Sql("ALTER TABLE exchanges DROP CONSTRAINT exchanges_between_two_currencies")],
        noticed_by=f"{_POSTGRES}[of one currency]",
    ),
    Guard(
        name="exchange: told again with another amount it is refused",
        protects="Books and provider would differ, and nobody would know.",
        taken=[Replace("invoicing/movements/exchanges.py", "if _facts(known) != _facts(exchange):", "if False:")],
        noticed_by=_AGAIN,
    ),
    Guard(
        name="exchange: what was exchanged is not cleared as well",
        protects="A payout would take the same money out of the books a second time.",
        taken=[
            Replace(
                "invoicing/movements/exchanges.py",
                "return session.scalars(found).first() is not None",
                "return session.scalars(found).first() is not None and False",
            )
        ],
        noticed_by=_AGAIN,
    ),
)
