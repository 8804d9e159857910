"""Letters: what they say, that each goes out, and what becomes of one that the mail server does not take."""

import socket
import threading
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TextIO

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.mail import FolderMailer, SmtpMailer
from invoicing.customers import change_provider, customer_id_for
from invoicing.manual.provider import ManualProvider
from invoicing.manual.sending import MailFailed, Message, send_due
from invoicing.manual.tables import Letter
from invoicing.settings import Settings
from tests.invoicing.conftest import Company
from tests.invoicing.taxed import load, profile, rates_file
from tests.providers.conftest import BANK, Postbox, now

MESSAGE = Message("a-letter@billing.invalid", "acme@example.org", "Invoice A-0001: 12.34 USD", "Pay, please.\n")


class MailServer:
    """As much of RFC 5321 as a letter needs, with an answer to RCPT that a test chooses."""

    def __init__(self, *, recipient: str = "250 fine") -> None:
        self.letters: list[str] = []
        self._recipient = recipient
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"smtp://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> "MailServer":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rw", encoding="utf-8", newline="\r\n") as stream:
                self._talk(stream)

    def _talk(self, stream: TextIO) -> None:
        def say(line: str) -> None:
            stream.write(line + "\n")
            stream.flush()

        say("220 here")
        lines = iter(stream)
        for line in lines:
            word = line.split()[0].upper() if line.split() else ""
            if word == "RCPT":
                say(self._recipient)
            elif word == "DATA":
                say("354 go on")
                letter = []
                for part in lines:
                    if part.rstrip("\r\n") == ".":
                        break
                    letter.append(part)
                self.letters.append("".join(letter))
                say("250 taken")
            elif word == "QUIT":
                say("221 bye")
                return
            else:
                say("250 fine")


def a_final_invoice(engine: Engine, *, email: str | None = "acme@example.org") -> Company:
    """One customer who pays by transfer, with a final invoice."""
    company = Company(engine, ManualProvider(BANK), Settings())
    customer_id = company.customer("acme", email=email)
    with Session(engine) as session, session.begin():
        change_provider(session, customer_id=customer_id, provider="manual")
    company.use("acme", "2025-06-03", "1234.50", item="machine")
    company.use("acme", "2025-06-04", "0.25", item="Amount due:  0.00 USD")
    company.close("2025-07-02")
    company.finalize_due("2025-07-10")
    return company


def letter_of(engine: Engine) -> Letter:
    with Session(engine, expire_on_commit=False) as session:
        return session.query(Letter).one()


def test_a_letter_says_what_to_pay_until_when_and_where_to(engine: Engine) -> None:
    company = a_final_invoice(engine)
    number = company.invoice("acme", "2025-06").invoice.number
    letter = letter_of(engine)
    assert letter.subject == f"Invoice {number}: 1,234.75 USD"
    lines = letter.body.splitlines()
    assert "Amount due:  1,234.75 USD" in lines
    assert f"Reference:   {number}" in lines
    assert "Due on:      2025-08-09" in lines
    assert all(f"  {detail}" in lines for detail in BANK.lines)


def test_an_items_name_cannot_forge_a_line_of_the_letter(engine: Engine) -> None:
    a_final_invoice(engine)
    lines = letter_of(engine).body.splitlines()
    assert [line for line in lines if line.startswith("Amount due:  ")] == ["Amount due:  1,234.75 USD"]
    assert any(line.startswith("Amount due: 0.00 USD ") for line in lines), "it is shown as what it is: a name"


def test_each_letter_goes_out_once(engine: Engine) -> None:
    a_final_invoice(engine)
    postbox = Postbox()
    assert send_due(engine, postbox, now=now()).sent == 1
    assert send_due(engine, postbox, now=now()).sent == 0
    assert [letter.recipient for letter in postbox.letters] == ["acme@example.org"]


def test_without_an_address_a_person_is_asked_and_the_letter_goes_to_the_one_given_then(engine: Engine) -> None:
    company = a_final_invoice(engine, email=None)
    postbox, provider = Postbox(), ManualProvider(BANK)
    assert send_due(engine, postbox, now=now()).parked == 1
    with Session(engine) as session, session.begin():
        (problem,) = provider.problems(session, limit=5)
        assert "no e-mail address" in (problem.last_error or "")
        session.execute(text("UPDATE customers SET email = 'new@example.org'"))
        invoice = company.invoice("acme", "2025-06").invoice
        provider.retry(session, customer_id=customer_id_for("acme"), invoice_id=invoice.id, actor="robin", now=now())
    assert send_due(engine, postbox, now=now()).sent == 1
    assert [letter.recipient for letter in postbox.letters] == ["new@example.org"]


