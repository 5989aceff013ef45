"""The key that requests must show: from a private file, compared in constant time."""

import hashlib
import hmac
import os
import stat
from pathlib import Path

from medgemma_cli.errors import ConfigError

_SHORTEST = 16
_LONGEST = 4096


def read_key(path: Path) -> bytes:
    """The first line of a file that nobody else may read.

    Raises:
        ConfigError: 78, it cannot be read, others may read it, or it holds no good key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            data = file.read(_LONGEST) if stat.S_ISREG(about.st_mode) else b""
    except OSError:
        raise ConfigError(
            "The file of --api-key-file cannot be read.", "Check its path and permissions."
        ) from None
    if about.st_mode & 0o077 or about.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            "Others may read the file of --api-key-file.", "Make it yours alone: chmod 600 FILE."
        )
    key = data.partition(b"\n")[0].strip()
    if len(key) < _SHORTEST or not key.isascii() or b" " in key:
        raise ConfigError(
            f"The file of --api-key-file holds no key of {_SHORTEST} characters or more.",
            "Make one: (umask 077; openssl rand -hex 32 > FILE).",
        )
    return key


def matches(headers: list[tuple[bytes, bytes]], key: bytes) -> bool:
    """Whether a request shows the key: ``Authorization: Bearer KEY``, or ``X-API-Key: KEY``."""
    shown = b""
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            shown = value[7:].strip()
        elif name == b"x-api-key":
            shown = value.strip()
    # Of digests: their length says nothing of the key's.
    return hmac.compare_digest(hashlib.sha256(shown).digest(), hashlib.sha256(key).digest())
