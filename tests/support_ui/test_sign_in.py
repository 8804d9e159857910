"""Who gets in, who stays in, and who may do what."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts import staff
from app.accounts.tables import StaffUser
from app.signin.sessions import local_path
from tests.support_ui.conftest import PASSWORD, Page, Site

SIGN_IN = "/support/sign-in"
REFUSAL = "E-mail address and password do not belong together."


def test_a_stranger_is_led_to_the_sign_in_page_and_back_again(site: Site) -> None:
    stranger = site.stranger()
    answer = stranger.get("/support/customers?q=acme")
    assert answer.status_code == 303
    form = stranger.page(answer.headers["Location"]).form(SIGN_IN)
    answer = stranger.send(form, email=" Agent@demo.test", password=PASSWORD)
    assert answer.headers["Location"] == "/support/customers?q=acme"
    assert "The agent" in stranger.follow(answer).text


def test_a_fragment_for_a_stranger_is_no_sign_in_page(site: Site) -> None:
    answer = site.stranger().get("/support/customers?q=acme", fragment=True)
    assert (answer.status_code, answer.text, answer.headers["HX-Redirect"]) == (401, "", SIGN_IN)


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("agent@demo.test", "wrong"),
        ("nobody@demo.test", PASSWORD),
        ("agent@demo.test", ""),
    ],
)
def test_every_refusal_sounds_the_same(site: Site, email: str, password: str) -> None:
    answer = site.stranger().submit(SIGN_IN, SIGN_IN, email=email, password=password)
    assert answer.status_code == 422
    assert REFUSAL in Page(answer.text).text


def test_a_user_who_was_shut_out_cannot_come_back(site: Site) -> None:
    agent = site.desk("agent@demo.test")
    with Session(site.engine) as session, session.begin():
        staff.deactivate(session, email="agent@demo.test")
    assert agent.get("/support/").status_code == 303
    answer = site.stranger().submit(SIGN_IN, SIGN_IN, email="agent@demo.test", password=PASSWORD)
    assert REFUSAL in Page(answer.text).text


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.test/",
        "//evil.test/support/",
        "/\\evil.test",
        "/support//evil.test",
        "/billing/",
        "",
        None,
        "/support/\n",
    ],
)
def test_signing_in_never_leads_to_another_site(target: str | None) -> None:
    assert local_path(target) == "/support/"


def test_signing_in_forgets_the_session_that_was_there(site: Site) -> None:
    stranger = site.stranger()
    before = stranger.page(SIGN_IN).form(SIGN_IN)
    with stranger.client.session_transaction() as prepared:
        prepared["planted"] = "by somebody else"
    stranger.send(before, email="agent@demo.test", password=PASSWORD)
    after = stranger.page("/support/account").form("/support/account/password")
    with stranger.client.session_transaction() as now:
        assert "planted" not in now
    assert before.fields["csrf_token"] != after.fields["csrf_token"]
    assert stranger.send(after, csrf_token=before.fields["csrf_token"]).status_code == 400


def test_a_new_password_signs_other_browsers_out(site: Site) -> None:
    here, elsewhere = site.desk(), site.desk()
    path = "/support/account/password"
    new = "quite another passphrase"
    answer = here.submit("/support/account", path, current="wrong", new=new, again="typo")
    assert answer.status_code == 422
    assert "This is not your password." in Page(answer.text).text
    assert "The two are not the same." in Page(answer.text).text
    answer = here.submit("/support/account", path, current=PASSWORD, new="short", again="short")
    assert "12 to 1,000 characters" in Page(answer.text).text
    answer = here.submit("/support/account", path, current=PASSWORD, new=new, again=new)
    assert "Your password is changed" in here.follow(answer).text
    assert elsewhere.get("/support/").status_code == 303
    site.desk(password=new)


def test_a_cookie_of_an_earlier_epoch_opens_nothing(site: Site) -> None:
    agent = site.desk()
    with Session(site.engine) as session, session.begin():
        session.scalars(select(StaffUser).where(StaffUser.email == "agent@demo.test")).one().session_epoch += 1
    assert agent.get("/support/").status_code == 303


def test_too_many_wrong_passwords_lock_one_address_for_one_user_only(site: Site) -> None:
    stranger = site.stranger()
    form = stranger.page(SIGN_IN).form(SIGN_IN)
    for _ in range(10):
        assert stranger.send(form, email="agent@demo.test", password="wrong").status_code == 422
    answer = stranger.send(form, email="agent@demo.test", password=PASSWORD)
    assert answer.status_code == 429
    assert "Too many tries" in Page(answer.text).text
    assert stranger.send(form, email="viewer@demo.test", password=PASSWORD).status_code == 303


def test_signing_in_often_is_no_offence(site: Site) -> None:
    for _ in range(12):
        site.desk()


def test_signing_out_ends_the_session_and_wants_a_form(site: Site) -> None:
    agent = site.desk()
    assert agent.client.get("/support/sign-out").status_code == 405
    answer = agent.submit("/support/", "/support/sign-out")
    assert answer.headers["Location"] == SIGN_IN
    assert agent.get("/support/").status_code == 303


def test_a_form_without_its_token_is_refused(site: Site) -> None:
    draft = site.draft()
    agent = site.desk()
    form = agent.page(draft.url).form(f"{draft.url}/hold")
    form.fields.pop("csrf_token")
    answer = agent.client.post(form.action, data={**form.fields, "reason": "Let me look"})
    assert answer.status_code == 400
    assert draft.view.invoice.held_at is None


def test_a_viewer_reads_everything_and_changes_nothing(site: Site) -> None:
    draft = site.draft()
    viewer = site.desk("viewer@demo.test")
    customer = f"/support/customers/{draft.customer_id}"
    for path in ("/support/", "/support/drafts", customer, f"{customer}/journal", draft.url, draft.line_url):
        page = viewer.page(path)
        posts = {form.action for form in page.forms if form.method == "post"}
        assert posts == {"/support/sign-out"}, path
    token = viewer.page("/support/").form("/support/sign-out").fields
    line = {"line_id": str(draft.view.lines[0].id), "version": "1", "reason": "x", "amount": "1"}
    for path in (
        f"{draft.url}/adjustments",
        f"{draft.url}/adjustments/{draft.invoice_id}/undoing",
        f"{draft.url}/adjustments/{draft.invoice_id}/approval",
        f"{draft.url}/hold",
        f"{draft.url}/release",
        f"{draft.url}/finalization",
        f"{draft.url}/sync_retry",
        f"{customer}/credits",
        f"{customer}/parked_releases",
        "/support/webhooks/evt_1/runs",
        "/support/users",
        "/support/users/agent@demo.test/role",
        "/support/users/agent@demo.test/deactivation",
        "/support/users/agent@demo.test/activation",
        "/support/users/agent@demo.test/password",
    ):
        answer = viewer.client.post(path, data={**token, **line, "kind": "waive"})
        assert answer.status_code == 403, path
    assert viewer.get("/support/users").status_code == 403
    assert draft.view.invoice.version == 1


def test_style_sheets_need_no_session(site: Site) -> None:
    answer = site.stranger().client.get("/support/static/css/base.css")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-cache"


def test_what_does_not_exist_is_said_on_a_page_of_ours(site: Site) -> None:
    agent = site.desk()
    nobody = "/support/customers/00000000-0000-0000-0000-000000000000"
    for path in (
        nobody,
        f"{nobody}/journal",
        f"{nobody}/invoices/00000000-0000-0000-0000-000000000000",
        "/support/webhooks/evt_x",
    ):
        answer = agent.get(path)
        assert answer.status_code == 404, path
        assert "Back to what is to do" in Page(answer.text).text


def test_characters_that_no_keyboard_makes_are_refused(site: Site) -> None:
    stranger = site.stranger()
    form = stranger.page(SIGN_IN).form(SIGN_IN)
    assert stranger.send(form, email="agent@demo.test\x00", password=PASSWORD).status_code == 400
    agent = site.desk()
    for path in ("/support/customers?q=%00", "/support/webhooks/evt_%00", "/support/users/%00/role"):
        assert agent.client.get(path).status_code in (400, 405), path
