"""E-mail: over SMTP if a server is configured, else into a folder, where a developer can read what was sent."""

import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from invoicing.manual.sending import Mailer, MailFailed, Message

TIMEOUT_S = 20.0
PORTS = {"smtp": 587, "smtps": 465}
PERMANENT = range(500, 600)
"""Answers after which the same letter is refused again. Source: RFC 5321, section 4.2.1"""


def mailer_of(*, smtp_url: str | None, sender: str, folder: Path) -> Mailer:
    """Whoever carries letters: the server that `smtp_url` names, else `folder`."""
    return FolderMailer(folder, sender=sender) if smtp_url is None else SmtpMailer(smtp_url, sender=sender)


def written(message: Message, *, sender: str, now: datetime) -> EmailMessage:
    """The letter as an e-mail."""
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = message.recipient
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{message.message_id}>"
    mail.set_content(message.body)
    return mail


class SmtpMailer:
    """Hands each letter to a mail server, over TLS wherever the server has it.

    `url` is smtp://[user:password@]host[:port] (587, TLS begun by STARTTLS if offered, and always before a password is
    sent), or smtps:// (465).
    """

    def __init__(self, url: str, *, sender: str) -> None:
        parts = urlsplit(url)
        self._scheme = parts.scheme
        self._host = parts.hostname or "localhost"
        self._port = parts.port or PORTS[parts.scheme]
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password or "")
        self._sender = sender

    def send(self, message: Message) -> None:
        mail = written(message, sender=self._sender, now=datetime.now(UTC))
        try:
            with self._connection() as server:
                server.send_message(mail)
        except smtplib.SMTPRecipientsRefused as refusal:
            code, text = next(iter(refusal.recipients.values()))
            raise MailFailed(f"{message.recipient} is refused: {_words(text)}", is_final=code in PERMANENT) from refusal
        except smtplib.SMTPResponseException as refusal:
            final = refusal.smtp_code in PERMANENT and not isinstance(refusal, smtplib.SMTPAuthenticationError)
            raise MailFailed(f"The mail server answers: {_words(refusal.smtp_error)}", is_final=final) from refusal
        except (OSError, smtplib.SMTPException) as error:
            raise MailFailed(f"The mail server cannot be reached: {error}", is_final=False) from error

    def _connection(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self._scheme == "smtps":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT_S, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_S)
            server.ehlo()
            if server.has_extn("starttls") or self._user is not None:
                server.starttls(context=context)
                server.ehlo()
        if self._user is not None:
            server.login(self._user, self._password)
        return server


class FolderMailer:
    """Writes each letter to a file named after its message id: sent again, it is the same file."""

    def __init__(self, folder: Path, *, sender: str) -> None:
        self._folder = folder
        self._sender = sender

    def send(self, message: Message) -> None:
        mail = written(message, sender=self._sender, now=datetime.now(UTC))
        name = message.message_id.partition("@")[0]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{name}.eml").write_bytes(mail.as_bytes())
        except OSError as error:
            raise MailFailed(f"{self._folder} cannot be written: {error.strerror}.", is_final=False) from error


def _words(answer: bytes | str) -> str:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    return " ".join(text.split())[:500]
