"""Where alerts are told: a webhook, e-mail, both or neither, from the environment.

Addresses may hold secrets: none is ever part of a message of ours or of a row.
"""

import json
import os
import re
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import make_msgid
from http.client import HTTPException
from typing import ClassVar, TypeAlias
from urllib.error import HTTPError
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from quarterjack.database import read_secret
from quarterjack.errors import SettingInvalid
from quarterjack.queries.deliveries import Delivery

ANSWER_WITHIN = 5.0
UNDELIVERED = (OSError, HTTPException, ValueError)
ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[\w.-]+", re.ASCII)
VISIBLE = re.compile(r"[!-~]+")
WEBHOOK = "QUARTERJACK_ALERT_WEBHOOK"
EMAIL = ("QUARTERJACK_ALERT_EMAIL_TO", "QUARTERJACK_ALERT_EMAIL_FROM", "QUARTERJACK_SMTP_URL")


class _NoRedirect(HTTPRedirectHandler):
    """A POST that is redirected would arrive as a GET, and nobody would be told."""

    def redirect_request(self, *_: object) -> None:
        return None


OPENER = build_opener(_NoRedirect)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """POSTs a JSON object."""

    name: ClassVar[str] = "webhook"
    url: str = field(repr=False)

    def send(self, delivery: Delivery, page: str | None) -> None:
        """Send one message and wait for the answer; one of UNDELIVERED if it was not taken."""
        alert = delivery.alert
        content = {
            "event": delivery.event,
            "id": alert.id,
            "schedule": alert.schedule,
            "tick_at": alert.tick_at.isoformat(),
            "kind": alert.kind,
            "message": _words(delivery),
            "raised_at": alert.raised_at.isoformat(),
            "resolved_at": alert.resolved_at.isoformat()
            if delivery.event == "resolved" and alert.resolved_at
            else None,
            "url": page,
        }
        headers = {"Content-Type": "application/json", "User-Agent": "quarterjack"}
        request = Request(self.url, json.dumps(content).encode(), headers, method="POST")  # noqa: S310 - checked
        try:
            OPENER.open(request, timeout=ANSWER_WITHIN).close()
        except HTTPError as refused:
            refused.close()
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """Sends plain text through an SMTP server, encrypted where that offers it."""

    name: ClassVar[str] = "email"
    to: tuple[str, ...]
    sender: str
    host: str
    port: int
    encrypted: bool
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)

    def send(self, delivery: Delivery, page: str | None) -> None:
        """Send one message; one of UNDELIVERED if the server did not take it."""
        message = self._message(delivery, page)
        context = ssl.create_default_context()
        with self._connect(context) as server:
            server.ehlo_or_helo_if_needed()
            if not self.encrypted and server.has_extn("starttls"):
                server.starttls(context=context)
            elif not self.encrypted and self.user:
                raise smtplib.SMTPException("no STARTTLS: the password is not sent in clear")
            if self.user:
                server.login(self.user, self.password or "")
            refused = server.send_message(message, from_addr=self.sender, to_addrs=list(self.to))
        if refused:
            raise smtplib.SMTPException(f"refused for {', '.join(refused)}")

    def _connect(self, context: ssl.SSLContext) -> smtplib.SMTP:
        if self.encrypted:
            return smtplib.SMTP_SSL(self.host, self.port, timeout=ANSWER_WITHIN, context=context)
        return smtplib.SMTP(self.host, self.port, timeout=ANSWER_WITHIN)

    def _message(self, delivery: Delivery, page: str | None) -> EmailMessage:
        alert = delivery.alert
        state = "paused" if alert.kind == "paused" else "late"
        message = EmailMessage()
        message["From"], message["To"] = self.sender, ", ".join(self.to)
        prefix = "Resolved: " if delivery.event == "resolved" else ""
        message["Subject"] = f"{prefix}{alert.schedule} is {state}"
        message["Message-ID"] = make_msgid(domain=self.sender.rpartition("@")[2])
        lines = [
            _words(delivery),
            f"Raised {alert.raised_at:%Y-%m-%d %H:%M:%S} UTC, alert {alert.id}.",
        ]
        message.set_content("\n\n".join([*lines, page] if page else lines) + "\n")
        return message


