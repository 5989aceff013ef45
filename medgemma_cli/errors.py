"""What can go wrong, and what to do next. No error here ever carries document text.

Two families. A `MedgemmaError` ends the command with its exit code. A `DocumentError` ends one
document with a code from `FAULTS`; the run goes on.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Literal, NamedTuple

_LOG = logging.getLogger(__name__)

OK = 0
UNFORESEEN = 1
USAGE = 2
DOCUMENTS_FAILED = 3
GATE = 4
NO_INPUT = 66
UNAVAILABLE = 69
CANNOT_CREATE = 73
IO_ERROR = 74
RUN_AGAIN = 75
CONFIG = 78
INTERRUPTED = 130


class MedgemmaError(Exception):
    """The root: a message, the next step for the reader, and the exit code of the command."""

    exit_code = UNFORESEEN

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step


class UsageError(MedgemmaError):
    """The command line asks for something that cannot be meant."""

    exit_code = USAGE


class NoInputError(MedgemmaError):
    """Nothing matched."""

    exit_code = NO_INPUT


class ModelUnavailableError(MedgemmaError):
    """The model or the device cannot be had, or the model does not fit."""

    exit_code = UNAVAILABLE


class MissingExtraError(MedgemmaError):
    """A command needs packages that are installed only when asked for."""

    exit_code = UNAVAILABLE


class OutputError(MedgemmaError):
    """The output folder cannot be written; said before the model loads."""

    exit_code = CANNOT_CREATE


class StorageError(MedgemmaError):
    """Writing failed in the middle (disk full, quota, I/O error)."""

    exit_code = IO_ERROR


class RunAgainError(MedgemmaError):
    """Work remains and nothing is wrong with it: another run holds the folder, or time is up."""

    exit_code = RUN_AGAIN


class ConfigError(MedgemmaError):
    """A template, a ledger or a checkpoint that must not be used as it is."""

    exit_code = CONFIG


class Fault(NamedTuple):
    """What one document-level code means: where it arose, its status and the next step."""

    stage: Literal["discover", "read", "render", "generate", "check", "write"]
    status: Literal["failed", "rejected"]
    hint: str


FAULTS: dict[str, Fault] = {
    "path_escape": Fault(
        "discover", "rejected", "The path leaves its folder; list it without '..'."
    ),
    "unsupported": Fault(
        "discover", "rejected", "This kind of file is not read; convert it to text or PNG."
    ),
    "vanished": Fault("read", "failed", "The file went away while running; run again."),
    "unstable": Fault(
        "read", "failed", "The file kept changing while it was read; run again when it is still."
    ),
    "unreadable": Fault("read", "failed", "The file cannot be opened; check its permissions."),
    "read_error": Fault("read", "failed", "The storage failed while reading; check it, run again."),
    "empty": Fault("read", "rejected", "The file has 0 bytes; export it again."),
    "no_text": Fault("read", "rejected", "The file holds only white space; export it again."),
    "not_text": Fault("read", "rejected", "The file is binary; give it its right file name."),
    "encoding": Fault(
        "read", "rejected", "The text is not UTF-8; say which it is with --encoding NAME."
    ),
    "too_large": Fault("read", "rejected", "The file is over --max-bytes; split it or raise that."),
    "too_many_pixels": Fault(
        "read", "rejected", "The image is over --max-pixels; scale it down or raise that."
    ),
    "image_truncated": Fault("read", "rejected", "The image ends too early; copy it again."),
    "format": Fault(
        "read", "rejected", "The content is no image of a kind read here; save it as PNG."
    ),
    "pdf_encrypted": Fault(
        "read", "rejected", "The PDF opens with a password only; save it without one."
    ),
    "pdf_corrupt": Fault(
        "read", "rejected", "The file is no whole PDF; copy it again, or print it to a new PDF."
    ),
    "no_converter": Fault(
        "read",
        "rejected",
        "This kind needs packages that are not there: pip install 'medgemma-cli[office]'.",
    ),
    "office_encrypted": Fault(
        "read", "rejected", "The file opens with a password or a key only; save it without one."
    ),
    "office_corrupt": Fault(
        "read", "rejected", "The file is damaged or not what its name says; save it again."
    ),
    "archive": Fault("discover", "rejected", "Archives are not opened; unpack it first."),
    "no_text_column": Fault(
        "discover", "rejected", "A table is read with --text-column NAME; say which column it is."
    ),
    "no_column": Fault(
        "discover",
        "rejected",
        "A column is missing or there twice; check --text-column, --id-column and --image-column.",
    ),
    "table_corrupt": Fault(
        "discover", "rejected", "The table is damaged, or JSON that is no list; export it again."
    ),
    "no_parquet": Fault(
        "discover", "rejected", "Parquet needs pyarrow: pip install 'medgemma-cli[tables]'."
    ),
    "row_broken": Fault(
        "discover",
        "rejected",
        "The row or line is broken (quotes, number of fields, JSON); mend it.",
    ),
    "row_empty": Fault("discover", "rejected", "The row has no text and no image; fill it in."),
    "row_not_text": Fault(
        "discover", "rejected", "The row has no text in its column, but a number, list or bytes."
    ),
    "duplicate_id": Fault(
        "discover", "rejected", "An earlier row or line has the same id; make ids unique."
    ),
    "image_path": Fault(
        "read",
        "rejected",
        "The row's image is a URL or out of its folder; put it beside the table.",
    ),
    "image_missing": Fault(
        "read", "failed", "The image that the row names is not there; put it beside the table."
    ),
    "no_custom_id": Fault(
        "discover", "rejected", "The request has no custom_id, or one that is no text; add one."
    ),
    "request_url": Fault(
        "discover",
        "rejected",
        "Not a chat request: its method must be POST, its url /v1/chat/completions.",
    ),
    "request_model": Fault(
        "discover",
        "rejected",
        "The request names another model; give --model it, or --served-model-name its name.",
    ),
    "request_body": Fault(
        "read",
        "rejected",
        "The request's body, or an option in it, is missing, of a wrong type or out of bounds.",
    ),
    "request_messages": Fault(
        "read",
        "rejected",
        "Messages are text or image_url, system first, then user and assistant in turn, user last.",
    ),
    "request_option": Fault(
        "read",
        "rejected",
        "The request asks for an option that is not had here (n, stop, tools …): docs/batch.md.",
    ),
    "request_format": Fault(
        "read",
        "rejected",
        "Its response_format is no text, and no json_schema that can be decoded: docs/batch.md.",
    ),
    "image_link": Fault(
        "read",
        "rejected",
        "An image is an address; nothing is fetched. Put the image itself in, as a data: URL.",
    ),
    "image_data": Fault(
        "read", "rejected", "An image is no base64 data: URL of PNG, JPEG, TIFF, BMP or WebP."
    ),
    "pair_date": Fault(
        "discover",
        "rejected",
        "--pair-by finds no date in it, or one that is unclear; write 2024-03-01 or 20240301, and "
        "all of a group in one way.",
    ),
    "pair_order": Fault(
        "discover",
        "rejected",
        "Which document comes before which is not certain: two of its group have the same date. "
        "Add a time or an order, or leave one out.",
    ),
    "pair_mixed": Fault(
        "render",
        "rejected",
        "Of the two documents only one has text; pair texts with texts and images with images.",
    ),
    "not_dicom": Fault(
        "read", "rejected", "The content is no DICOM file; give it its right file name."
    ),
    "no_pixels": Fault(
        "read",
        "rejected",
        "The DICOM file has no image (a report, a plan, a PDF); export it as text or PDF.",
    ),
    "dicom_corrupt": Fault(
        "read", "rejected", "The DICOM file is damaged or cut short; export it again."
    ),
    "no_decoder": Fault(
        "read",
        "rejected",
        "The DICOM file is packed in a way not read here; pip install 'medgemma-cli[dicom]' reads "
        "more, or export it uncompressed.",
    ),
    "no_slide_reader": Fault(
        "read",
        "rejected",
        "Slides need packages that are not there: pip install 'medgemma-cli[slides]'.",
    ),
    "slide_too_large": Fault(
        "read", "rejected", "The slide is over --max-slide-bytes; raise that, or export a part."
    ),
    "slide_corrupt": Fault(
        "read",
        "rejected",
        "The file is no slide of a kind read here, damaged or cut short; copy or export it again.",
    ),
    "no_tissue": Fault(
        "read", "rejected", "No tissue was found on the slide; export its regions as PNG."
    ),
    "timeout": Fault(
        "read", "rejected", "Reading it took too long; save it again plainly, or convert it."
    ),
    "reader_crashed": Fault(
        "read", "failed", "Its reader crashed on the file, twice; save it again, or convert it."
    ),
    "limit": Fault(
        "read",
        "rejected",
        "Reading it would take more memory than allowed, or it has over --max-pages; split it or "
        "save it again plainly.",
    ),
    "not_accepted": Fault(
        "render", "rejected", "The template does not accept this kind; choose another --template."
    ),
    "no_vision": Fault(
        "render", "rejected", "The model reads text only; choose a multimodal --model for images."
    ),
    "no_text_layer": Fault(
        "render",
        "rejected",
        "Its pages are pictures, and the model reads text only; choose a multimodal --model.",
    ),
    "too_long": Fault(
        "render",
        "rejected",
        "The document is longer than the model's window; use --on-long split, or more "
        "--max-input-tokens.",
    ),
    "control_tokens": Fault(
        "render", "failed", "The document could not be kept apart from the prompt; report this."
    ),
    "bad_logits": Fault(
        "generate", "failed", "The model computed NaN; use --precision bf16 or fp32."
    ),
    "empty_output": Fault(
        "generate", "failed", "The model wrote nothing; use --precision bf16 or fp32."
    ),
    "unclosed_thought": Fault(
        "generate", "failed", "The model was still thinking at its limit; raise --max-new-tokens."
    ),
    "invalid_output": Fault(
        "check", "failed", "The answer does not fit the template; raise --max-new-tokens."
    ),
    "budget": Fault(
        "generate", "failed", "No whole answer fits the budget; raise --max-new-tokens."
    ),
    "oom": Fault(
        "generate", "failed", "Out of memory with this document alone; use --precision nf4."
    ),
    "engine": Fault(
        "generate", "failed", "The engine failed on this document; run again with --debug."
    ),
    "server_refused": Fault(
        "generate", "failed", "The server refused the request; its own log says why."
    ),
    "server_failed": Fault(
        "generate",
        "failed",
        "The server failed on this document again and again, though it answers; see its log.",
    ),
    "output_too_long": Fault(
        "write", "failed", "The path of its summary is too long; choose a shorter -o."
    ),
    "poison": Fault(
        "generate",
        "failed",
        "The process crashed on it three times; report the crash-… file of OUT/quarantine. To try "
        "again: --retry-failed --max-attempts 4.",
    ),
    "replica_crashed": Fault(
        "generate",
        "failed",
        "Its replica died three times with this document alone; see Ray's logs on that node, then "
        "--retry-failed.",
    ),
    "internal": Fault(
        "check",
        "failed",
        "The program failed on this document; run again with --debug, and report it.",
    ),
    "output_exists": Fault(
        "write", "failed", "A file not written here is at the output path; move it or change -o."
    ),
}
"""Every document-level code. Tests and users name these codes; the prose may change."""


class DocumentError(Exception):
    """One document ends here, with a code of `FAULTS`; the others go on."""

    def __init__(self, code: str, document: Literal["prior", "current"] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.document = document  # of a pair, which of both

    @property
    def fault(self) -> Fault:
        """What the code means."""
        return FAULTS[self.code]


@contextlib.contextmanager
def one_document() -> Iterator[None]:
    """Whatever nobody foresaw inside costs one document; what concerns all still ends the run.

    Raises:
        DocumentError: ``internal`` for any exception without a meaning of its own.
    """
    try:
        yield
    except (MedgemmaError, DocumentError, ImportError):
        raise
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException:  # a panic of a Rust library is no `Exception`
        # Shown with --debug alone: the message may quote what was being worked on.
        _LOG.debug("a document could not be worked on", exc_info=True)
        raise DocumentError("internal") from None
