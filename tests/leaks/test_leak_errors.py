"""Fault 95: an exception, or a library's remark, that quotes its input is not quoted in turn."""

import json

from house import ECHO, NAME, TEXT, Done, House, check_streams

# Makes one function, wherever it was imported to, fail with what it got and more.
_FAULTY = '''
import errno, importlib, logging, threading, warnings
from pathlib import Path

class PanicException(BaseException):
    """What a panic in a library in Rust becomes."""

class Careless:
    def __init__(self, said):
        self.said = said

    def __del__(self):
        raise ValueError(self.said)

def make(error, said):
    if error == "OSError":
        return OSError(errno.EIO, os.strerror(errno.EIO), said)
    if error == "PermissionError":
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), said)
    if error == "NoRoom":
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), said, None, said)
    if error == "UnicodeDecodeError":
        return UnicodeDecodeError("utf-8", said.encode(), 0, 1, said)
    if error == "JSONDecodeError":
        return json.JSONDecodeError(said, said, 0)
    if error == "ValidationError":
        from medgemma_cli.records import Usage
        try:
            Usage(prompt_tokens=said)
        except ValueError as made:
            return made
    if error == "UndefinedError":
        from jinja2 import UndefinedError
        return UndefinedError(said)
    if error == "ExceptionGroup":
        return ExceptionGroup(said, [ValueError(said), KeyError(said)])
    if error == "Chained":
        made = RuntimeError(said)
        made.__cause__ = ValueError(said)
        made.add_note(said)
        return made
    if error == "Panic":
        return PanicException(said)
    return getattr(__import__("builtins"), error)(said)

def remark(error, said):
    if error == "warning":
        warnings.warn(said, stacklevel=1)
        warnings.warn_explicit(said, RuntimeWarning, said, 1)
    elif error == "log":
        logging.getLogger("library").critical(said)
        logging.getLogger("library").error("%d", said)
        logging.warning(said)
        try:
            raise ValueError(said)
        except ValueError:
            logging.getLogger("other").exception(said)
    elif error == "thread":
        def work():
            raise ValueError(said)
        thread = threading.Thread(target=work, name=said)
        thread.start()
        thread.join()
    elif error == "finaliser":
        Careless(said)
    else:
        return False
    return True

def prepare():
    place, error, said = os.environ["PLACE"], os.environ["ERROR"], os.environ["SAID"]
    where, _, name = place.partition(":")
    owner = importlib.import_module(where)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    real = getattr(owner, last)

    def faulty(*args, **settings):
        Path(os.environ["HIT"], place).touch()
        if remark(error, said):
            return real(*args, **settings)
        local = [said, args, settings]
        raise make(error, said)

    setattr(owner, last, faulty)
    for module in list(sys.modules.values()) if not path else []:
        if getattr(module, "__name__", "").startswith("medgemma_cli"):
            for key, value in list(vars(module).items()):
                if value is real:
                    setattr(module, key, faulty)
'''

_PLACES = [
    "medgemma_cli.engines.echo:EchoEngine._answer",
    "medgemma_cli.engines.echo:EchoEngine.count",
    "medgemma_cli.engines.echo:EchoEngine.generate",
    "medgemma_cli.readers:load",
    "medgemma_cli.readers:decode",
    "medgemma_cli.readers:media_type",
    "medgemma_cli.templates:render",
    "medgemma_cli.templates:check_accepts",
    "medgemma_cli.safety.verdict:judge",
    "medgemma_cli.recording:make_record",
    "medgemma_cli.summaries:render",
    "medgemma_cli.pages:page",
    "medgemma_cli.summaries:output_name",
    "medgemma_cli.planning:Planner.decide",
    "medgemma_cli.identity:document_key",
    "medgemma_cli.discover:printable",
    "medgemma_cli.ledger:Ledger.append",
    "medgemma_cli.files:write_all",
    "medgemma_cli.files:replace_file",
    "medgemma_cli.progress:PlainReporter.document",
    "medgemma_cli.commands.report:final_line",
    "os:fstat",
    "os:replace",
    "os:fsync",
    "hashlib:sha256",
]
_ERRORS = [
    "ValueError",
    "OSError",
    "KeyError",
    "UnicodeDecodeError",
    "Panic",
    "ValidationError",
    "RecursionError",
    "MemoryError",
    "Chained",
    "JSONDecodeError",
    "PermissionError",
    "UndefinedError",
    "ExceptionGroup",
    "SystemExit",
    "NoRoom",
    "AssertionError",
    "StopIteration",
]
_REMARKS = ["warning", "log", "thread", "finaliser"]


