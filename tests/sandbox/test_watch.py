"""The watch over what goes over the wire: nothing that matters is taken for a repetition of something else."""

import json
from pathlib import Path
from typing import Any

import pytest

from stripe_gateway.sandbox.messages import Answer, Request
from stripe_gateway.sandbox.recorder import Recorder
from tests.sandbox.contract import Contract, spec_path

DELETED: dict[str, Any] = {"id": "cus_Ab1dE9Gh2jKl3m", "object": "customer", "deleted": True}


@pytest.fixture(scope="module")
def contract() -> Contract:
    path = spec_path()
    if path is None:
        pytest.skip("Stripe's OpenAPI file is absent. Set STRIPE_OPENAPI_SPEC")
    return Contract(path)


def _exchange(form: str = "", answer: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    method, path = ("POST", "/v1/customers") if form else ("DELETE", "/v1/customers/cus_1")
    exchange = {"method": method, "path": path, "query": "", "form": form, "status": 200}
    return {**exchange, "answer": json.dumps(DELETED if answer is None else answer), **changes}


def _written(folder: Path) -> list[str]:
    return [line for path in folder.iterdir() for line in path.read_text().splitlines()]


def test_what_differs_in_its_identifiers_and_numbers_only_is_written_once(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)

    def tell(path: str, form: str, answer: dict[str, Any]) -> int:
        request = Request("POST", path, "", {}, form.encode())
        recorder.exchange(request, Answer(200, json.dumps(answer).encode()))
        return len(_written(tmp_path))

    first = {"id": "in_1QabcDEF", "amount": 5, "status": "open", "url": "http://127.0.0.1:4711/i/abC1def"}
    assert tell("/v1/invoices", "customer=cus_AB12&key=0d4b7b9e-0000-4abc-8def-0123456789ab", first) == 1
    other = {"id": "in_1ZyxwVUT", "amount": 78, "status": "open", "url": "http://127.0.0.1:4712/i/Zyx9w"}
    assert tell("/v1/invoices", "customer=cus_ZY98&key=ab4b7b9e-0000-4abc-8def-0123456789ab", other) == 1
    wrong: list[dict[str, Any]] = [
        {"status": "opened"},
        {"amount": 78.5},
        {"amount": "78"},
        {"amount": None},
        {"amount": -78},
        {"more": []},
    ]
    for number, change in enumerate(wrong, start=2):
        assert tell("/v1/invoices", "customer=cus_ZY98", {**other, **change}) == number


def test_a_webhook_is_written_as_it_was_sent(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    for number in range(3):
        recorder.event(b'{"id":"evt_1%d","type":"invoice.paid"}' % number)
    assert [json.loads(line) for line in _written(tmp_path)] == [{"event": '{"id":"evt_10","type":"invoice.paid"}'}]


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ("tax_exempt=none", "tax_exempt=nobody", "tax_exempt"),
        ("balance=12", "balance=1.5", "balance"),
        ("balance=12", "balance=much", "balance"),
        ("description=short", f"description={'x' * 5001}", "description"),
        ("name=Anna", "nickname=Anna", "nickname"),
        ("address[city]=Ulm", "address[planet]=Ulm", "planet"),
    ],
)
def test_a_wrong_request_is_found_after_a_right_one_of_its_kind(
    contract: Contract, good: str, bad: str, says: str
) -> None:
    with pytest.raises(AssertionError, match=r"POST /v1/customers -> 200: "):
        contract.check_exchange(_exchange(good))  # the request is well, the answer is a deleted customer's
    with pytest.raises(AssertionError, match=rf"\(form\): at .*{says}|\(form\): .*'{says}'"):
        contract.check_exchange(_exchange(bad))


def test_a_wrong_answer_is_found_after_a_right_one_of_its_kind(contract: Contract) -> None:
    contract.check_exchange(_exchange())
    for change in ({"object": "customers"}, {"deleted": "yes"}, {"id": 5}, {"deleted": False}):
        with pytest.raises(AssertionError, match="DELETE /v1/customers/cus_1 -> 200"):
            contract.check_exchange(_exchange(answer={**DELETED, **change}))


def test_an_address_that_stripe_does_not_have_may_only_be_refused(contract: Contract) -> None:
    refusal = {"error": {"type": "invalid_request_error", "message": "Unrecognized request URL"}}
    contract.check_exchange(_exchange(path="/v1/weather", status=404, answer=refusal))
    with pytest.raises(AssertionError, match="no such address"):
        contract.check_exchange(_exchange(path="/v1/weather"))


def test_a_refusal_has_stripes_shape_too(contract: Contract) -> None:
    with pytest.raises(AssertionError, match=r"-> 400: at error\.type"):
        contract.check_exchange(_exchange(status=400, answer={"error": {"type": "bad_luck"}}))
