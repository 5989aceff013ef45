"""Guessing from the prompt saves passes and changes nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import MakeEngine, prompt

from medgemma_cli import contracts
from medgemma_cli.engines import decode
from medgemma_cli.engines.local import LocalEngine
from medgemma_cli.engines.lookup import Lookup
from medgemma_cli.records import Generation, Limits, Prompt

torch = pytest.importorskip("torch")

NOTE = "Dry cough since Monday, worse at night. No fever. Takes 5 mg of ramipril. "


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are no work for several threads, which would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def naive(ids: list[int], count: int) -> list[int]:
    """What followed the last few the last time, longest first, by looking through it all."""
    for size in (3, 2):
        for end in range(len(ids) - 1, size - 1, -1):
            if len(ids) >= size and ids[end - size : end] == ids[-size:]:
                return ids[end : end + count]
    return []


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 40), st.integers(0, 8))
def test_guesses_are_what_followed_before(ids: list[int], cut: int, count: int) -> None:
    """Of three tokens or else of two, the latest place; the same however the text came."""
    lookup = Lookup(ids[:cut])
    lookup.add(ids[cut:])
    assert len(lookup) == len(ids)
    assert lookup.guess(count) == naive(ids, count)


def test_nothing_is_guessed_of_new_words() -> None:
    """No guess, no wider pass."""
    assert Lookup([]).guess(7) == Lookup([1]).guess(7) == Lookup([1, 2, 3]).guess(7) == []


def asked(tokens: int = 60) -> list[Prompt]:
    """Free texts of documents that say the same again and again, of many lengths."""
    texts = [NOTE * times + "Left knee swollen. " * (i % 3) for i, times in enumerate((1, 3, 7))]
    texts += ["5 mg " * 40, "x", "No fever no fever no cough no fever. " * 9]
    return [prompt(str(i), text, tokens=tokens) for i, text in enumerate(texts)]


def quoting(tokens: int = 220) -> list[Prompt]:
    """Answers that must quote the document."""
    contract = contracts.contract({"f": ["finding"], "a": "yes | no", "t": "text(30)"})
    limits = Limits(max_new_tokens=tokens)
    made = [prompt(f"q{i}", NOTE * (i + 1)) for i in range(3)]
    return [one.model_copy(update={"contract": contract, "limits": limits}) for one in made]


def answered(engine: LocalEngine, prompts: list[Prompt]) -> tuple[list[Generation], list[int], Any]:
    """What comes out, one document at a time; passes and tokens of each."""
    made, passes = [], []
    for one in prompts:
        before = engine.timing.passes
        made += list(engine.generate([one]))
        passes.append(engine.timing.passes - before)
    return made, passes, engine.timing.new_tokens


@pytest.mark.parametrize("make", [asked, quoting])
def test_guesses_change_nothing_and_save_passes(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    """The same answers, token for token in fp32, quotes and choices among them; fewer passes."""
    prompts = make()
    with_guesses, fewer, shown = answered(make_engine(batch_size=1), prompts)
    monkeypatch.setattr(decode, "_GUESSED", 0)
    without, more, all_shown = answered(make_engine(batch_size=1), prompts)
    for mine, plain in zip(with_guesses, without, strict=True):
        assert plain.error is None
        assert (mine.text, mine.usage, mine.finish_reason) == (
            plain.text,
            plain.usage,
            plain.finish_reason,
        )
        assert [end for end, _ in mine.tokens] == [end for end, _ in plain.tokens]
        logs = [log for _, log in plain.tokens]
        assert [log for _, log in mine.tokens] == pytest.approx(logs, abs=1e-3)
        for one, other in zip(mine.choices, plain.choices, strict=True):
            assert one.options == pytest.approx(other.options, abs=1e-4)
    assert all(mine <= plain for mine, plain in zip(fewer, more, strict=True))
    assert any(mine < plain for mine, plain in zip(fewer, more, strict=True))
    # A wrong guess is not counted as a token.
    assert abs(shown - all_shown) <= len(prompts)


def test_guesses_stay_within_the_budget(make_engine: MakeEngine) -> None:
    """Right guesses at the end of the budget do not write more than was allowed."""
    engine = make_engine(batch_size=1)
    for tokens in range(1, 30):
        (made,) = engine.generate([prompt("x", "5 mg " * 40, tokens=tokens)])
        assert made.usage.completion_tokens <= tokens


@pytest.mark.parametrize("count", [1, 20, 38])
def test_any_number_of_guesses_is_exact(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """As many at once as the spare slots hold: wrong ones never displace what is still seen."""
    prompts = asked(40)
    monkeypatch.setattr(decode, "_GUESSED", count)
    made = [g.text for g in make_engine(batch_size=1).generate(prompts)]
    monkeypatch.setattr(decode, "_GUESSED", 0)
    assert made == [g.text for g in make_engine(batch_size=1).generate(prompts)]


def test_wrong_guesses_change_nothing(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guesses that are always wrong: written over, at every length around the ring."""
    prompts = asked(40)
    monkeypatch.setattr(decode, "_GUESSED", 0)
    expected = [g.text for g in make_engine(batch_size=1).generate(prompts)]
    monkeypatch.setattr(Lookup, "guess", lambda self, count: [7, 8, 9, 7, 8, 9, 7])
    got = [g.text for g in make_engine(batch_size=1).generate(prompts)]
    assert got == expected


def test_samples_are_never_guessed(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a temperature the next token is drawn: no lookup is even made."""

    def refuse(ids: list[int]) -> Lookup:
        raise AssertionError("a lookup was made")

    monkeypatch.setattr(decode, "Lookup", refuse)
    one = asked(20)[1]
    limits = one.limits.model_copy(update={"temperature": 0.7})
    engine = make_engine(batch_size=1)
    (made,) = engine.generate([one.model_copy(update={"limits": limits})])
    assert made.error is None
    # The last token is not shown.
    assert engine.timing.passes == made.usage.completion_tokens - 1


def test_lines_with_neighbours_do_not_guess(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guesses are for a line that is alone: with others, a wider pass costs more."""
    widths: list[tuple[int, int]] = []
    engine = make_engine(batch_size=3)

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        widths.append(tuple(kwargs["input_ids"].shape))

    engine.loaded().model.get_decoder().register_forward_pre_hook(hook, with_kwargs=True)
    assert len(list(engine.generate(asked(20)[:3]))) == 3
    assert all(width == 1 for lines, width in widths[1:] if lines > 1)
