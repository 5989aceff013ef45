"""An answer with room enough is never cut inside its JSON, and closing invents nothing.

A driver stands in for the model: it takes the same steps as `Decoding`, with random numbers for
logits, so that hundreds of budgets cost seconds. The last tests are of the engine itself.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tiny
from tiny import MakeEngine

from medgemma_cli import contracts, decoding, quoting
from medgemma_cli.engines.grammar import Compiler, _crossing
from medgemma_cli.engines.plan import Plan
from medgemma_cli.engines.writing import JsonAnswer, repeats
from medgemma_cli.records import Contract, Limits, Prompt

Block = dict[str, Any]
Taste = Callable[[bytes], float]

NOTE = "BP 120 / 80 today, seen by the practice nurse. No fever, no chest pain. Return in 2/52."
_CHOOSE = random.Random(5)
_LONG = " ".join("".join(_CHOOSE.choices("abcdefghij", k=20)) for _ in range(5))
LONG = f"Seen by nurse today. Then {_LONG} again. No fever at all."
_RARE = " ".join("".join(_CHOOSE.choices("ǽƜɣʭϡжщ", k=30)) for _ in range(4))
RARE = f"Seen by nurse today. Then {_RARE} again. No fever at all."
_JSON = [
    '","',
    '":"',
    '":["',
    '":[],"',
    '"},{"',
    '":{"',
    '"}',
    '"]',
    '":[{"',
    '["',
    '",',
    '"],',
    '"}],"',
]


class Written(NamedTuple):
    """What the driver made the answer write."""

    answer: JsonAnswer
    text: str
    contract: Contract


class Driver:
    """Writes answers with one tokenizer, without a model."""

    def __init__(self, tokenizer: Any) -> None:
        self.compiler = Compiler(tokenizer, len(tokenizer), [tokenizer.eos_token_id])

    def write(
        self, block: Block, document: str, budget: int, seed: int, taste: Taste | None = None
    ) -> Written:
        """One answer; `taste` says what to add to the logit of a token's text."""
        contract = contracts.contract(block, quotable=quoting.is_quotable(document))
        matcher = self.compiler.matcher(contract.json_schema, document)
        plan = Plan(contract.json_schema, self.compiler)
        limits = Limits(max_new_tokens=budget)
        answer = JsonAnswer(limits, [1], self.compiler, matcher, plan)
        model = np.random.default_rng(seed)
        liked = self._liked(taste)
        while not answer.done:
            if answer.close():
                continue
            if options := answer.options():
                shares = model.dirichlet(np.ones(len(options)))
                shares = np.sort(shares) if taste else shares
                tokens = [self.compiler.tokens(option) for option in options]
                answer.choose(tokens, np.log(shares).tolist())
                continue
            mask = self.compiler.bits([(answer.matcher, 0)], 1)[0].copy()
            answer.restrict(mask)
            logits = np.where(mask == 1, model.normal(size=len(mask)) + liked, -np.inf)
            assert mask.any()
            answer.take(int(logits.argmax()), 0.0)
        written = b"".join(map(self.compiler.bytes, answer.ids)).decode("utf-8", "replace")
        return Written(answer, written, contract)

    def _liked(self, taste: Taste | None) -> Any:
        if taste is None:
            return 0.0
        return np.array([taste(self.compiler.bytes(t)) for t in range(self.compiler.width)])


@pytest.fixture(scope="module")
def plain() -> Driver:
    """The tiny tokenizer: next to no tokens of JSON punctuation."""
    return Driver(tiny._tokenizer())


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """A tokenizer that knows JSON, as Gemma's does: `":["`, `["`, `":[],"` are tokens."""
    folder = tmp_path_factory.mktemp("json")
    choose = random.Random(1)
    words = ["".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=5)) for _ in range(900)]
    lines = (
        choose.choice(words) + choose.choice(_JSON) + choose.choice(words) for _ in range(5000)
    )
    (folder / "json.txt").write_text(" ".join(lines), "utf-8")
    for path in tiny.NOTES.rglob("*.*"):
        (folder / path.name).write_bytes(path.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "NOTES", folder)
        tokenizer = tiny._tokenizer()
    return Driver(tokenizer)  # the patch is gone: no other test's checkpoint is made with it


def test_what_closes_a_string(plain: Driver, fused: Driver) -> None:
    """Every token that begins with the mark; one that has it further on is none of them."""
    mark = plain.compiler.tokens('"')[0]
    assert plain.compiler.endings(mark) == [mark]
    mark = fused.compiler.tokens('"')[0]
    ends = {fused.compiler.bytes(token) for token in fused.compiler.endings(mark)}
    assert {b'"', b'",'} <= ends and all(end.startswith(b'"') for end in ends)
    assert fused.compiler.tokens('":["')[0] in fused.compiler.endings(mark)


