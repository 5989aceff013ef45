"""Whether a document is long is known once it is read; only then its key says what is done."""

from pathlib import Path
from typing import Any

import pytest
from long_kit import Line, Watched, execute, long, note, prompt_of

from medgemma_cli import identity
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.longdocs import parts_of, rule_of
from medgemma_cli.records import Limits

_TEXTS = {"long.md": note(60), "short.md": "Slept well tonight. No pain was reported today."}


def _way(engine: EchoEngine, way: str) -> Any:
    return engine if way == "fail" else long(engine, way)


def _run(tmp_path: Path, way: str, texts: dict[str, str] = _TEXTS) -> tuple[dict[str, Line], int]:
    engine = Watched()
    records, _ = execute(tmp_path, texts, _way(engine, way))
    return records, len(engine.shown)


def test_a_short_documents_key_is_what_it_was(tmp_path: Path) -> None:
    """Of a ledger from before there was `--on-long`: what fitted stands, what did not is read."""
    before, _ = _run(tmp_path, "fail")
    assert before["long.md"]["error"]["code"] == "too_long"
    after, asked = _run(tmp_path, "split")
    assert after["short.md"]["created"] == before["short.md"]["created"]
    assert after["long.md"]["error"] is None and asked > 2
    assert after["long.md"]["key"] != before["long.md"]["key"]


def test_limits_that_are_not_set_are_not_in_the_key() -> None:
    """As before there was such a limit."""
    settings: dict[str, Any] = {"template_hash": "t", "question": None, "model": {}}
    plain = identity.settings_digest(limits=Limits(), **settings)
    generation = {
        "max_new_tokens": 700,
        "min_new_tokens": 0,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 0,
    }
    asked = {"schema": "medgemma.record/1", "template": "t", "question": None, "model": {}}
    assert plain == identity.digest({**asked, "generation": generation})
    assert plain != identity.settings_digest(limits=Limits(max_input_tokens=9), **settings)


def test_another_way_is_other_work_for_long_documents_alone(tmp_path: Path) -> None:
    """And going back to an earlier way takes its record up again, without the model."""
    split, _ = _run(tmp_path, "split")
    head, asked = _run(tmp_path, "head")
    assert asked == 1 and head["long.md"]["key"] != split["long.md"]["key"]
    assert head["short.md"] == split["short.md"]
    back, asked = _run(tmp_path, "split")
    assert asked == 0 and back["long.md"]["reused"]
    assert back["long.md"]["output"] == split["long.md"]["output"]
    again, asked = _run(tmp_path, "split")
    assert asked == 0 and again == back


def test_fail_after_split(tmp_path: Path) -> None:
    """An answer that was made of parts is not what `fail` wants."""
    _run(tmp_path, "split")
    failed, asked = _run(tmp_path, "fail")
    assert failed["long.md"]["error"]["code"] == "too_long" and asked == 0


def test_what_cannot_be_split_is_refused_once(tmp_path: Path) -> None:
    """A prompt whose own words fill the window: nothing is tried again at the next run."""
    text = {"a.md": "Slept well. " * 500}
    first, _ = execute(tmp_path, text, long(EchoEngine()), tokens=20)
    assert first["a.md"]["error"]["code"] == "too_long"
    second, totals = execute(tmp_path, text, long(EchoEngine()), tokens=20)
    assert second == first and totals.cached == 1
    assert len((tmp_path / "out" / "records.jsonl").read_text().splitlines()) == 1


def test_the_same_long_text_twice_is_read_once(tmp_path: Path) -> None:
    """Two records, one of them a copy; a third file with it, later, too."""
    text = note(60)
    records, asked = _run(tmp_path, "split", {"a.md": text, "b.md": text})
    (tmp_path / "alone").mkdir()
    _, once = _run(tmp_path / "alone", "split", {"a.md": text})
    assert asked == once and records["b.md"]["duplicate_of"] == "a.md"
    assert records["a.md"]["key"] == records["b.md"]["key"]
    later, asked = _run(tmp_path, "split", {"c.md": text})
    assert asked == 0 and later["c.md"]["duplicate_of"]


def test_a_failed_long_document_is_not_tried_unasked(tmp_path: Path) -> None:
    """As any other; its failure is under the key of a long one."""
    engine = Watched("/2")
    first, _ = execute(tmp_path, {"a.md": note(60)}, long(engine))
    assert first["a.md"]["error"]["code"] == "oom"
    second, totals = execute(tmp_path, {"a.md": note(60)}, long(EchoEngine()))
    assert second == first and totals.cached == 1


@pytest.mark.parametrize("way", ["split", "head"])
def test_the_rule_is_of_the_way(way: str) -> None:
    """An engine that takes no long documents has none; its identity is the same."""
    engine = EchoEngine()
    assert long(engine, way).identity == engine.identity
    rule = rule_of(long(engine, way))
    assert rule is not None and rule["on_long"] == way
    assert ("merge" in rule) is (way == "split")
    assert rule_of(engine) is None and parts_of(engine, prompt_of(note(60))) == []


def test_keys_of_long_documents() -> None:
    """Made of the plain key and the rule; none without a rule."""
    made = {identity.long_key("a" * 64, {"on_long": way}) for way in ("split", "head")}
    assert len(made) == 2 and None not in made
    assert identity.long_key("a" * 64, None) is None
