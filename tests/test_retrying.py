"""Refused answers are asked for again, with the reason, and come back once."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
import tiny

from medgemma_cli import contracts, models
from medgemma_cli.engines.base import Engine, always, unwatched
from medgemma_cli.engines.local import LocalEngine, LocalOptions
from medgemma_cli.records import Generation, Limits, Message, ModelInfo, Part, Prompt, Usage
from medgemma_cli.retrying import Retrying, fault

NOTE = "BP 160/95 mmHg, seen by the nurse. No fever today."
BLOCK: dict[str, Any] = {"f": "finding", "level": "low | high"}
GOOD = {"f": {"quote": "BP 160/95 mmHg", "statement": "BP is raised"}, "level": "high"}
INVENTED = {"f": {"quote": "BP 190/95 mmHg", "statement": "BP is raised"}, "level": "high"}
SECRET = "Zebra Smith, 12 Elm Street"


class Scripted:
    """An engine that says what it is told to, an answer a call."""

    info = ModelInfo(id="scripted", engine="scripted")
    window = 10_000
    reads_images = True
    constrains = False

    def __init__(self, answers: dict[str, list[Any]], batch: int = 1) -> None:
        self._answers = {name: iter(texts) for name, texts in answers.items()}
        self._batch = batch
        self.identity: dict[str, Any] = {"engine": "scripted"}
        self.seen: list[Prompt] = []

    def count(self, prompt: Prompt) -> int:
        """Words."""
        return sum(len(part.text.split()) for m in prompt.messages for part in m.parts)

    def generate(
        self,
        prompts: Iterable[Prompt],
        keep_going: Callable[[], bool] = always,
        begin: Callable[[Sequence[str]], None] = unwatched,
    ) -> Iterator[Generation]:
        """Batches in order."""
        stream = iter(prompts)
        while keep_going():
            batch = list(itertools.islice(stream, self._batch))
            if not batch:
                return
            self.seen += batch
            yield from [self._answer(prompt) for prompt in batch]

    def stream(self, prompt: Prompt) -> Iterator[str | Generation]:
        """In one piece."""
        generation = next(self.generate([prompt]))
        yield generation.text
        yield generation

    def _answer(self, prompt: Prompt) -> Generation:
        said = next(self._answers[prompt.id])
        if isinstance(said, Generation):
            return said
        text = said if isinstance(said, str) else json.dumps(said)
        usage = Usage(prompt_tokens=self.count(prompt), completion_tokens=7, images=1)
        return Generation(id=prompt.id, text=text, usage=usage, seconds=0.5, degraded=("note",))


def ask(name: str, block: Any = None, text: str = NOTE) -> Prompt:
    """A prompt for a contract."""
    contract = contracts.contract(block or BLOCK)
    return tiny.prompt(name, text).model_copy(update={"contract": contract})


def run(engine: Scripted, prompts: Iterable[Prompt], attempts: int = 3) -> dict[str, Generation]:
    """The generations, each of which may come once only."""
    kept = list(Retrying(engine, attempts).generate(prompts))
    found = {generation.id: generation for generation in kept}
    assert len(found) == len(kept)
    return found


def test_it_is_an_engine() -> None:
    """The protocol's attributes are the engine's own; attempts are part of the identity."""
    made: Engine = Retrying(Scripted({}), 2)
    assert made.identity == {"engine": "scripted", "attempts": 2}
    assert (made.window, made.reads_images, made.constrains) == (10_000, True, False)
    assert made.info.id == "scripted"
    assert made.count(ask("x")) > 5


def test_a_good_answer_is_asked_for_once() -> None:
    """Nothing is added to it."""
    engine = Scripted({"a": [GOOD]})
    answer = run(engine, [ask("a")])["a"]
    assert answer.attempts == 1 and answer.degraded == ("note",)
    assert len(engine.seen) == 1


def test_the_second_attempt_is_kept() -> None:
    """Usage and seconds add up; `degraded` says how many attempts."""
    engine = Scripted({"a": ["Sure! Here it is.", GOOD]})
    answer = run(engine, [ask("a")])["a"]
    first, second = engine.seen
    assert json.loads(answer.text) == GOOD
    assert answer.attempts == 2
    assert answer.degraded == ("note", "attempts:2")
    assert answer.usage.completion_tokens == 14
    assert answer.usage.prompt_tokens == engine.count(first) + engine.count(second)
    assert answer.usage.images == 1
    assert answer.seconds == 1.0


def test_the_error_is_named_and_the_answer_is_data() -> None:
    """The refused answer is in the follow-up as a document part; the reason has no word of it."""
    refused = f"no JSON: {SECRET} <end_of_turn>"
    engine = Scripted({"a": [refused, GOOD]})
    run(engine, [ask("a")])
    first, second = engine.seen
    assert second.messages[: len(first.messages)] == first.messages
    answer, request = second.messages[len(first.messages) :]
    assert (answer.role, request.role) == ("assistant", "user")
    assert [(part.kind, part.text) for part in answer.parts] == [("document", refused)]
    assert first.contract.json_schema in request.parts[0].text
    assert "Zebra" not in request.parts[0].text
    assert second.document == first.document == NOTE


def test_an_invented_quote_is_refused() -> None:
    """By its path; the quote itself is not repeated as an instruction."""
    assert "f" in str(fault(ask("a"), Generation(id="a", text=json.dumps(INVENTED))))
    engine = Scripted({"a": [INVENTED, GOOD]})
    assert json.loads(run(engine, [ask("a")])["a"].text) == GOOD
    request = engine.seen[1].messages[-1].parts[0].text
    assert "do not stand in the document: f." in request
    assert "190" not in request


def test_it_gives_up() -> None:
    """The best answer is handed on as it is: one with an invented quote is better than none."""
    answer = run(Scripted({"a": ["one", INVENTED, "three", GOOD]}), [ask("a")])["a"]
    assert (json.loads(answer.text), answer.attempts) == (INVENTED, 3)
    assert answer.degraded == ("note", "attempts:3")
    assert answer.usage.completion_tokens == 21


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_in_all(attempts: int) -> None:
    """One attempt is no second."""
    engine = Scripted({"a": ["no"] * 9})
    assert run(engine, [ask("a")], attempts)["a"].attempts == attempts
    assert len(engine.seen) == attempts


def test_errors_and_free_texts_are_not_asked_again() -> None:
    """An engine's own error is no answer to refuse."""
    failed = Generation(id="a", finish_reason="error", error="oom")
    engine = Scripted({"a": [failed], "b": ["anything"]})
    got = run(engine, [ask("a"), ask("b", "text")])
    assert got["a"] == failed and got["b"].attempts == 1


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_every_id_comes_back_once(batch: int) -> None:
    """Refusals mixed with good answers, in batches."""
    answers = {str(i): ["no"] * (i % 4) + [GOOD] * 3 for i in range(11)}
    got = run(Scripted(answers, batch), [ask(name) for name in answers])
    assert {name: generation.attempts for name, generation in got.items()} == {
        name: min(i % 4 + 1, 3) for i, name in enumerate(answers)
    }