def failing(house: House, cases: list[tuple[str, str, str]]) -> list[Done]:
    """Run (args, place, error) one after the other; each place is met, and its code is of ours."""
    hit = house.root / "hit"
    hit.mkdir()
    commands = []
    for args, place, error in cases:
        env = {"PLACE": place, "ERROR": error, "HIT": str(hit), "SAID": f"{TEXT} of {NAME}.md"}
        commands.append(" ".join(f"{k}='{v}'" for k, v in env.items()) + " " + args)
    done = house.several(*commands, script=_FAULTY)
    never = {place for _, place, _ in cases} - {path.name for path in hit.iterdir()}
    assert never == set(), "was never called"
    for one, (_, place, error) in zip(done, cases, strict=True):
        codes = (0, 3, 4) if error in _REMARKS else (0, 1, 3, 69, 73, 74)
        assert one.code in codes, (place, error, one.told)
        assert one.code != 1 or b"medgemma: " in one.stderr, (place, error)
    return done


def write_two(house: House) -> None:
    """A document that goes all the way, and one that is refused."""
    house.put(f"in/{NAME}.md", f"{TEXT} slept well.\n")
    house.put(f"in/{NAME}-empty.md", "")


def test_exceptions_in_a_run(house: House) -> None:
    """Fault 95: an exception that quotes its input, anywhere on the way, is not quoted."""
    write_two(house)
    args = f"run in -o out --force --question {TEXT} {ECHO}"
    house.run(args)
    cases = [(args, place, _ERRORS[i % len(_ERRORS)]) for i, place in enumerate(_PLACES)]
    for done in failing(house, cases):
        check_streams(done)
    assert house.traces() == []


def test_every_exception(house: House) -> None:
    """Every kind of exception and remark, at the one place where text is at hand."""
    write_two(house)
    place = "medgemma_cli.templates:render"
    cases = [(f"ask Who? -f in/{NAME}.md {ECHO}", place, error) for error in _ERRORS + _REMARKS]
    for done in failing(house, cases):
        check_streams(done, stdout=(NAME,))
    assert house.traces() == []


_ELSEWHERE = [
    ("check a.md a.md", "medgemma_cli.safety.grounding:check", "Panic"),
    ("check a.md a.md", "medgemma_cli.safety.grounding:check", "RecursionError"),
    ("check --jsonl a.jsonl", "medgemma_cli.safety.grounding:check", "log"),
    (f"plan a.md -o out --force {ECHO}", "medgemma_cli.templates:render", "ValidationError"),
    (f"plan a.md -o out {ECHO}", "medgemma_cli.forecast:foresee", "warning"),
    (f"run a.md -o out --dry-run {ECHO}", "medgemma_cli.planning:Planner.decide", "Panic"),
    ("status out", "medgemma_cli.ledger:current_lines", "ValidationError"),
    ("status out --failed", "medgemma_cli.ledger:current_lines", "thread"),
    ("templates", "medgemma_cli.templates:load", "UndefinedError"),
    ("templates show ./own.md", "medgemma_cli.templates:load", "MemoryError"),
    ("doctor --model nobody/nothing", "medgemma_cli.models:resolve", "Chained"),
    ("rules", "medgemma_cli.safety.rulebook:listed", "ValueError"),
    ("verify out", "medgemma_cli.readers:media_type", "KeyError"),
    ("verify out", "medgemma_cli.readers:load", "Panic"),
    ("verify out --repair", "medgemma_cli.summaries:render", "ValidationError"),
    (f"ask What? -f a.md -o out {ECHO}", "medgemma_cli.ledger:Ledger.append", "NoRoom"),
    (f"ask What? -f a.md {ECHO}", "medgemma_cli.asking:join", "PermissionError"),
    (f"ask What? -f a.md {ECHO}", "medgemma_cli.engines.echo:EchoEngine.stream", "Panic"),
    (f"ask What? -f a.md {ECHO}", "medgemma_cli.safety.verdict:judge", "finaliser"),
]


def test_exceptions_elsewhere(house: House) -> None:
    """The same for every other command."""
    house.put("a.md", f"{TEXT} slept well.\n")
    house.put("own.md", f"---\nname: own\n---\n{TEXT}{{{{ document.text }}}}\n")
    house.put("a.jsonl", json.dumps({"id": 1, "source": TEXT, "output": TEXT}))
    house.run(f"run a.md -o out {ECHO}")
    for done in failing(house, _ELSEWHERE):
        check_streams(done, stdout=(NAME,))
    assert house.traces() == []


def test_debug_shows_all(house: House) -> None:
    """With `--debug` the traceback is there, and what libraries say."""
    write_two(house)
    place = "medgemma_cli.templates:render"
    args = f"--debug run in -o out --force {ECHO}"
    for done in failing(house, [(args, place, error) for error in ["ValueError", *_REMARKS]]):
        assert TEXT in done.told
