"""The throughput benchmark itself, on the tiny shape: a GPU's commands with small numbers."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arms
import ceiling
import corpus
import pytest
import quiet
import shapes
import throughput
import tiny

from medgemma_cli import demo
from medgemma_cli.records import Prompt

Run = Callable[[str], dict[str, Any]]

SMALL = "--shape tiny --device cpu --precision fp32 --tokens 5 --json"
SERVER = """#!{python}
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.reply({{"status": "ok"}})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert asked["ignore_eos"] and len(asked["prompt"]) > 100
        self.reply({{"tokens_predicted": asked["n_predict"]}})
    def log_message(self, *more):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny checkpoint is made once."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def plain(work: Path) -> arms.Plain:
    """The tiny checkpoint."""
    return arms.Plain(shapes.folder("tiny", work, "cpu"), "fp32", "cpu")


@pytest.fixture
def run(work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the benchmark on the tiny shape; its JSON."""
    monkeypatch.setitem(ceiling._BYTES, "cpu", 2**20)
    monkeypatch.setitem(ceiling._SIDE, "cpu", 64)

    def run(options: str) -> dict[str, Any]:
        throughput.main([*SMALL.split(), "--work", str(work), *options.split()])
        made: dict[str, Any] = json.loads(capsys.readouterr().out)
        return made

    return run


def built(plain: arms.Plain, **settings: Any) -> list[Prompt]:
    """Prompts of a mix."""

    def measure(text: str) -> int:
        return len(plain.tokenizer(text, add_special_tokens=False)["input_ids"])

    return corpus.build(corpus.Mix(**settings), measure, plain.ids)


def llama(plain: arms.Plain, folder: Path, program: str) -> arms.LlamaServer:
    """The arm, with a program of this text on PATH and a model file that nobody reads."""
    path = folder / "llama-server"
    path.write_text(program, "utf-8")
    path.chmod(0o755)
    (folder / "demo.gguf").touch()
    arm = arms.LlamaServer(plain, folder, True, slots=2, timeout=30)
    arm.load()
    return arm


# -- the command ----------------------------------------------------------------------------


def test_arms_are_compared_within_a_repeat(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All write as much; ratios are of docs/s, pair by pair; `--save` keeps what is printed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    saved = tmp_path / "saved.json"
    report = run(
        "--documents 4 --one-documents 2 --range 30-60 --batch-sizes 2,auto --repeats 2 "
        f"--save {saved}"
    )
    done = {arm["name"]: arm for arm in report["arms"]}
    assert done.pop("llama-server")["failed"] == "not run: no llama-server on PATH"
    assert {name: (arm["documents"], arm["failed"]) for name, arm in done.items()} == {
        "one at a time": (2, None),
        "one at a time, white image": (2, None),
        "ours, batch 2": (4, None),
        "ours, batch auto": (4, None),
        "generate_batch": (4, None),
    }
    base = done["one at a time"]["seconds"]
    for arm in done.values():
        pairs = zip(arm["seconds"], base, strict=True)
        ratios = [(arm["documents"] / own) / (2 / one) for own, one in pairs]
        assert arm["ratio"]["all"] == pytest.approx(ratios)
        assert arm["ratio"]["worst"] == min(arm["ratio"]["all"])
        assert arm["tokens_s"] == pytest.approx(5 * arm["docs_s"])
    assert json.loads(saved.read_text("utf-8"))["arms"] == report["arms"]


def test_shares_of_the_time_and_of_the_ceiling(run: Run) -> None:
    """The engine's clock becomes shares, and work a pass against what the device measured."""
    report = run("--documents 4 --range 30-90 --batch-sizes 2 --arms one,ours --repeats 1")
    assert {"bandwidth", "read", "copy", "flops"} <= set(report["peak"])
    ours = report["arms"][1]
    found = ours["ceiling"]
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert 1 <= found["decode"]["lines_a_pass"] <= 2
    assert found["decode"]["share_of_ceiling"] > 0
    assert found["prefill"]["share_of_ceiling"] > 0


def test_some_documents_are_pictures(run: Run) -> None:
    """Each picture is encoded in every pass, and `generate_batch`, blind to them, is not run."""
    report = run(
        "--documents 3 --images 2 --range 30-60 --batch-sizes auto --repeats 2 "
        "--arms one,white,ours,batch"
    )
    one, white, ours, batch = report["arms"]
    assert (one["failed"], white["failed"], ours["failed"]) == (None, None, None)
    assert batch["failed"] == "not run: it ignores pixel_values, and there are images"
    assert ours["clock"]["images"] == 4


def test_an_arm_that_fails_is_reported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that writes too little has no figures; the others go on."""
    short = lambda self, prompts, tokens: [tokens - 1 for _ in prompts]  # noqa: E731
    monkeypatch.setattr(arms.ContinuousBatch, "answer", short)
    one, batch = run("--documents 2 --range 30-40 --arms one,batch --repeats 1")["arms"]
    assert one["failed"] is None and one["docs_s"] > 0
    assert batch["failed"] == "failed: RuntimeError: wrote [4] tokens, not 5 a document"
    assert batch["docs_s"] is None


def test_a_batch_that_hangs_is_given_up(run: Run) -> None:
    """After the time allowed it is reported, and the model is as it was for the others."""
    batch, one = run("--documents 2 --range 30-40 --arms batch,one --repeats 1 --timeout 0")["arms"]
    assert batch["failed"] == "failed: TimeoutError: over 0 s"
    assert one["failed"] is None


def test_a_machine_in_others_hands_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the CPUs did and we did not, of all that they could have done."""
    clocks = iter([quiet._Clock(10, 100, 40), quiet._Clock(12, 103, 42)])
    monkeypatch.setattr(quiet, "_now", lambda: next(clocks))
    monkeypatch.setattr(quiet.psutil, "cpu_count", lambda: 2)
    shares: list[float] = []
    with quiet.others(shares):
        pass
    assert shares == [0.25]


def test_our_own_work_is_not_others() -> None:
    """Nor that of children, those that have ended among them."""
    before = quiet._now()
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    after = quiet._now()
    assert 0.05 < after.own - before.own <= after.all - before.all + 0.1


def test_what_people_read(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """What was measured, on what, and what the reader must know of it."""
    report = run(
        "--documents 3 --range 30-40 --arms one,ours,llama --one-documents 2 --batch-sizes 2 "
        "--repeats 1"
    )
    throughput.show(report)
    text = capsys.readouterr().out
    assert "a subsample, evenly from the documents sorted by length" in text
    assert "of what memory allows" in text and "5 new tokens each, forced" in text
    assert "llama-server" in text and "nan" not in text


@pytest.mark.parametrize(
    "wrong", ["--arms two", "--range 90-30", "--batch-sizes 0", "--images 99", "--tokens 9999"]
)
def test_wrong_options_are_refused(run: Run, wrong: str) -> None:
    """Before anything is measured."""
    with pytest.raises(SystemExit):
        run(wrong)


# -- llama-server ---------------------------------------------------------------------------


def test_a_server_is_asked_for_every_document(
    plain: arms.Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ids, and without an end."""
    monkeypatch.setenv("PATH", str(tmp_path))
    arm = llama(plain, tmp_path, SERVER.format(python=sys.executable))
    try:
        arm.before(3, 900, 7)
        assert arm.answer(built(plain, documents=3, span=(20, 30)), 7) == [7, 7, 7]
    finally:
        arm.close()


def test_a_server_that_dies_is_an_error(
    plain: arms.Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, not after the time allowed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    arm = llama(plain, tmp_path, "#!/bin/sh\nexit 3\n")
    with pytest.raises(RuntimeError, match="ended with 3"):
        arm.before(3, 900, 7)
    arm.close()


# -- documents ------------------------------------------------------------------------------


def test_prompts_are_as_long_as_asked_and_share_their_head(plain: arms.Plain) -> None:
    """Within 15%, give or take half a line."""
    ids = [plain.ids(p) for p in built(plain, documents=8, prompt_tokens=1500, shared=700)]
    assert all(0.83 * 1500 <= len(row) <= 1.17 * 1500 for row in ids)
    assert 700 <= corpus.shared(ids) <= 760


def test_the_template_shares_less(plain: arms.Plain) -> None:
    """Its question stands behind the document."""
    mixes = [built(plain, documents=2, layout=layout) for layout in ("head", "template")]
    head, template = (corpus.shared([plain.ids(p) for p in prompts]) for prompts in mixes)
    assert template < head


def test_documents_are_the_same_every_time(plain: arms.Plain) -> None:
    """And no two pictures are."""
    settings = {"documents": 4, "images": 2, "image_side": 8}
    first, second = (built(plain, **settings) for _ in range(2))
    assert first == second
    assert len({image.rgb for prompt in first for image in prompt.images}) == 2


def test_no_two_passes_have_anything_in_common(plain: arms.Plain) -> None:
    """Neither the beginning of a text nor a picture: nothing can be remembered."""
    prompts = built(plain, documents=3, images=1, image_side=8)
    one, two = (list(corpus.marked(prompts, number)) for number in (1, 2))
    for first, second in zip(one, two, strict=True):
        assert first.id != second.id
        assert corpus.shared([plain.ids(first), plain.ids(second)]) < 20
        assert not first.images or first.images != second.images


def test_a_sample_is_drawn_evenly_from_the_lengths(plain: arms.Plain) -> None:
    """The middle of each third."""
    prompts = built(plain, documents=9, span=(30, 300))
    lengths = sorted(len(plain.ids(p)) for p in prompts)
    drawn = [len(plain.ids(p)) for p in corpus.sample(prompts, 3, plain.ids)]
    assert drawn == [lengths[1], lengths[4], lengths[7]]


def test_pictures_are_of_the_size_asked() -> None:
    """RGB, a byte a channel, and never the same twice."""
    rng = random.Random(0)
    one, two = corpus.picture(rng, 16), corpus.picture(rng, 16)
    assert len(one.rgb) == 3 * 16 * 16
    assert one.rgb != two.rgb


# -- the ceiling ----------------------------------------------------------------------------


def test_the_weights_that_a_pass_reads(plain: arms.Plain) -> None:
    """By arithmetic from the config, as many as the model's matrices have."""
    import torch

    sizes = ceiling.Sizes.of(plain.folder)
    matrices = (
        module.weight.numel()
        for name, module in plain.model.named_modules()
        if isinstance(module, torch.nn.Linear) and "vision" not in name
    )
    assert sizes.layers + sizes.output == sum(matrices)


@pytest.mark.parametrize(("first", "last"), [(0, 5), (3, 9), (4, 5), (0, 2)])
def test_pairs_and_cache_count_the_window(first: int, last: int) -> None:
    """As counted one by one."""
    sizes = ceiling.Sizes(8, 8, 2, 1, 4, 10, windows=(None, 3, 3))
    pairs = [(q, k) for q in range(first, last) for k in range(q + 1)]
    near = [(q, k) for q, k in pairs if k > q - 3]
    assert sizes.seen(first, last) == len(pairs) + 2 * len(near)
    assert sizes.cached(last) == 2 * 4 * (last + 2 * min(last, 3))


def test_passes_as_fast_as_memory_allows_reach_the_ceiling() -> None:
    """Weights once, and the keys and values of both lines."""
    sizes = ceiling.Sizes(8, 8, 2, 1, 4, 10, windows=(None,))
    best = ceiling.Peak(read=1e3, copy=500, flops=1e9, data_sheet=None)
    moved = 2 * (sizes.layers + sizes.output) + 2 * 2 * sizes.mean_cached([20, 30], 11)
    times = {"prefill": 1.0, "decode": 10 * moved / 1e3, "vision": 0.0, "idle": 0.0, "wall": 500.0}
    measured = ceiling.Measured(
        rounds=1, tokens=11, prompt_tokens=50, written=20, images=0, passes=10, **times
    )
    decode = ceiling.decoding(sizes, 2, best, [20, 30], measured)
    assert decode["lines_a_pass"] == 2
    assert decode["share_of_ceiling"] == pytest.approx(1)
    assert decode["bound_by"] == "memory"


def test_the_better_of_two_measurements_is_the_ceiling() -> None:
    """Number by number."""
    best = ceiling.Peak(2, 3, 4, None).or_better(ceiling.Peak(1, 5, 3, None))
    assert best == ceiling.Peak(2, 5, 4, None)
    assert best.bandwidth == 5


def test_a_shared_beginning_is_not_counted_as_computed() -> None:
    """Ten tokens of both lines were computed once."""
    sizes = ceiling.Sizes(8, 8, 2, 1, 4, 10, windows=(None,))
    best = ceiling.Peak(read=1e3, copy=500, flops=1e9, data_sheet=None)
    times = {"prefill": 1.0, "decode": 1.0, "vision": 0.0, "idle": 0.0, "wall": 2.0}
    measured = ceiling.Measured(
        rounds=1, tokens=2, prompt_tokens=40, written=2, images=0, passes=1, **times
    )
    found = ceiling.prefill(sizes, best, [20, 30], measured)
    assert found["tokens_not_computed"] == 10
    pairs = sizes.seen(5, 20) + sizes.seen(5, 30)
    assert found["flops"] == 2 * sizes.layers * 40 + 4 * 2 * 4 * pairs + 2 * sizes.output * 2


# -- shapes ---------------------------------------------------------------------------------


@pytest.fixture
def without_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that never converted the demo model."""
    monkeypatch.setattr(demo, "converted", lambda: None)


@pytest.mark.usefixtures("without_demo")
def test_the_shapes_have_the_published_sizes() -> None:
    """To the last weight."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3ForConditionalGeneration

    tokenizer = shapes._tokenizer(shapes.TEXT_4B["vocab_size"])
    with torch.device("meta"):
        large = Gemma3ForConditionalGeneration(shapes.config_4b(tokenizer))
        small = Gemma3ForCausalLM(shapes.text_config(tokenizer))
    assert sum(p.numel() for p in large.parameters()) == 4_300_079_472
    assert sum(p.numel() for p in small.parameters()) == 268_098_176


@pytest.mark.usefixtures("without_demo")
def test_every_id_of_the_filled_vocabulary_has_a_text() -> None:
    """Or an answer of such ids would count as empty; and no document is split into them."""
    tokenizer = shapes._tokenizer(3000)
    assert len(tokenizer) == 3000
    assert tokenizer.decode([2999]).strip()
    assert tokenizer("word2999", add_special_tokens=False)["input_ids"] != [2999]


@pytest.mark.usefixtures("without_demo")
@pytest.mark.parametrize("name", ["270m", "medgemma-4b"])
def test_a_shape_writes_something(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small model made in the same way neither repeats itself nor writes blanks alone."""
    small = {"vocab_size": 3000, "hidden_size": 256, "intermediate_size": 128, "head_dim": 16}
    eye = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "image_size": 224}
    monkeypatch.setattr(shapes, "TEXT_270M", {**shapes.TEXT_270M, **small})
    monkeypatch.setattr(shapes, "TEXT_4B", {**shapes.TEXT_4B, **small, "vocab_size": 3001})
    monkeypatch.setattr(shapes, "VISION_4B", {**shapes.VISION_4B, **eye, "num_attention_heads": 2})
    made = arms.Plain(shapes.folder(name, tmp_path, "cpu"), "bf16", "cpu")
    assert made.multimodal == (name == "medgemma-4b")
    ids = made.tokenizer("What does it say?\n", return_tensors="pt")["input_ids"]
    written = made.model.generate(ids, do_sample=False, max_new_tokens=12, min_new_tokens=12)
    assert len(set(written[0, -12:].tolist())) > 3
    if made.multimodal:
        (prompt,) = built(made, documents=1, images=1)
        assert made.ids(prompt).count(made.model.config.image_token_index) == 256
        assert arms.OneAtATime(made, None).answer([prompt], 3) == [3]
    assert made.tokenizer.decode(written[0, -12:], skip_special_tokens=True).strip()


def test_the_tiny_shape_is_the_other_tests_one(plain: arms.Plain) -> None:
    """With its tower and its few tokens an image."""
    assert plain.multimodal and plain.processor is not None
    assert plain.processor.image_seq_length == tiny.IMAGE_TOKENS
