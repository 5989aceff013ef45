"""The eye's three stages, tiny: the same figures as of whole passes, and no step lost to a kill."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.engines.loading import load_model, load_tokenizer
from scripts.build_demo import (
    aligning,
    drawn,
    keeping,
    naming,
    pictures,
    pretraining,
    seeing,
    showing,
)
from scripts.build_demo.drawn import QUESTIONS, Facts
from scripts.build_demo.frozen import Reader
from scripts.build_demo.gallery import TASKS, UNTOLD, Gallery, targets

OPACITY = Facts("chest", 1, side="left", zone="upper", size="large")
NOTHING = Facts("blank", 0)


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> Any:
    """The tiny multimodal model, all of it."""
    return load_model(
        checkpoint, multimodal=True, precision="fp32", device="cpu", double_quant=False
    )


@pytest.fixture(scope="module")
def encoder(checkpoint: Path) -> Encoder:
    """Its tokenizer and processor."""
    return Encoder(*load_tokenizer(checkpoint, True))


@pytest.fixture
def eye(whole: Any) -> seeing.Eye:
    """A copy of its eye: each test trains its own."""
    from copy import deepcopy

    return seeing.Eye(
        deepcopy(whole.model.vision_tower).requires_grad_(True),
        deepcopy(whole.model.multi_modal_projector).requires_grad_(True),
    )


def reader(whole: Any, encoder: Encoder) -> Reader:
    """The tiny model's text half."""
    return Reader(whole, encoder)


# -- stage 1 --------------------------------------------------------------------------------------


def test_targets_name_what_is_drawn_and_leave_out_the_rest() -> None:
    """An opacity has a side; nothing has neither side nor label."""
    told = dict(zip(TASKS, targets(OPACITY._asdict()), strict=True))
    assert told == {"kind": 1, "label": 1, "side": 1, "zone": 0, "size": 1, "layout": UNTOLD}
    assert targets(NOTHING._asdict()) == [3, *[UNTOLD] * 5]


