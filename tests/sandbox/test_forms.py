"""The sandbox's reading of bracketed forms agrees with the SDK's writing of them."""

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stripe._encode import _api_encode

from stripe_gateway.sandbox.errors import ApiError
from stripe_gateway.sandbox.forms import decode_form

_names = st.text("abcdefgh_", min_size=1, max_size=6)
_leaves = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)  # no half pairs of UTF-16
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, min_size=1, max_size=5) | st.dictionaries(_names, inner, min_size=1, max_size=4),
    max_leaves=8,
)


def _sent(params: dict[str, Any]) -> str:
    return urlencode(list(_api_encode(params)))


@settings(deadline=None)  # other work on the machine must not fail a law
@given(st.dictionaries(_names, _values, max_size=4))
def test_what_the_sdk_encodes_is_read_back(params: dict[str, Any]) -> None:
    assert decode_form(_sent(params)) == params


def test_empty_brackets_append() -> None:
    assert decode_form("types[]=a&types[]=b&expand[0]=c") == {"types": ["a", "b"], "expand": ["c"]}


@pytest.mark.parametrize("text", ["a[b=1", "a[b]]=1", "[a]=1", "a=1&a[b]=2", "a[b]=2&a=1", "a" + "[b]" * 20 + "=1"])
def test_a_form_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        decode_form(text)
    assert refused.value.status == 400
