"""What the lines of `attempts.jsonl` tell of the run that wrote them last."""

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medgemma_cli.ledger.lines import raw_lines, read_object

_MOST = 1_000_000  # a count over it is damage


def encoded(line: dict[str, Any]) -> bytes:
    """One line of the journal, with its newline."""
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"


END = encoded({"event": "end"})


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """All lines; after an orderly end those that are carried on, which stand first.

    Raises:
        OSError: it is there and cannot be read.
    """
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(END)))
        ended = file.read() == END
    for _, raw in raw_lines(path):
        if (line := read_object(raw)) is not None:
            if ended and line.get("event") == "start":
                return
            yield line


@dataclass
class Story:
    """What the lines of a journal tell, one after the other; damaged ones tell nothing.

    Attributes:
        carried: suspects of earlier runs: key → crashes, and the ledger's size at that time.
        open: whether the last run began something and came to no end.
        mark: of its beginning, see `endings`.
    """

    carried: dict[str, tuple[int, int]] = field(default_factory=dict)
    open: bool = False
    mark: object = None
    _prepared: dict[str, tuple[int, bool]] = field(default_factory=dict)
    _generated: dict[str, tuple[int, bool]] = field(default_factory=dict)

    def take(self, line: dict[str, Any]) -> None:
        """One more line."""
        alone = line.get("alone") is True
        match line:
            case {"event": "suspect", "key": str(key), "crashes": int(crashes), "at": int(at)}:
                if 0 <= crashes <= _MOST:
                    self.carried[key] = (crashes, at)
            case {"event": "start"}:
                self.open, self.mark = True, line.get("mark")
                self._prepared, self._generated = {}, {}
            case {"event": "end"}:
                self.open = False
            case {"event": "prepare", "key": str(key), "at": int(at)}:
                # The host makes one ready after the other.
                self.open, self._prepared = True, {key: (at, alone)}
            case {"event": "generate", "keys": list(keys), "at": int(at)}:
                self.open = True
                self._generated |= {key: (at, alone) for key in keys if isinstance(key, str)}
            case {"event": "load"}:
                self._prepared = {key: (at, False) for key, (at, _) in self._prepared.items()}

    def under_way(self) -> dict[str, tuple[int, bool]]:
        """What the last run had begun: key → the ledger's size then, and whether it was alone."""
        return self._prepared | self._generated