def test_a_gallery_draws_each_picture_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened again, it has what was drawn; what it holds is what `pictures.draw` makes."""
    first = Gallery(tmp_path, 4, 6).take(np.array([1, 4]))
    assert (first.pixels[1] == np.asarray(pictures.draw(4, 4).image)).all()

    def never(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(pictures, "draw", never)
    again = Gallery(tmp_path, 4, 6).take(np.array([1, 4]))
    assert (again.pixels == first.pixels).all() and (again.targets == first.targets).all()


def test_pixels_are_the_processors(encoder: Encoder) -> None:
    """What the tower is trained on is what `run` shows it, to the last digit but one."""
    from medgemma_cli.demo import sight
    from medgemma_cli.engines import vision
    from medgemma_cli.records import Image

    image = pictures.draw(1, 1).image
    shown = vision.pixels(
        sight.processor(encoder.tokenizer),
        Image(width=image.width, height=image.height, rgb=image.tobytes()),
    )
    ours = pretraining.pixels_of(np.asarray(image)[None])[0]
    assert torch.allclose(shown, ours, atol=1e-5)


def test_stage_one_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    """Killed after one step of two: the same weights as of one go."""
    settings = pretraining.Settings(images=8, passes=1, batch=4)
    told: list[dict[str, Any]] = []
    pretraining.pretrain(tmp_path / "a", settings, 4, told.append, every=1)
    pretraining.pretrain(tmp_path / "b", settings, 4, told.append, every=1, stop=1)
    assert not (tmp_path / "b" / "sight.safetensors").exists()
    pretraining.pretrain(tmp_path / "b", settings, 4, told.append, every=1)
    one, two = (_weights(tmp_path / name / "sight.safetensors") for name in "ab")
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert "label" in told[-1] and all(0 <= value <= 1 for value in told[-1].values())
    with pytest.raises(SystemExit, match="other settings"):
        pretraining.pretrain(tmp_path / "a", settings._replace(seed=2), 4, told.append)


def test_the_first_loss_falls() -> None:
    """Shown four pictures over and over, it learns them."""
    learner = pretraining.Learner(1)
    optimizer = torch.optim.AdamW(learner.parameters(), 1e-3)
    shown = [pictures.draw(1, number) for number in range(4)]
    batch = pretraining.Batch(
        np.stack([np.asarray(one.image) for one in shown]),
        np.stack([one.parts for one in shown]),
        np.array([targets(one.facts._asdict()) for one in shown]),
    )
    losses = []
    for _ in range(12):
        made = pretraining.loss(learner, batch)
        optimizer.zero_grad()
        made.backward()
        optimizer.step()
        losses.append(made.item())
    assert losses[-1] < 0.6 * losses[0]


def _weights(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(path)


# -- what is shown --------------------------------------------------------------------------------


@pytest.mark.parametrize("template", showing.TEMPLATES)
def test_the_ids_are_those_that_run_shows(encoder: Encoder, template: str, tmp_path: Path) -> None:
    """A line of `medgemma tune` with the same picture and answer has the very same ids."""
    from medgemma_cli.engines.tuning.lessons import lesson
    from medgemma_cli.evaluating.lines import Line
    from medgemma_cli.tuning.rendering import rendered

    pictures.draw(1, 1).image.save(tmp_path / "film.png")
    rng = np.random.default_rng(0)
    made = showing.shown(encoder, template, OPACITY, rng)
    text = encoder.text(made.rest[made.start :])[0]
    asked, output = showing.told(template, OPACITY, np.random.default_rng(0))
    fields = {"template": template, "image": "film.png", "output": output}
    fields |= {"question": asked} if asked else {}
    assert drawn.description(OPACITY) in text
    theirs = lesson(encoder, rendered(Line(1, fields), tmp_path))
    assert [*made.head, *made.rest] == theirs.ids
    assert len(made.head) + made.start == theirs.start


def test_a_decision_ends_where_the_answers_part(encoder: Encoder) -> None:
    """Its ids begin every whole answer, and the next id of each is its own."""
    asked = QUESTIONS["chest"]
    place = showing.decision(encoder, asked)
    assert len(set(place.options)) == 3
    for option, answer in zip(place.options, showing.ANSWERS, strict=True):
        whole = showing._example(
            encoder, "screen", asked, {"answer": answer, "reason": "It is seen."}
        )
        assert whole.head == place.head and whole.rest[: len(place.rest)] == place.rest
        assert whole.rest[len(place.rest)] == option


def test_answers_are_as_sure_as_they_should_be() -> None:
    """Each is the likeliest of its own kind, and a blank picture's yes is the least."""
    asked = QUESTIONS["chest"]
    clear = Facts("chest", 0)
    for facts, name in ((OPACITY, "yes"), (clear, "no"), (NOTHING, showing.CANNOT_TELL)):
        weights = showing.weights(facts, asked)
        assert abs(sum(weights) - 1) < 1e-9
        assert showing.ANSWERS[weights.index(max(weights))] == name
    yes, no, _ = showing.weights(NOTHING, asked)
    assert yes < no


# -- stage 2 --------------------------------------------------------------------------------------


def test_every_fact_has_words_of_its_own(encoder: Encoder, whole: Any) -> None:
    """All that is drawn is among them; no two have the same sum; each is as long as a word."""
    known = drawn.every_fact()
    assert {pictures.draw(5, number).facts for number in range(60)} <= set(known)
    assert len({frozenset(drawn.key_words(facts)) for facts in known}) == len(known)
    assert all(word in drawn.description(facts).lower() for facts in known
               for word in drawn.key_words(facts))  # fmt: skip
    words = naming.Words(reader(whole, encoder))
    near = words.nearness(words.sums)
    assert (near.argmax(dim=-1) == torch.arange(len(known))).all()


def test_what_is_named_is_near_its_words(
    whole: Any, encoder: Encoder, eye: seeing.Eye, tmp_path: Path
) -> None:
    """Shown a few pictures over and over it comes nearer to their words."""
    reading = reader(whole, encoder)
    words = naming.Words(reading)
    eye.begin(reading, 1)
    course = seeing.Course(steps=16, batch=4, rate=2e-2, tower_rate=2e-3)
    shown = [pictures.draw(1, number) for number in range(4)]
    wanted = words.wanted(shown)
    before = words.distance(eye.look(shown), wanted).item()
    told: list[dict[str, Any]] = []
    seeing.train(
        eye,
        tmp_path,
        course,
        lambda _: naming.loss(words, eye, course, 0),
        lambda: naming.measure(words, eye, 1, 4, 4),
        told.append,
        every=8,
    )
    assert words.distance(eye.look(shown), wanted).item() < 0.7 * before
    assert told[-1]["loss"] < told[0]["loss"] and 0 <= told[-1]["right"] <= 1


