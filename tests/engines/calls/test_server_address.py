"""Where documents may go: every address of a name is looked at, and nothing else is believed."""

import pytest

from medgemma_cli.engines.calls import address
from medgemma_cli.errors import ModelUnavailableError, UsageError

HOME = address.parse("http://model-host:8000/v1")


def at(*places: str) -> address.Resolve:
    """A resolver that knows these addresses."""
    return lambda host, port: places


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://127.0.0.1:8000/v1", "127.0.0.1", 8000, "/v1"),
        ("http://localhost", "localhost", 80, "/v1"),
        (" https://model-host/openai/v1/ ", "model-host", 443, "/openai/v1"),
        ("http://[::1]:9", "::1", 9, "/v1"),
    ],
)
def test_parse(url: str, host: str, port: int, path: str) -> None:
    """A base URL with or without port and path."""
    found = address.parse(url)
    assert (found.host, found.port, found.path) == (host, port, path)


def test_urls_of_requests() -> None:
    """Requests go to the address that was looked at; the Host header has the name."""
    assert HOME.url("10.0.0.7", "/models") == "http://10.0.0.7:8000/v1/models"
    assert HOME.authority == "model-host:8000"
    six = address.parse("https://[::1]/v1")
    assert six.url("::1", "/models") == "https://[::1]:443/v1/models"
    assert six.authority == "[::1]"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "127.0.0.1:8000",
        "http://",
        "http://user:secret@127.0.0.1/",
        "http://127.0.0.1/v1?key=secret",
        "http://127.0.0.1/v1#secret",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1\\@secret.example/",
        "http://[::1%25eth0]/",
        "http://[::1/",
        "http://secret host/",
        "http://host/../secret/",
        "http://host/%2e%2e/secret",
        "http://secrét.example/",
    ],
)
def test_refused_without_being_quoted(url: str) -> None:
    """What is no plain base URL is refused, and what may be a secret in it is not told."""
    with pytest.raises(UsageError) as caught:
        address.parse(url)
    assert "secret" not in caught.value.message + caught.value.next_step


@pytest.mark.parametrize(
    ("place", "reach"),
    [
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("10.1.2.3", "private"),
        ("172.31.255.255", "private"),
        ("192.168.0.1", "private"),
        ("169.254.1.1", "private"),
        ("fd00::1", "private"),
        ("fe80::1%eth0", "private"),
        ("8.8.8.8", "public"),
        ("172.32.0.1", "public"),
        ("::ffff:8.8.8.8", "public"),
        ("64:ff9b::a00:1", "public"),
        ("2001:4860:4860::8888", "public"),
        ("100.64.0.1", "public"),
        ("198.18.0.1", "public"),
        ("0.0.0.0", "public"),
    ],
)
def test_reach(place: str, reach: str) -> None:
    """Only what is known to be near is near; a wrapped address is what it wraps."""
    assert address.reach_of(place) == reach


def test_private_needs_nothing() -> None:
    """All addresses private or loopback: the farther of them is told."""
    found = address.resolve(HOME, allow_remote=False, look=at("10.0.0.7", "127.0.0.1"))
    assert (found.reach, found.places) == ("private", ("10.0.0.7", "127.0.0.1"))
    assert address.resolve(HOME, allow_remote=False, look=at("::1", "::1")).reach == "loopback"


def test_one_public_address_is_enough() -> None:
    """Of several addresses one is public: refused, whatever the others are."""
    look = at("127.0.0.1", "93.184.216.34")
    with pytest.raises(UsageError) as caught:
        address.resolve(HOME, allow_remote=False, look=look)
    assert "documents would leave" in caught.value.message
    assert "--allow-remote" in caught.value.next_step


def test_public_needs_https() -> None:
    """With --allow-remote, http is still refused; https goes."""
    look = at("93.184.216.34")
    with pytest.raises(UsageError, match="http is readable"):
        address.resolve(HOME, allow_remote=True, look=look)
    safe = address.parse("https://model-host/v1")
    assert address.resolve(safe, allow_remote=True, look=look).reach == "public"


def test_unknown_name() -> None:
    """A name without addresses, or whose look-up fails, is 69."""

    def fails(host: str, port: int) -> list[str]:
        raise OSError

    for look in (at(), fails):
        with pytest.raises(ModelUnavailableError):
            address.resolve(HOME, allow_remote=True, look=look)


def test_numbers_that_are_addresses() -> None:
    """A host written as one number is what the system makes of it, and that is looked at."""
    odd = address.parse("http://2130706433:1/")
    found = address.resolve(odd, allow_remote=False)
    assert found.places == ("127.0.0.1",)


def test_told() -> None:
    """One sentence for each server off this machine; none for this one."""
    near = HOME._replace(reach="loopback")
    far = HOME._replace(host="far", reach="public")
    lan = HOME._replace(host="lan", reach="private")
    said = address.told([near, far, lan])
    assert len(said) == 2
    assert "leave this machine" in said[0] and "far" in said[0] and "PUBLIC" in said[0]
    assert "lan" in said[1] and "private" in said[1]
