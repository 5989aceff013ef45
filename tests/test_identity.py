"""Keys: the same question has the same key, another question another, and nothing else counts."""

import hashlib
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgemma_cli import templates
from medgemma_cli.identity import digest, document_key, settings_digest, unread_key
from medgemma_cli.job import Job
from medgemma_cli.readers import ReadLimits
from medgemma_cli.records import RECORD_SCHEMA, Limits

MODEL: dict[str, Any] = {
    "engine": "local",
    "weights": "a" * 64,
    "tokenizer": "b" * 64,
    "adapter": None,
    "precision": "auto",
}
OTHER_LIMITS: dict[str, Any] = {
    "max_new_tokens": 701,
    "min_new_tokens": 1,
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 1,
    "max_input_tokens": 900,
}
OTHER_READ_LIMITS: dict[str, Any] = {
    "max_bytes": 1,
    "max_pixels": 1,
    "encoding": "cp1252",
    "max_pages": 1,
    "max_slide_bytes": 1,
    "seed": 1,
}


def settings_of(**changes: Any) -> str:
    """The digest of a run's settings, with changes."""
    plain: dict[str, Any] = {
        "template_hash": "t" * 64,
        "question": None,
        "model": MODEL,
        "limits": Limits(),
    }
    return settings_digest(**(plain | changes))


def document_of(**changes: Any) -> str:
    """The key of a document that was read, with changes."""
    plain: dict[str, Any] = {
        "settings": "s" * 64,
        "sha256": "d" * 64,
        "reader": "text/1",
        "limits": tuple(ReadLimits()),
    }
    return document_key(**(plain | changes))


def unread_of(**changes: Any) -> str:
    """The key of a document that was not read, with changes."""
    plain: dict[str, Any] = {
        "settings": "s" * 64,
        "path": "/in/a.md",
        "size": 5,
        "mtime_ns": 7,
        "limits": tuple(ReadLimits()),
    }
    return unread_key(**(plain | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"template_hash": "u" * 64},
        {"question": ""},
        {"question": "Is there a fracture?"},
        *[{"model": MODEL | {name: "other"}} for name in MODEL],
        {"model": MODEL | {"quantised": True}},
    ],
    ids=str,
)
def test_every_setting_changes_the_key(changes: dict[str, Any]) -> None:
    """Template, question, engine, weights, tokenizer, adapter and precision asked for all count."""
    assert settings_of(**changes) != settings_of()


@pytest.mark.parametrize("name", sorted(Limits.model_fields))
def test_every_generation_setting_changes_the_key(name: str) -> None:
    """All of `Limits` counts, also a field added later."""
    assert settings_of(limits=Limits(**{name: OTHER_LIMITS[name]})) != settings_of()


@pytest.mark.parametrize(
    "changes",
    [{"settings": "x" * 64}, {"sha256": "e" * 64}, {"reader": "text/2"}],
    ids=str,
)
def test_every_ingredient_changes_a_document_key(changes: dict[str, Any]) -> None:
    """The settings, the bytes and the reader's version count."""
    assert document_of(**changes) != document_of()


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": "x" * 64},
        {"path": "/in/b.md"},
        {"size": 6},
        {"size": None},
        {"mtime_ns": 8},
        {"mtime_ns": None},
    ],
    ids=str,
)
def test_every_ingredient_changes_an_unread_key(changes: dict[str, Any]) -> None:
    """A file that was not read is known by path, size and time of change."""
    assert unread_of(**changes) != unread_of()


@pytest.mark.parametrize("name", ReadLimits._fields)
@pytest.mark.parametrize("key_of", [document_of, unread_of])
def test_every_read_limit_changes_the_key(key_of: Any, name: str) -> None:
    """All of `ReadLimits` counts for files read and not read, also a field added later."""
    other = ReadLimits(**{name: OTHER_READ_LIMITS[name]})
    assert key_of(limits=tuple(other)) != key_of()


def test_the_schema_of_records_is_part_of_the_settings() -> None:
    """The digest is that of canonical JSON with the record schema in it."""
    value = {
        "schema": RECORD_SCHEMA,
        "template": "t" * 64,
        "question": None,
        "model": MODEL,
        "generation": Limits().model_dump(exclude_none=True),
    }
    assert settings_of() == digest(value)
    assert settings_of() != digest(value | {"schema": "medgemma.record/2"})


def test_the_order_in_which_a_model_is_described_does_not_count() -> None:
    """Names are sorted: the same facts in another order are the same key."""
    backwards = dict(reversed(MODEL.items()))
    assert list(backwards) != list(MODEL)
    assert settings_of(model=backwards) == settings_of()


def test_whole_and_decimal_numbers_of_a_setting_are_the_same() -> None:
    """A temperature of 0 and of 0.0 ask the same."""
    assert settings_of(limits=Limits(temperature=0)) == settings_of(limits=Limits(temperature=0.0))


def test_what_only_steers_the_run_does_not_count() -> None:
    """Forcing, retrying, the budget of attempts and fsync ask nothing else of a document."""
    template = templates.load(str(templates.packaged_folder() / "summarize.md"))
    plain = Job(template=template, limits=Limits())
    steered = Job(
        template=template,
        limits=Limits(),
        force=True,
        retry_failed=True,
        max_attempts=9,
        fsync=False,
    )
    assert steered.settings(MODEL) == plain.settings(MODEL)


def test_the_place_of_a_template_does_not_count(tmp_path: Path) -> None:
    """The same template from another folder is the same question; one more word is another."""
    original = templates.packaged_folder() / "summarize.md"
    for folder, more in (("same", ""), ("other", "\nBe brief.\n")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / original.name
        path.write_text(original.read_text() + more)
    jobs = [
        Job(template=templates.load(str(path)), limits=Limits()).settings(MODEL)
        for path in (
            original,
            tmp_path / "same" / original.name,
            tmp_path / "other" / original.name,
        )
    ]
    assert jobs[0] == jobs[1] != jobs[2]


def test_read_and_unread_keys_never_meet() -> None:
    """A file that was not read has a key that no bytes can have."""
    limits = tuple(ReadLimits())
    assert document_key("s", "unread", "text/1", limits) != unread_key(
        "s", "text/1", None, None, limits
    )


def test_a_digest_is_the_hash_of_canonical_json() -> None:
    """Sorted names, no spaces, ASCII: the same at every run and on every machine."""
    expected = hashlib.sha256(b'{"a":["\\u00e9",null],"b":1.5}').hexdigest()
    assert digest({"b": 1.5, "a": ["é", None]}) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_hold_has_no_digest(value: float) -> None:
    """NaN is refused, not written as a word that no JSON reader takes."""
    with pytest.raises(ValueError, match="JSON"):
        digest({"temperature": value})


PLAIN = st.none() | st.booleans() | st.integers() | st.text()


@given(st.lists(PLAIN, max_size=3), st.lists(PLAIN, max_size=3))
def test_different_lists_have_different_digests(one: list[Any], two: list[Any]) -> None:
    """No two values run into each other, however they are split."""
    alike = len(one) == len(two) and all(
        type(a) is type(b) and a == b for a, b in itertools.zip_longest(one, two)
    )
    assert (digest(one) == digest(two)) == alike