def test_ways_to_cut_an_option(plain: Driver, tmp_path: Path) -> None:
    """One, where the mark stands by itself; where it is joined to a bracket, without that, too."""
    assert plain.compiler.ways('(b)"') == [plain.compiler.tokens('(b)"')]
    choose = random.Random(1)
    words = ("".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=5)) for _ in range(2000))
    (tmp_path / "marks.txt").write_text("".join(f'{word}(b)"' for word in words), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "NOTES", tmp_path)
        compiler = Driver(tiny._tokenizer()).compiler
    joined, apart = compiler.ways('(b)"')
    assert compiler.bytes(joined[-1]).endswith(b')"') and compiler.bytes(apart[-1]) == b'"'
    for way in (joined, apart):
        assert b"".join(map(compiler.bytes, way)) == b'(b)"'


@pytest.fixture(params=["plain", "fused"])
def driver(request: pytest.FixtureRequest) -> Driver:
    """Both drivers."""
    made: Driver = request.getfixturevalue(request.param)
    return made


def room(contract: Contract, document: str) -> int:
    """Bytes of the longest answer that is closed at once: no budget over it may be too small."""
    root = decoding.schema(contract.json_schema)
    quote = max((len(json.dumps(q)) * 3 for q in quoting.samples(document)), default=0)

    def longest(node: Any) -> int:
        node = decoding.resolve(node, root)
        if "anyOf" in node:
            return max(map(longest, node["anyOf"]))
        if "enum" in node or "const" in node:
            return max(len(json.dumps(o)) for o in node.get("enum", [node.get("const")]))
        if node["type"] == "object":
            return 2 + sum(len(n) + 4 + longest(v) for n, v in node["properties"].items())
        if node["type"] == "array":
            least: int = node["minItems"]
            return 2 + least * (1 + longest(node["items"]))
        if node["type"] == "string":
            return quote if node.get("format") == "quote" else 14
        kind: str = node["type"]
        return {"integer": 10, "number": 17, "boolean": 5, "null": 4}[kind]

    return longest(root)


def check(written: Written, budget: int, document: str) -> None:
    """Complete, within its budget, valid, its quotes verbatim."""
    answer, text, contract = written
    assert not answer.matcher.is_error()
    assert answer.complete and len(answer.ids) <= budget, text[-80:]
    fields = decoding.parse(contract, text).fields
    for _, quote in decoding.quotes(contract, fields):
        assert quoting.locate(quote, document) is not None, quote


def budgets(contract: Contract, document: str, count: int) -> list[int]:
    """From what closing takes at most to four times that."""
    least = room(contract, document)
    return [least + round(3 * least * i / count) for i in range(count)]


BLOCKS: list[Block] = [
    {"summary": "text", "count": "integer", "level": "low | moderate | high"},
    {"t": ["text", "0..5"], "u": "date | not stated", "v": "low | high", "w": "integer"},
    {"t": "text | not stated", "u": "text(20) | not stated", "f": ["finding", "1..2"]},
    {"one": "text(1)", "two": "text(2)", "t": "text"},
    {"n": ["integer", "0..5"], "m": ["number", "0..3"], "t": "text"},
    {"x": [["integer", "0..3"]], "y": "number"},
    {"d": ["date", "0..3"], "b": "boolean | unknown"},
    {"q": "quote | none", "w": "text", "l": ["finding | none", "0..3"]},
    {"o": [{"n": "number", "d": "date", "c": "low | high"}, "1..4"], "t": "text"},
    {"in": {"ner": {"t": "text", "f": "finding"}}, "a": "yes | no"},
]


def key(block: Block) -> str:
    """A test's name."""
    return ",".join(block)


@pytest.mark.parametrize("block", BLOCKS, ids=key)
def test_no_budget_cuts_the_json(driver: Driver, block: Block) -> None:
    """Every budget that closing fits in, at its edge and well over it."""
    contract = contracts.contract(block)
    closed = 0
    for seed, budget in enumerate(budgets(contract, NOTE, 8)):
        written = driver.write(block, NOTE, budget, seed)
        check(written, budget, NOTE)
        closed += written.answer.shortened
    assert closed or "f" not in block


@pytest.mark.parametrize("block", [BLOCKS[0], BLOCKS[2], BLOCKS[4]], ids=key)
def test_shortened_says_closed_early(plain: Driver, block: Block) -> None:
    """Without it, the answer is what an endless budget gives; another answer has it."""
    seen = set()
    for seed in range(2):
        endless = plain.write(block, NOTE, 3500, seed)
        assert not endless.answer.shortened
        for budget in (*budgets(contracts.contract(block), NOTE, 4), 3000):
            written = plain.write(block, NOTE, budget, seed)
            same = written.text == endless.text
            assert same or written.answer.shortened
            seen.add(written.answer.shortened)
    assert seen == {True, False}


