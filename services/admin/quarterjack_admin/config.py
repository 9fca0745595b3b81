"""Where the admin listens, and how browsers reach it."""

import os
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from quarterjack.database import Address, from_environment
from quarterjack.errors import SettingInvalid
from quarterjack.process import switched_on

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of one admin process; `origins` are the addresses that a browser may use for it."""

    database: Address
    node: str
    host: str
    port: int
    origins: frozenset[str]
    secure: bool

    @property
    def hosts(self) -> frozenset[str]:
        """Give the values of the Host header that belong to the origins."""
        return frozenset(urlsplit(origin).netloc for origin in self.origins)


def read(*, node: str, host: str, port: int) -> Config:
    """Read the environment; SettingInvalid if it would serve passwords to a network in clear text."""
    database = from_environment()
    public_url = os.environ.get("QUARTERJACK_PUBLIC_URL", "").strip().rstrip("/")
    plain = switched_on("QUARTERJACK_ALLOW_PLAIN_HTTP")
    secure = check_url("QUARTERJACK_PUBLIC_URL", public_url) == "https" if public_url else False
    if not secure and not _is_loopback(host) and not plain:
        raise SettingInvalid(
            f"--host {host} would serve passwords over plain http: set QUARTERJACK_PUBLIC_URL to the https "
            "address of the proxy in front, or QUARTERJACK_ALLOW_PLAIN_HTTP=1 if nobody else can listen"
        )
    if not public_url and not _is_loopback(host):
        raise SettingInvalid(
            "QUARTERJACK_PUBLIC_URL is not set: give it the address that browsers use, "
            "such as https://jobs.example.org"
        )
    own = [f"http://{name}:{port}" for name in LOOPBACK]
    return Config(
        database=database,
        node=node,
        host=host,
        port=port,
        origins=frozenset([public_url] if public_url else own),
        secure=secure,
    )


def check_url(what: str, url: str) -> str:
    """Give the scheme of what browsers use; SettingInvalid if it is no such address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
        raise SettingInvalid(
            f"{what} is {url[:80]!r}: give scheme and host only, such as https://jobs.example.org"
        )
    return parts.scheme


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