def test_refused_answers_do_not_pile_up() -> None:
    """It takes a prompt when one is wanted, and asks again between the others."""
    taken: list[str] = []

    def prompts() -> Iterator[Prompt]:
        for i in range(50):
            taken.append(str(i))
            yield ask(str(i))

    engine = Scripted({str(i): ["no", GOOD] for i in range(50)}, 2)
    stream = Retrying(engine, 2).generate(prompts())
    assert taken == []
    next(stream)
    assert len(taken) <= 4
    assert len(list(stream)) == 49


def test_keep_going_ends_it() -> None:
    """After a no nothing more is asked for, refused answers neither."""
    engine = Scripted({str(i): ["no", GOOD] for i in range(5)})
    left = iter([True, True])
    got = list(Retrying(engine, 2).generate(map(ask, "01234"), lambda: next(left, False)))
    assert len(engine.seen) == 2
    assert len(got) <= 1


def test_stream_shows_the_kept_answer_alone() -> None:
    """A refused text is not shown first."""
    *pieces, last = Retrying(Scripted({"a": ["no", GOOD]}), 2).stream(ask("a"))
    assert isinstance(last, Generation)
    assert pieces == [last.text] == [json.dumps(GOOD)]


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], LocalEngine]:
    """Makes local engines on a tiny checkpoint, without grammars."""
    folder = tiny.build(tmp_path_factory.mktemp("free"))
    options = LocalOptions(precision="fp32", device="cpu", batch_size=2, grammar=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGEMMA_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = models.resolve(str(folder))
        assert found.fingerprint
    return lambda: LocalEngine(found, options)


def _small(name: str) -> Prompt:
    return ask(name).model_copy(update={"limits": Limits(max_new_tokens=12)})


def test_a_real_engine_without_grammar(free: Callable[[], LocalEngine]) -> None:
    """Random weights write no JSON: twice asked, both times counted, the first answer shown."""
    engine = free()
    got = list(Retrying(engine, 2).generate([_small("a"), _small("b")]))
    assert {generation.id for generation in got} == {"a", "b"}
    for generation in got:
        assert generation.error is None
        assert generation.attempts == 2 and "attempts:2" in generation.degraded
        assert generation.usage.prompt_tokens > 2 * engine.count(_small("a"))


# -- faults found -------------------------------------------------------------------------------


def test_the_third_attempt_is_another_prompt(free: Callable[[], LocalEngine]) -> None:
    """It names the second answer; what the model is shown must not be the first again."""
    engine = free()
    first = _small("a")
    base = first.messages
    shown = []
    for refused in ("one refused answer", "another, quite different"):
        part = Part(kind="document", text=refused)
        more = (
            Message(role="assistant", parts=(part,)),
            Message(role="user", parts=(Part(kind="text", text="Again."),)),
        )
        shown.append(engine._encode(first.model_copy(update={"messages": (*base, *more)})).ids)
    assert shown[0] != shown[1]


@pytest.mark.parametrize("block", [{"q": "quote | none"}, {"q": ["quote | none", "0..3"]}], ids=str)
def test_an_invented_quote_in_a_union_is_refused(block: dict[str, Any]) -> None:
    """A field that may be a quote or a word is a quote where it is not the word."""
    value = "words that nobody wrote"
    text = json.dumps({"q": [value] if isinstance(block["q"], list) else value})
    assert fault(ask("a", block), Generation(id="a", text=text))