def _sevens(data: bytes) -> float:
    """A model that counts in sevens and lives in 1977."""
    if not set(data) & set(b"0123456789"):
        return 0.0
    return 20.0 if set(data) <= set(b"7") else 10.0 if set(data) <= set(b"19") else -20.0


NUMBERS: Block = {
    "t": "text",
    "n": ["integer", "1..4"],
    "m": "number",
    "d": "date",
    "e": "date | not stated",
    "c": "low | moderate | high",
    "o": [{"k": "integer"}, "0..3"],
}


def test_closing_invents_no_number_date_or_choice(driver: Driver) -> None:
    """All digits are the model's sevens, the date its own, the choice its favourite."""
    contract = contracts.contract(NUMBERS)
    closed = 0
    for seed, budget in enumerate(budgets(contract, NOTE, 8)):
        written = driver.write(NUMBERS, NOTE, budget, seed, _sevens)
        check(written, budget, NOTE)
        closed += written.answer.shortened
        fields = json.loads(written.text)
        numbers = [*fields["n"], fields["m"], *(item["k"] for item in fields["o"])]
        for number in numbers:
            assert set(str(number)) <= set("7.-"), written.text
        assert set(fields["d"]) <= set("1970-"), written.text
        assert fields["c"] == "high"
        assert len(written.answer.scores) == 1
    assert closed > 3


def test_the_least_budget_invents_no_number(plain: Driver) -> None:
    """Where closing begins with the first token, digits are the model's all the same."""
    whole = 0
    for budget in range(90, 125):
        written = plain.write(NUMBERS, NOTE, budget, budget, _sevens)
        if written.answer.refused or not written.answer.complete:
            continue
        whole += 1
        fields = json.loads(written.text)
        for number in [*fields["n"], fields["m"]]:
            assert set(str(number)) <= set("7.-"), written.text
    assert whole


def test_choices_are_scored_while_closing(driver: Driver) -> None:
    """Every choice has its probabilities, at the place where it stands, even in a closed answer."""
    block: Block = {"t": "text", "a": "low | high", "b": {"c": "yes | no | cannot tell"}}
    for budget in (60, 75, 90, 130):
        written = driver.write(block, NOTE, budget, budget)
        check(written, budget, NOTE)
        leaves = {leaf.start: leaf.value for leaf in decoding.leaves(written.text)}
        assert len(written.answer.scores) == 2
        for score in written.answer.scores:
            assert sum(score.options.values()) == pytest.approx(1)
            assert leaves[score.at] == max(score.options, key=lambda o: score.options[o])


@pytest.mark.parametrize("document", [LONG, RARE], ids=["long words", "rare characters"])
def test_a_quote_being_written_is_finished(plain: Driver, document: str) -> None:
    """Closing in the middle of words that take many tokens goes on to the end of one."""
    block: Block = {"q": "quote", "s": "text"}
    for seed, budget in enumerate((90, 170, 260)):
        check(plain.write(block, document, budget, seed), budget, document)


def test_an_item_may_end_with_the_mark_of_the_next(fused: Driver) -> None:
    """A model that was taught JSON ends a text with `","`: it is not made to talk on instead."""
    wanted = b'","'
    written = fused.write({"l": ["text(9)", "2..3"], "b": "text"}, NOTE, 4000, 3, _only(wanted))
    used = [fused.compiler.bytes(token) for token in written.answer.ids]
    assert wanted in used and not written.answer.shortened
    fields = json.loads(written.text)
    assert 2 <= len(fields["l"]) <= 3 and all(len(item) < 40 for item in fields["l"])


def _only(wanted: bytes) -> Taste:
    """A mark, a letter, and then the end of the item."""
    liked = {wanted: 60.0, b"a": 30.0, b'"': 20.0}
    return lambda text: liked.get(text, 0.0)


def test_a_list_that_repeats_itself_is_ended_there(fused: Driver) -> None:
    """Though the token that ends its item would have begun the next one."""
    written = fused.write({"l": ["text(9)", "0..9"], "b": "text"}, NOTE, 4000, 3, _only(b'","'))
    assert written.answer.repeated == ("l",)
    assert json.loads(written.text)["l"] == ["a", "a", "a"]


def test_what_ends_an_item() -> None:
    """A token's head is what ends the item; escaped marks, and those without a token, have none."""
    known = ['"', '"}', "}", '."', '","', '"},{"', "},{", '.",', '\\"', '\\",', ')",', '",x', ","]
    assert _crossing({piece: number for number, piece in enumerate(known)}) == {
        '","': '"', '"},{"': '"}', "},{": "}", '.",': '."'
    }  # fmt: skip


