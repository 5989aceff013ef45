"""`OUT/answers.jsonl`: one answered question a line, so that a run can go on where it was ended.

Appended like the ledger, with its lock and its file; a line that a kill cut short is cut off.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from medgemma_cli.evaluating.answers import Answer
from medgemma_cli.files import make_folder
from medgemma_cli.ledger.appending import AppendOnly
from medgemma_cli.ledger.lines import raw_lines
from medgemma_cli.ledger.locking import Lock, opening

ANSWERS = "answers.jsonl"


class AnswerBook:
    """The answers of one folder, open for one writer; without a folder they are kept nowhere.

    Attributes:
        known: the answers by key.
    """

    def __init__(self, out: Path | None) -> None:
        self.known: dict[str, Answer] = {}
        self._out = out
        self._lock: Lock | None = None
        self._file: AppendOnly | None = None

    def __enter__(self) -> Self:
        """Lock and read.

        Raises:
            OutputError: 73, the folder cannot be written. RunAgainError: 75, another run holds it.
        """
        if self._out is None:
            return self
        with opening(self.close):
            make_folder(self._out)
            self._lock = Lock(self._out)
            self._file = AppendOnly(self._out / ANSWERS, fsync=True)
            self._read(self._file, self._out / ANSWERS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file and the lock."""
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            self._lock.release()
        self._file = self._lock = None

    def put(self, answer: Answer) -> None:
        """Keep an answer; what failed is kept in memory alone, so that it is asked again.

        Raises:
            StorageError: 74.
        """
        self.known[answer.key] = answer
        if self._file is not None and not answer.errors:
            self._file.append(answer.model_dump_json(ensure_ascii=True).encode() + b"\n")
            self._file.sync()

    def _read(self, file: AppendOnly, path: Path) -> None:
        for offset, raw in raw_lines(path):
            if not raw.endswith(b"\n"):
                file.cut(offset)
                return
            try:
                answer = Answer.model_validate_json(raw)
            except ValidationError:
                continue  # its question is asked again
            self.known[answer.key] = answer