Channel: TypeAlias = Webhook | Email


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The channels, and the address of the admin that messages link to."""

    channels: tuple[Channel, ...]
    public_url: str | None

    def page(self, schedule: str) -> str | None:
        return self.public_url and f"{self.public_url}/schedules/{quote(schedule, safe='')}"


def from_environment() -> Told:
    """Read QUARTERJACK_ALERT_*, QUARTERJACK_SMTP_URL and QUARTERJACK_PUBLIC_URL; SettingInvalid says what is wrong."""
    public_url = os.environ.get("QUARTERJACK_PUBLIC_URL", "").strip().rstrip("/") or None
    if public_url:
        _check_http("QUARTERJACK_PUBLIC_URL", public_url)
    channels = (_webhook(), _email())
    return Told(channels=tuple(channel for channel in channels if channel), public_url=public_url)


def describe(error: Exception) -> str:
    """Say in one line why a message did not arrive; a server's own words only where they hold no secret."""
    if isinstance(error, HTTPError):
        return f"the answer was {error.code}"
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the server refused to sign in, code {error.smtp_code}"
    words = " ".join(f"{type(error).__name__}: {error}".replace("\x00", "").split())
    return words[:300]


def _words(delivery: Delivery) -> str:
    alert = delivery.alert
    return alert.resolution or alert.message if delivery.event == "resolved" else alert.message


def _webhook() -> Webhook | None:
    url = (read_secret(WEBHOOK) or "").strip()
    if not url:
        return None
    _check_http(WEBHOOK, url)
    return Webhook(url=url)


def _email() -> Email | None:
    values = [os.environ.get(EMAIL[0]), os.environ.get(EMAIL[1]), read_secret(EMAIL[2])]
    given = {name: value for name, value in zip(EMAIL, values, strict=True) if value}
    if not given:
        return None
    if missing := [name for name in EMAIL if name not in given]:
        raise SettingInvalid(f"alerts by e-mail also need {' and '.join(missing)}")
    to, sender, url = (given[name].strip() for name in EMAIL)
    parts = _smtp(url)
    encrypted = parts.scheme == "smtps"
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not (user + password).isascii() or bool(user) != bool(password):
        raise SettingInvalid(f"{EMAIL[2]} needs both user and password or neither, in ASCII")
    return Email(
        to=tuple(_address(EMAIL[0], each) for each in to.split(",")),
        sender=_address(EMAIL[1], sender),
        host=parts.hostname or "",
        port=parts.port or (465 if encrypted else 587 if user else 25),
        encrypted=encrypted,
        user=user or None,
        password=password or None,
    )


def _address(name: str, text: str) -> str:
    address = text.strip()
    if not ADDRESS.fullmatch(address):
        raise SettingInvalid(
            f"{name} has {address[:80]!r}: give plain addresses, such as oncall@example.org"
        )
    return address


def _smtp(url: str) -> SplitResult:
    parts = _split(EMAIL[2], url)
    rest = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme not in ("smtp", "smtps") or rest:
        raise SettingInvalid(
            f"{EMAIL[2]} is no SMTP address: give smtp://host, smtp://user:password@host:587 or "
            "smtps://host, with special characters of user and password written as %XX"
        )
    return parts


def _check_http(name: str, url: str) -> None:
    parts = _split(name, url)
    if parts.scheme not in ("http", "https") or parts.username is not None:
        raise SettingInvalid(
            f"{name} is no web address: give http:// or https://, a host and no user in it"
        )


def _split(name: str, url: str) -> SplitResult:
    """Take an address apart; what is wrong with it is said without showing it."""
    try:
        parts = urlsplit(url)
        readable = VISIBLE.fullmatch(url) and parts.hostname and parts.port != 0
    except ValueError:
        readable = None
    if not readable:
        raise SettingInvalid(f"{name} cannot be read: give scheme://host or scheme://host:port")
    return parts
