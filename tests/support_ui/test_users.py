"""The staff's accounts: through the page, through the command, and the rules behind both."""

import re

import pytest
from click.testing import CliRunner
from sqlalchemy.orm import Session

from app.accounts import staff
from app.accounts.staff import (
    EmailRefused,
    LastAdmin,
    NameRefused,
    PasswordRefused,
    RoleUnknown,
    SignInRefused,
    StaffError,
    UserExists,
    UserNotFound,
)
from app.cli import main
from app.config import Config
from tests.support_ui.conftest import PASSWORD, Page, Site, at

GOOD = {"email": "new@demo.test", "name": "New", "role": "agent", "password": PASSWORD}


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"email": "no address"}, EmailRefused),
        ({"email": f"{'x' * 320}@demo.test"}, EmailRefused),
        ({"email": "a@b\x00"}, EmailRefused),
        ({"name": "  "}, NameRefused),
        ({"name": "x" * 201}, NameRefused),
        ({"role": "owner"}, RoleUnknown),
        ({"password": "elevenchars"}, PasswordRefused),
        ({"password": "x" * 1001}, PasswordRefused),
    ],
)
def test_what_a_user_needs(session: Session, change: dict[str, str], refusal: type[StaffError]) -> None:
    with pytest.raises(refusal):
        staff.create_user(session, **{**GOOD, **change}, now=at("2025-01-01"))


def test_an_address_is_one_user_however_it_is_written(session: Session) -> None:
    user = staff.create_user(session, **{**GOOD, "email": " New@Demo.test "}, now=at("2025-01-01"))
    assert user.email == "new@demo.test"
    with pytest.raises(UserExists):
        staff.create_user(session, **GOOD, now=at("2025-01-01"))
    assert staff.verify(session, email="NEW@demo.test", password=PASSWORD).id == user.id


def test_a_password_is_checked_to_its_end(session: Session) -> None:
    long = "x" * 1000
    staff.create_user(session, **{**GOOD, "password": long}, now=at("2025-01-01"))
    with pytest.raises(SignInRefused):
        staff.verify(session, email="new@demo.test", password=long + "x")
    with pytest.raises(SignInRefused):
        staff.verify(session, email="new@demo.test", password=long[:-1])


def test_the_last_admin_stays(session: Session) -> None:
    for name in ("one", "two"):
        staff.create_user(session, **{**GOOD, "email": f"{name}@demo.test", "role": "admin"}, now=at("2025-01-01"))
    session.commit()
    staff.set_role(session, email="one@demo.test", role="viewer")
    with pytest.raises(LastAdmin):
        staff.set_role(session, email="two@demo.test", role="approver")
    with pytest.raises(LastAdmin):
        staff.deactivate(session, email="two@demo.test")
    staff.set_role(session, email="two@demo.test", role="admin")


def test_nobody_is_changed_by_mistake(session: Session) -> None:
    with pytest.raises(UserNotFound):
        staff.set_password(session, email="nobody@demo.test", password=PASSWORD)


def test_an_admin_makes_a_user_whose_password_is_shown_once(site: Site) -> None:
    admin = site.desk("admin@demo.test")
    answer = admin.submit("/support/users", "/support/users", email="new@demo.test", name="Désk <1>", role="approver")
    assert answer.status_code == 201
    password = re.search(r'class="mono secret">([^<]+)<', answer.text)
    assert password
    assert "shown this once" in Page(answer.text).text
    assert password[1] not in admin.page("/support/users").html
    assert "Désk <1>" in site.desk("new@demo.test", password[1]).page("/support/account").text


def test_a_bad_user_keeps_what_was_typed(site: Site) -> None:
    admin = site.desk("admin@demo.test")
    answer = admin.submit("/support/users", "/support/users", email="agent@demo.test", name="Again", role="viewer")
    assert answer.status_code == 422
    page = Page(answer.text)
    assert "There is a user agent@demo.test already" in page.text
    assert page.form("/support/users").fields["name"] == "Again"
    assert page.form("/support/users").fields["role"] == "viewer"


def test_an_admin_changes_roles_shuts_out_and_lets_in_again(site: Site) -> None:
    admin, agent = site.desk("admin@demo.test"), site.desk("agent@demo.test")
    path = "/support/users/agent@demo.test"
    admin.follow(admin.submit("/support/users", f"{path}/role", role="viewer"))
    assert "viewer" in agent.page("/support/account").text
    admin.follow(admin.submit("/support/users", f"{path}/deactivation"))
    assert agent.get("/support/").status_code == 303
    admin.follow(admin.submit("/support/users", f"{path}/activation"))
    assert agent.get("/support/").status_code == 303
    site.desk("agent@demo.test")
    answer = admin.submit("/support/users", f"{path}/password")
    password = re.search(r'class="mono secret">([^<]+)<', answer.text)
    assert password
    site.desk("agent@demo.test", password[1])


def test_an_admin_cannot_leave_nobody_in_charge(site: Site) -> None:
    admin = site.desk("admin@demo.test")
    answer = admin.submit("/support/users", "/support/users/admin@demo.test/role", role="agent")
    assert answer.status_code == 409
    assert "last active admin" in Page(answer.text).text
    form = admin.page("/support/users").form("/support/users/admin@demo.test/password")
    form.action = "/support/users/admin@demo.test/deactivation"
    assert admin.send(form).status_code == 409


def test_the_command_makes_lists_and_shuts_out(site: Site, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", config.database_url.replace("+psycopg", ""))
    monkeypatch.setenv("REDIS_URL", config.redis_url)
    monkeypatch.setenv("STRIPE_API_KEY", config.stripe_api_key)
    monkeypatch.setenv("STRIPE_API_BASE", str(config.stripe_api_base))
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", config.stripe_webhook_secrets[0])
    monkeypatch.setenv("SECRET_KEY", config.secret_key)
    monkeypatch.setenv("BILLING_VAR", str(config.var))

    def run(*words: str, typed: str = "") -> tuple[int, str]:
        result = CliRunner().invoke(main, ["users", *words], input=typed)
        return result.exit_code, result.output

    user = ("--email", "cli@demo.test", "--name", "Cli", "--role", "agent")
    assert run("create", *user, typed="a passphrase from a pipe\n") == (0, "created cli@demo.test as agent\n")
    site.desk("cli@demo.test", "a passphrase from a pipe")
    code, output = run("create", *user, "--generate")
    assert code == 2
    assert "error [user_exists]" in output
    code, output = run("password", "cli@demo.test", "--generate")
    site.desk("cli@demo.test", output.split("password: ")[1].strip())
    assert run("deactivate", "cli@demo.test")[0] == 0
    assert re.search(r"cli@demo\.test +agent +not active", run("list")[1])
