"""Where a server is, and whether documents may go there.

A name is resolved once; every address that it has is looked at, and connections are made to these
very addresses. So a name that means something else a moment later (DNS rebinding) leads nowhere.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from medgemma_cli.errors import ModelUnavailableError, UsageError

Reach = Literal["loopback", "private", "public"]
Resolve = Callable[[str, int], Sequence[str]]

# RFC 1918 and link-local (RFC 3927) for IPv4; unique local (RFC 4193) and link-local for IPv6.
# Python's `is_private` takes in more, such as 198.18.0.0/15, and is not asked.
_PRIVATE = [
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
]
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?")
_PATH = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)*/?")
_FIX = "Write it as in http://127.0.0.1:8000/v1."


class Address(NamedTuple):
    """A server's base URL, taken apart. `places` are the addresses that its name has."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str
    places: tuple[str, ...] = ()
    reach: Reach = "public"

    @property
    def authority(self) -> str:
        """What goes into the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == {"http": 80, "https": 443}[self.scheme]
        return host if usual else f"{host}:{self.port}"

    def url(self, place: str, path: str) -> str:
        """The URL of a path below the base, at one of the places."""
        host = f"[{place}]" if ":" in place else place
        return f"{self.scheme}://{host}:{self.port}{self.path}{path}"


def parse(text: str) -> Address:
    """Take a base URL apart; a URL without a path gets ``/v1``.

    Raises:
        UsageError: 2, it is no http(s) URL, or has a user, a password, a query or a fragment in
            it. The URL is not quoted: it may have a secret in it.
    """
    try:
        split = urlsplit(text.strip())
        host, port = split.hostname or "", split.port
    except ValueError:
        raise UsageError("--base-url is not a URL.", _FIX) from None
    if "@" in split.netloc:
        raise UsageError(
            "--base-url has a user or password in it.",
            "Leave it out; a key goes into the variable MEDGEMMA_SERVER_API_KEY.",
        )
    if split.query or split.fragment or split.scheme not in ("http", "https"):
        raise UsageError("--base-url is not a plain http or https URL.", _FIX)
    literal = _literal(host)
    if not (literal or _HOST.fullmatch(host)) or not _PATH.fullmatch(split.path):
        raise UsageError("--base-url has a host or a path that cannot be meant.", _FIX)
    path = split.path.rstrip("/") or "/v1"
    scheme: Literal["http", "https"] = "https" if split.scheme == "https" else "http"
    usual = 443 if scheme == "https" else 80
    return Address(scheme, host, usual if port is None else port, path)


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def looked_up(host: str, port: int) -> Sequence[str]:
    """The addresses that the system has for a name."""
    found: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def reach_of(place: str) -> Reach:
    """How far away an IP address is; one that wraps another (``::ffff:…``) is that other one."""
    address = ipaddress.ip_address(place.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped if mapped is not None else address
    if address.is_loopback:
        return "loopback"
    return "private" if any(address in network for network in _PRIVATE) else "public"


def resolve(address: Address, *, allow_remote: bool, look: Resolve = looked_up) -> Address:
    """The address with its places, if documents may go to every one of them.

    Raises:
        UsageError: 2, one of them is public and `allow_remote` is not given, or it is and the
            scheme is not https.
        ModelUnavailableError: 69, the name has no address.
    """
    try:
        places = tuple(dict.fromkeys(look(address.host, address.port)))
    except (OSError, UnicodeError):
        places = ()
    if not places:
        raise ModelUnavailableError(
            f"The server's name {address.host} is not known here.", "Check --base-url."
        )
    reaches = {reach_of(place) for place in places}
    if "public" not in reaches:
        reach: Reach = "private" if "private" in reaches else "loopback"
        return address._replace(places=places, reach=reach)
    if not allow_remote:
        raise UsageError(
            f"{address.host} has a public address: documents would leave this machine and its "
            "network.",
            "Use a server on this machine or a private network; or, if that may be, "
            "--allow-remote.",
        )
    if address.scheme != "https":
        raise UsageError(
            f"{address.host} has a public address, and http is readable on the way.",
            "Use https.",
        )
    return address._replace(places=places, reach="public")


def told(addresses: Sequence[Address]) -> list[str]:
    """A sentence for each server that is not on this machine: documents go there."""
    words = {"private": "at a private address", "public": "at a PUBLIC address"}
    return [
        f"warning: documents leave this machine: their text and images are sent to {address.host}, "
        f"{words[address.reach]}"
        for address in addresses
        if address.reach != "loopback"
    ]