# -- stage 3 --------------------------------------------------------------------------------------


def test_a_kept_beginning_changes_nothing(whole: Any, encoder: Encoder, eye: seeing.Eye) -> None:
    """Logits behind a kept beginning are those of one pass over everything.

    The beginning is longer than the sliding window, so a mistake in either mask would show.
    """
    one = pictures.draw(1, 2)
    made = showing.shown(encoder, "screen", one.facts, np.random.default_rng(0))
    assert len(made.head) > whole.config.text_config.sliding_window
    pixels = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0)) * 2 - 1
    reading = reader(whole, encoder)
    with torch.no_grad():
        seen = eye.tower(pixel_values=pixels).last_hidden_state
        features = eye.projector(seen)
        rest = torch.tensor([made.rest, made.rest])
        hidden = reading.hidden(made.head, rest, features)
        got = reading.logits(hidden.flatten(0, 1)).view(2, len(made.rest), -1)
        ids = torch.tensor([[*made.head, *made.rest]] * 2)
        want = whole(
            input_ids=ids,
            pixel_values=pixels,
            token_type_ids=(ids == encoder.image_id).long(),
            attention_mask=torch.ones_like(ids),
        ).logits[:, len(made.head) :]
    assert torch.allclose(got, want, atol=1e-3), (got - want).abs().max()
    assert not torch.allclose(got[0], got[1], atol=1e-3), "it does not look at the picture"


def test_what_is_filled_up_is_not_seen(whole: Any, encoder: Encoder, eye: seeing.Eye) -> None:
    """A shorter prompt beside a longer one has the hidden states it has alone."""
    made = showing.shown(encoder, "screen", OPACITY, np.random.default_rng(0))
    reading = reader(whole, encoder)
    pixels = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = eye.projector(eye.tower(pixel_values=pixels).last_hidden_state)
        short = made.rest[: made.start]
        alone = reading.hidden(made.head, torch.tensor([short]), features)
        both = reading.hidden(
            made.head, showing.padded([short, made.rest]), torch.cat([features, features])
        )
    assert torch.allclose(alone[0], both[0, : len(short)], atol=1e-4)


def test_stage_three_learns_and_goes_on(
    whole: Any, encoder: Encoder, eye: seeing.Eye, tmp_path: Path
) -> None:
    """The eye changes and the language model does not; killed halfway, the end is the same."""
    course = aligning.COURSE._replace(steps=5, batch=3)
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    start = {k: v.clone() for k, v in eye.tower.state_dict().items()}
    reading = reader(whole, encoder)
    keeping.write_sight(tmp_path / "begin.safetensors", eye.tower, eye.projector)
    told: list[dict[str, Any]] = []

    def go(name: str, stop: int | None = None) -> None:
        keeping.read_sight(tmp_path / "begin.safetensors", eye.tower, eye.projector)
        seeing.train(
            eye,
            tmp_path / name,
            course,
            lambda step: aligning.loss(reading, eye, course, step),
            lambda: aligning.measure(reading, eye, 1, 3, 3),
            told.append,
            every=3,
            stop=stop,
        )

    go("a")
    go("b", stop=3)
    assert not (tmp_path / "b" / "sight.safetensors").exists()
    go("b")
    one, two = (_weights(tmp_path / name / "sight.safetensors") for name in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)
    after = eye.tower.state_dict()
    assert any(not torch.equal(start[name], after[name]) for name in start)
    now = whole.state_dict()
    assert all(torch.equal(value, now[name]) for name, value in before.items())
    assert all(np.isfinite(line["loss"]) for line in told)


def test_a_fresh_projection_speaks_as_loud_as_words(
    whole: Any, encoder: Encoder, eye: seeing.Eye
) -> None:
    """Features are as long as embeddings, within a factor of two."""
    reading = reader(whole, encoder)
    eye.begin(reading, 1)
    with torch.no_grad():
        made = eye.look([pictures.draw(1, 1)]).float().norm(dim=-1).mean().item()
        words = reading.embed(torch.arange(10, 1000)).norm(dim=-1).mean().item()
    assert 0.5 < made / words < 2
