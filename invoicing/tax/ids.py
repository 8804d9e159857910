"""Tax ids: what each kind looks like, and whether its check digits add up. That it exists no form can tell."""

import re
from dataclasses import dataclass

from invoicing.errors import InvoicingError

_MEMBERS = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
EU = frozenset(_MEMBERS.split())
"""Member states of the European Union, by ISO 3166-1.

Source: https://european-union.europa.eu/principles-countries-history/eu-countries_en
"""

FORMS = {
    # Source: https://ec.europa.eu/taxation_customs/vies/#/faq, question 11. Greece's numbers begin with EL.
    "eu_vat": (
        "^(ATU[0-9]{8}|BE[01][0-9]{9}|BG[0-9]{9,10}|CY[0-9]{8}[A-Z]|CZ[0-9]{8,10}|DE[0-9]{9}|DK[0-9]{8}|EE[0-9]{9}"
        "|EL[0-9]{9}|ES[0-9A-Z][0-9]{7}[0-9A-Z]|FI[0-9]{8}|FR[0-9A-Z]{2}[0-9]{9}|HR[0-9]{11}|HU[0-9]{8}"
        "|IE([0-9][0-9A-Z+*][0-9]{5}[A-Z]|[0-9]{7}[A-Z]{2})|IT[0-9]{11}|LT([0-9]{9}|[0-9]{12})|LU[0-9]{8}|LV[0-9]{11}"
        "|MT[0-9]{8}|NL[0-9A-Z+*]{9}B[0-9A-Z+*]{2}|PL[0-9]{10}|PT[0-9]{9}|RO[0-9]{2,10}|SE[0-9]{12}|SI[0-9]{8}"
        "|SK[0-9]{10})$"
    ),
    # Nine digits, twelve for a branch; GD for government departments, HA for health authorities.
    # Source: https://www.gov.uk/hmrc-internal-manuals/vat-registration
    "gb_vat": "^GB([0-9]{9}|[0-9]{12}|GD[0-4][0-9]{2}|HA[5-9][0-9]{2})$",
    # Source: https://www.irs.gov/businesses/small-businesses-self-employed/employer-id-numbers
    "us_ein": "^[0-9]{2}-[0-9]{7}$",
    # Source: https://www.bfs.admin.ch/bfs/en/home/registers/enterprise-register/enterprise-identification.html
    "ch_uid": "^CHE[0-9]{9}$",
    # Source: https://abr.business.gov.au/Help/AbnFormat
    "au_abn": "^[1-9][0-9]{10}$",
}
"""The whole normal form of each kind. Migration 0016 holds every stored id against the same."""

_COUNTRIES = {"gb_vat": "GB", "us_ein": "US", "ch_uid": "CH", "au_abn": "AU"}
_EXAMPLES = {
    "eu_vat": "DE123456789, with the country in front",
    "gb_vat": "GB123456727, with GB in front",
    "us_ein": "12-3456789",
    "ch_uid": "CHE-123.456.788",
    "au_abn": "51 824 753 556",
}
_TITLES = {
    "eu_vat": "EU VAT number",
    "gb_vat": "UK VAT number",
    "us_ein": "US employer identification number",
    "ch_uid": "Swiss UID",
    "au_abn": "Australian business number",
}


class BadTaxId(InvoicingError):
    """This is no tax id of that kind. Copy it from the customer's own papers; the text shows what one looks like."""

    code = "bad_tax_id"


@dataclass(frozen=True, slots=True)
class TaxId:
    """A tax id in its normal form, whose form and check digits are right."""

    type: str
    value: str
    country: str
    """The country that gave it, by ISO 3166-1."""


def title_of(tax_id_type: str) -> str:
    """What people call this kind of id."""
    return _TITLES[tax_id_type]


def checked_tax_id(value: str, *, tax_id_type: str) -> TaxId:
    """The id in its normal form: capitals, without blanks and dots.

    Raises:
        BadTaxId: the kind is unknown, the form is wrong, or a check digit is.
    """
    if tax_id_type not in FORMS:
        raise BadTaxId(f"{tax_id_type[:40]!r} is no kind of tax id that we know. Use one of {', '.join(FORMS)}.")
    normal = re.sub(r"[\s.\-/]", "", value.upper())
    if tax_id_type == "us_ein":
        normal = f"{normal[:2]}-{normal[2:]}"
    if tax_id_type == "ch_uid":
        normal = re.sub(r"(MWST|TVA|IVA|HR)$", "", normal)
    if not re.fullmatch(FORMS[tax_id_type], normal) or not _adds_up(tax_id_type, normal):
        raise BadTaxId(
            f"{value[:40]!r} is no {_TITLES[tax_id_type]}. It looks like {_EXAMPLES[tax_id_type]}; check for a slip."
        )
    country = _COUNTRIES.get(tax_id_type) or ("GR" if normal.startswith("EL") else normal[:2])
    return TaxId(tax_id_type, normal, country)


def _adds_up(tax_id_type: str, normal: str) -> bool:
    digits = [int(character) for character in normal if character.isdigit()]
    if tax_id_type == "au_abn":
        # Source: https://abr.business.gov.au/Help/AbnFormat - the first digit less 1, weighted, divides by 89.
        digits[0] -= 1
        return _weighted(digits, (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)) % 89 == 0
    if tax_id_type == "ch_uid":
        # Source: eCH-0097, data standard of the UID, https://www.ech.ch/de/ech/ech-0097 - the last digit by modulus 11.
        check = -_weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4)) % 11
        return check == digits[8]
    if tax_id_type == "gb_vat" and len(digits) >= 9:
        # Source: HMRC's VAT number check, modulus 97; numbers given out since 2010 add 55 before.
        rest = (_weighted(digits, (8, 7, 6, 5, 4, 3, 2)) + digits[7] * 10 + digits[8]) % 97
        return rest in (0, 97 - 55)
    return True


def _weighted(digits: list[int], weights: tuple[int, ...]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=False))
