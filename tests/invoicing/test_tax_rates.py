"""Tax rates from a file, and profiles: what is wrong is refused with its cure, and again changes nothing."""

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from invoicing.tax.profiles import TaxProfileRefused, tax_profiles_of
from invoicing.tax.rates import LoadedRates, TaxRatesRefused, list_rates, rates_from_toml
from tests.invoicing.conftest import Company, at
from tests.invoicing.taxed import load, profile

VAT = '[[rates]]\njurisdiction = "DE"\nname = "VAT"\npercent = {percent}\nvalid_from = {valid_from}\n'
OLD = VAT.format(percent=16, valid_from="2020-07-01")
NEW = VAT.format(percent='"19"', valid_from="2021-01-01")


def test_the_same_file_again_changes_nothing(engine: Engine) -> None:
    content = OLD + "valid_until = 2021-01-01\n" + NEW
    assert load(engine, content) == LoadedRates(added=2, ended=0, unchanged=0)
    assert load(engine, content) == LoadedRates(added=0, ended=0, unchanged=2)


def test_a_new_percentage_is_a_new_rate_and_ends_the_one_before(engine: Engine) -> None:
    load(engine, OLD)
    with pytest.raises(TaxRatesRefused, match=r"still valid then\. End that one with valid_until = 2021-01-01"):
        load(engine, NEW)
    assert load(engine, OLD + "valid_until = 2021-01-01\n" + NEW) == LoadedRates(added=1, ended=1, unchanged=0)
    with Session(engine) as session:
        [valid] = list_rates(session, jurisdiction="DE", at=at("2025-06-01"))
        assert valid.percent == 19


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (NEW.replace('jurisdiction = "DE"\n', ""), "give its jurisdiction"),
        (NEW.replace('"DE"', '"Germany"'), "give its jurisdiction"),
        (NEW.replace('"19"', "100.5"), "a number from 0 to 100"),
        (NEW.replace('"19"', "-1"), "a number from 0 to 100"),
        (NEW.replace('"19"', "nan"), "a number from 0 to 100"),
        (NEW.replace('"19"', "true"), "a number from 0 to 100"),
        (NEW.replace('"19"', "1.23456"), "at most 4 decimals"),
        (NEW.replace("2021-01-01", '"soon"'), "give valid_from"),
        (NEW.replace("2021-01-01", "2021-01-01T00:00:00"), "with a zone"),
        (NEW + "valid_until = 2020-01-01\n", "later than valid_from"),
        (NEW + "colour = 1\n", "unknown colour"),
        (NEW + 'item = "nothing"\n', "there is no item nothing"),
        (NEW + NEW, "it is there twice"),
        ("", "1 to 10,000 tables"),
        ("[[rates", "no TOML"),
    ],
)
def test_a_file_that_is_wrong_is_refused_as_a_whole_with_the_cure(engine: Engine, content: str, said: str) -> None:
    with pytest.raises(TaxRatesRefused, match=said):
        load(engine, OLD.replace("DE", "FR") + content if content.startswith("[[rates]]") else content)
    with Session(engine) as session:
        assert list_rates(session) == []


def test_a_rate_never_changes_its_percentage_or_its_end(engine: Engine) -> None:
    load(engine, OLD + "valid_until = 2021-01-01\n")
    with pytest.raises(TaxRatesRefused, match="it is 16 % already and never changes"):
        load(engine, OLD.replace("16", "17") + "valid_until = 2021-01-01\n")
    with pytest.raises(TaxRatesRefused, match="it ends at 2021-01-01"):
        load(engine, OLD + "valid_until = 2022-01-01\n")
    assert [terms.percent for terms in rates_from_toml(NEW)] == [19]


@pytest.mark.parametrize(
    ("country", "details", "code"),
    [
        ("Germany", {}, "bad_country"),
        ("DE", {"state": "Bavaria"}, "bad_state"),
        ("DE", {"tax_id": "DE12", "tax_id_type": "eu_vat"}, "bad_tax_id"),
        ("DE", {"tax_id": "DE123456789"}, "tax_id_incomplete"),
        ("DE", {"tax_id": "FR12345678901", "tax_id_type": "eu_vat"}, "tax_id_of_another_country"),
        ("DE", {"status": "free"}, "bad_status"),
        ("DE", {"status": "exempt"}, "legal_note_missing"),
        ("DE", {"status": "reverse_charge"}, "no_reverse_charge"),
        ("IE", {"status": "reverse_charge", "tax_id": "IE6388047V", "tax_id_type": "eu_vat"}, "no_reverse_charge"),
        ("DE", {"status": "taxable", "legal_note": "because"}, "legal_note_unused"),
    ],
)
def test_a_profile_that_is_wrong_is_refused_by_field(
    company: Company, country: str, details: dict[str, str], code: str
) -> None:
    company.customer("acme")
    with pytest.raises(TaxProfileRefused) as refused:
        profile(company.engine, "acme", country, details=details)
    assert [found for _, found, _ in refused.value.problems] == [code]


def test_a_profile_never_begins_in_a_closed_period(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "1")
    company.close("2025-07-01")
    with pytest.raises(TaxProfileRefused, match="Begin at 2025-07-01"):
        profile(company.engine, "acme", "DE", valid_from=at("2025-06-15"), now=at("2025-07-02"))
    profile(company.engine, "acme", "DE", valid_from=at("2025-07-01"), now=at("2025-07-02"))


def test_the_same_profile_again_writes_nothing_and_another_replaces_it(company: Company) -> None:
    company.customer("acme")
    assert profile(company.engine, "acme", "de")[1]
    assert not profile(company.engine, "acme", "DE")[1]
    changed, is_new = profile(company.engine, "acme", "DE", status="exempt", legal_note="A school")
    assert (is_new, changed.seq, changed.status) == (True, 2, "exempt")
    with Session(company.engine) as session:
        assert [row.seq for row in tax_profiles_of(session, customer_id=changed.customer_id)] == [2, 1]


@pytest.mark.parametrize(
    ("seller", "status"),
    [("IE", "reverse_charge"), ("DE", "taxable"), ("US", "taxable"), (None, "taxable")],
)
def test_who_owes_the_tax_follows_from_where_both_are(company: Company, seller: str | None, status: str) -> None:
    company.customer("gmbh")
    row, _ = profile(company.engine, "gmbh", "DE", seller=seller, tax_id="DE123456789", tax_id_type="eu_vat")
    assert row.status == status