class Refusing:
    """A mail server that takes nothing."""

    def __init__(self, *, is_final: bool) -> None:
        self.is_final = is_final
        self.tried: list[str] = []

    def send(self, message: Message) -> None:
        self.tried.append(message.message_id)
        raise MailFailed("no room", is_final=self.is_final)


def test_a_mail_server_that_is_away_is_tried_again_later_with_the_same_message_id(engine: Engine) -> None:
    a_final_invoice(engine)
    away = Refusing(is_final=False)
    assert send_due(engine, away, now=now()).waiting == 1
    assert send_due(engine, away, now=now()).waiting == 0, "it is not hammered"
    postbox = Postbox()
    assert send_due(engine, postbox, now=now() + timedelta(minutes=2)).sent == 1
    assert [letter.message_id for letter in postbox.letters] == away.tried


def test_an_address_that_does_not_exist_is_for_a_person(engine: Engine) -> None:
    a_final_invoice(engine)
    summary = send_due(engine, Refusing(is_final=True), now=now())
    assert (summary.parked, summary.waiting) == (1, 0)
    assert "no room" in summary.problems[0]


def test_what_a_letter_says_is_frozen_and_what_is_sent_stays_sent(engine: Engine, databases_owner: Engine) -> None:
    a_final_invoice(engine)
    send_due(engine, Postbox(), now=now())
    for change in ("body = 'pay me'", "state = 'due', sent_at = NULL", "number = 'X'"):
        with (
            pytest.raises(Exception, match="frozen"),
            Session(databases_owner) as session,
            session.begin(),
        ):
            session.execute(text(f"UPDATE manual_letters SET {change}"))  # noqa: S608 - written above


def test_a_mail_server_gets_the_letter_whole() -> None:
    with MailServer() as server:
        SmtpMailer(server.url, sender="Billing <billing@example.org>").send(MESSAGE)
        (letter,) = server.letters
    assert "Message-ID: <a-letter@billing.invalid>" in letter
    assert "To: acme@example.org" in letter
    assert "Pay, please." in letter


@pytest.mark.parametrize(("answer", "is_final"), [("550 no such user", True), ("451 later", False)])
def test_what_the_mail_server_answers_decides_whether_to_try_again(answer: str, is_final: bool) -> None:
    with MailServer(recipient=answer) as server, pytest.raises(MailFailed) as failed:
        SmtpMailer(server.url, sender="billing@example.org").send(MESSAGE)
    assert failed.value.is_final is is_final


def test_a_mail_server_that_cannot_be_reached_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(MailFailed, match="cannot be reached") as failed:
        SmtpMailer(f"smtp://127.0.0.1:{port}", sender="billing@example.org").send(MESSAGE)
    assert not failed.value.is_final


def test_without_a_mail_server_letters_can_be_read_in_a_folder(tmp_path: Path) -> None:
    mailer = FolderMailer(tmp_path / "mail", sender="billing@localhost")
    mailer.send(MESSAGE)
    mailer.send(MESSAGE)
    (file,) = (tmp_path / "mail").iterdir()
    assert "Pay, please." in file.read_text()


def test_a_letter_says_what_is_due_without_tax_each_tax_and_why_none_is_due(engine: Engine) -> None:
    load(engine, rates_file(("DE", "VAT", "19")))
    postbox, provider = Postbox(), ManualProvider(BANK)
    company = Company(engine, provider, Settings())
    business = {"tax_id": "DE123456789", "tax_id_type": "eu_vat"}
    for name, more in (("taxed", None), ("gmbh", business)):
        customer_id = company.customer(name, email=f"{name}@example.org")
        with Session(engine) as session, session.begin():
            change_provider(session, customer_id=customer_id, provider="manual")
        profile(engine, name, "DE", details=more)
        company.use(name, "2025-06-03", "100.337")
    company.close("2025-07-01")
    company.finalize_due("2025-07-10")
    send_due(engine, postbox, now=now())
    bodies = {message.recipient: " ".join(message.body.split()) for message in postbox.letters}
    assert (
        "Without tax 100.34 VAT 19 % (DE) 19.06 With tax 119.40 Amount due: 119.40 USD" in bodies["taxed@example.org"]
    )
    assert "Reverse charge: VAT is to be accounted for by the recipient" in bodies["gmbh@example.org"]
    assert "Amount due: 100.34 USD" in bodies["gmbh@example.org"]