def test_repeats() -> None:
    """An item that stood there twice before, and only that."""
    assert repeats(b'{"a":"x","l":["u","v","u","u"')
    assert repeats(b'{"l":[{"q":"u"},{"q":"u"},{"q":"u"}')
    assert not repeats(b'{"a":"x","l":["u","v","u"')
    assert not repeats(b'{"l":["u","v"')
    assert not repeats(b'{"l":[')
    assert not repeats(b'{"l":["u","u"],"b":"u"')
    assert not repeats(b'{"a":{"l":["u","u"')


def _prompt(block: Block, budget: int, seed: int, temperature: float) -> Prompt:
    contract = contracts.contract(block)
    limits = Limits(max_new_tokens=budget, temperature=temperature, seed=seed)
    made = tiny.prompt(f"{budget}-{seed}", NOTE, schema=contract.json_schema)
    return made.model_copy(update={"contract": contract, "limits": limits})


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_engine_closes_its_answers(make_engine: MakeEngine, temperature: float) -> None:
    """The same of a real model, greedy and sampling, over budgets and seeds."""
    block = BLOCKS[2] | {"level": "low | high", "n": "integer"}
    contract = contracts.contract(block)
    prompts = [_prompt(block, 130 + 25 * i, i, temperature) for i in range(2)]
    for answer in make_engine(batch_size=1).generate(prompts):
        budget = int(answer.id.partition("-")[0])
        assert answer.finish_reason == "stop"
        assert answer.usage.completion_tokens <= budget
        fields = decoding.parse(contract, answer.text).fields
        for _, quote in decoding.quotes(contract, fields):
            assert quoting.locate(quote, NOTE)
        assert len(answer.choices) == 1


# -- faults found -------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [{"x": [["text"]]}, {"x": [["text"], "2..2"]}], ids=str)
def test_texts_of_nested_lists_are_closed(plain: Driver, block: Block) -> None:
    """A list in a list is closed like any other."""
    for seed in range(60):
        check(plain.write(block, NOTE, 60 + seed, seed), 60 + seed, NOTE)


def test_numbers_that_must_come_fit(plain: Driver) -> None:
    """Eight numbers of nine digits behind a text."""
    block: Block = {"t": "text", "n": ["integer", "8..8"]}
    for seed, budget in enumerate(budgets(contracts.contract(block), NOTE, 20)):
        check(plain.write(block, NOTE, budget, seed), budget, NOTE)


def test_the_longer_side_of_a_union_fits(plain: Driver) -> None:
    """`finding | not stated`, as in the template `summarize`, where a finding begins last."""
    block: Block = {"t": "text", "r": "finding | not stated"}
    for budget in range(100, 220, 4):
        check(plain.write(block, NOTE, budget, budget), budget, NOTE)


def test_a_list_of_choices_with_fused_tokens(fused: Driver) -> None:
    """`":["` is a token, so the forced text ends at the key; `":` may come by itself."""
    block: Block = {"c": ["low | moderate | severe", "0..5"], "d": "text(5)"}
    for seed in range(30):
        check(fused.write(block, NOTE, 200, seed), 200, NOTE)


@pytest.mark.parametrize("kind", ["date", "low | high"])
def test_two_fields_of_one_name(plain: Driver, kind: str) -> None:
    """A date or choice that shares its name with a text elsewhere is still the model's to say."""
    block: Block = {"a": {"x": "text"}, "b": {"x": kind}}
    for seed in range(12):
        written = plain.write(block, NOTE, 60, seed, _sevens)
        value = json.loads(written.text)["b"]["x"]
        assert kind != "date" or set(value) <= set("1970-")
        assert kind == "date" or len(written.answer.scores) == 1


def test_a_decided_choice_is_scored_although_its_name_recurs(plain: Driver) -> None:
    """`decide` on a field whose name an item of a list has too would silently do nothing."""
    block: Block = {"answer": "yes | no", "l": [{"answer": "yes | no"}, "0..2"]}
    written = plain.write(block, NOTE, 200, 1)
    assert any(score.at == len('{"answer":') for score in written.answer.scores)


def test_a_matcher_in_error_is_not_a_complete_answer(plain: Driver) -> None:
    """llguidance gives up (fuel, a token it refuses): that is no end of the JSON."""
    contract = contracts.contract({"t": "text"})
    matcher = plain.compiler.matcher(contract.json_schema, NOTE)
    plan = Plan(contract.json_schema, plain.compiler)
    answer = JsonAnswer(Limits(), [1], plain.compiler, matcher, plan)
    answer.matcher.consume_token(plain.compiler.tokens("}")[0])
    assert answer.matcher.is_error()
    assert not answer.complete
