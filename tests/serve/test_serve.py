"""A server with the echo engine, asked over HTTP: what `run` would say, and nothing lost."""

import base64
import io
import json
import socket
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx2
import pytest
from serving import NOTE, Serving, serving

from medgemma_cli import readers, templates
from medgemma_cli.discover import Discovery
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.job import Job
from medgemma_cli.ledger import Ledger
from medgemma_cli.pipeline import Run
from medgemma_cli.progress import SilentReporter
from medgemma_cli.readers.limits import ReadLimits
from medgemma_cli.records import Limits
from medgemma_cli.safety.framing import EMERGENCY_ANSWER
from medgemma_cli.serve.gate import Bounds

SELF_HARM = "I took a whole pack of paracetamol just now"


def picture(side: int = 16) -> bytes:
    """A PNG of one grey."""
    from PIL import Image

    made = io.BytesIO()
    Image.new("L", (side, side), 90).save(made, "PNG")
    return made.getvalue()


@lru_cache
def bomb(side: int) -> bytes:
    """A PNG of a few hundred kilobytes that swells to side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check

    size = side.to_bytes(4, "big")
    head = size + size + b"\x08\x00\x00\x00\x00"
    rows = zlib.compress(b"\0" * ((side + 1) * side), 9)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_health_and_root(echo: Serving) -> None:
    """They say that it answers, and what it is."""
    assert echo.get("/health").json() == {"status": "ok"}
    about = echo.get("/").json()
    assert about["model"] == "served" and "not medical advice" in about["notice"]


def test_a_record_is_what_run_makes(echo: Serving, tmp_path: Path) -> None:
    """The same note through `run` and through the server: key, output, quotes, flags and facts."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text(NOTE, "utf-8")
    template = templates.load("summarize")
    limits = Limits(max_new_tokens=template.max_new_tokens)
    job = Job(template, limits, ReadLimits(max_bytes=Bounds().body))
    sources = Discovery([str(tmp_path / "notes")], readers.SUFFIXES)
    with Ledger(tmp_path / "out") as ledger:
        kept: list[Any] = []
        Run(job, ledger, EchoEngine(), SilentReporter(), on_record=kept.append).execute(sources)
    expected = kept[0].model_dump(mode="json", by_alias=True)
    made = echo.post("/v1/run", json={"text": NOTE}).json()
    for name in ("key", "sha256", "bytes", "media_type", "template", "model", "status", "output"):
        assert made[name] == expected[name], name
    for name in ("quotes", "flags", "facts", "coverage", "degraded", "usage", "notice", "schema"):
        assert made[name] == expected[name], name
    assert made["summary"] is None and made["source"].startswith("request/")


def test_infer_has_its_fields(echo: Serving) -> None:
    """The record in few fields; findings with the place of their quotes."""
    made = echo.post("/infer", json={"case_id": "case 7", "notes": NOTE}).json()
    wanted = "case_id summary findings confidence used_fallback run_mode model_source"
    assert set(wanted.split()) <= set(made)
    assert made["case_id"] == "case 7" and made["run_mode"] == "echo"
    finding = made["findings"][0]
    assert NOTE[finding["start"] : finding["end"]] == finding["quote"]
    assert made["used_fallback"] is bool(made["degraded"])
    assert json.loads(made["raw_generated_text"])["summary"] == made["summary"]
    assert made["generated_token_count"] > 0


def test_predict_answers_about_an_image(echo: Serving) -> None:
    """A choice, a sentence and probabilities (which echo has not)."""
    made = echo.post("/predict", files={"image_file": ("a.png", picture())}).json()
    assert made["answer"] in ("yes", "no", "cannot tell", "uncertain")
    assert made["sentence"] and "research use only" in made["notice"]
    assert {"probability", "probabilities"} <= set(made)


def test_an_image_in_base64(echo: Serving) -> None:
    """Bare, or as a data URL: the same record. A text with it makes one document of both."""
    plain = base64.b64encode(picture()).decode()
    keys = {
        echo.post("/v1/run", json={"image": image, "mode": "radiology"}).json()["key"]
        for image in (plain, f"data:image/png;base64,{plain}")
    }
    assert len(keys) == 1
    both = echo.post("/v1/run", json={"image": plain, "text": NOTE}).json()
    assert both["media_type"] == "multipart/mixed"
    assert both["coverage"]["characters"] == [len(NOTE), len(NOTE)]


def test_settings_are_part_of_the_key(echo: Serving) -> None:
    """System text, question, budget and seed; the mode's template is in the record."""
    asked: list[dict[str, Any]] = [
        {},
        {"system_prompt": "Be brief."},
        {"mode": "general", "question": "Which drugs?"},
        {"mode": "general", "question": "Which dose?"},
        {"max_new_tokens": 800},
        {"temperature": 0.5, "seed": 3},
        {"temperature": 0.5, "seed": 4},
    ]
    made = [echo.post("/v1/run", json={"text": NOTE, **more}) for more in asked]
    assert [one.status_code for one in made] == [200] * len(asked)
    assert len({one.json()["key"] for one in made}) == len(asked)
    assert made[2].json()["template"]["name"] == "general"


def test_a_question_alone(echo: Serving) -> None:
    """`general` takes one without a document."""
    made = echo.post("/v1/run", json={"mode": "general", "question": "What is a lung?"})
    assert made.status_code == 200 and made.json()["output"]["answer"]


@pytest.mark.parametrize("path", ["/v1/run", "/predict", "chat", "stream"])
def test_emergencies_get_fixed_words(echo: Serving, path: str) -> None:
    """Whatever the door, no model is asked."""
    if path == "/v1/run":
        made = echo.post(path, json={"mode": "general", "question": SELF_HARM}).json()
        assert made["output"]["answer"] == EMERGENCY_ANSWER and made["model"]["id"] == "none"
    elif path == "/predict":
        form = {"question": SELF_HARM}
        made = echo.post(path, files={"image_file": picture()}, data=form).json()
        assert made["sentence"] == EMERGENCY_ANSWER and made["answer"] == "cannot tell"
    else:
        asked = {"messages": [{"role": "user", "content": SELF_HARM}], "stream": path == "stream"}
        text = echo.post("/v1/chat/completions", json=asked).text
        assert "Do not wait for an answer from this tool" in text
        assert '"emergency"' in text


def chat(serving: Serving, **more: Any) -> httpx2.Response:
    """A conversation of one turn."""
    asked = {"messages": [{"role": "user", "content": NOTE}], **more}
    return serving.post("/v1/chat/completions", json=asked)


def test_a_completion(echo: Serving) -> None:
    """OpenAI's shape, with what the checks say beside it."""
    made = chat(echo, model="served").json()
    assert made["object"] == "chat.completion"
    assert made["choices"][0]["message"] == {"role": "assistant", "content": NOTE}
    assert made["usage"]["total_tokens"] > made["usage"]["completion_tokens"] > 0
    assert made["medgemma"]["status"] in ("ok", "flagged") and made["medgemma"]["notice"]
    assert echo.get("/v1/models").json()["data"][0]["id"] == "served"
    assert chat(echo, model="gpt").status_code == 404


def test_a_stream_is_the_same_text(echo: Serving) -> None:
    """Pieces, an end with the checks, the usage if it was asked for, and [DONE]."""
    made = chat(echo, stream=True, stream_options={"include_usage": True})
    assert made.headers["content-type"].startswith("text/event-stream")
    lines = [line[6:] for line in made.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    texts = [c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]]
    assert "".join(texts) == NOTE and len(texts) > 5
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop" and "medgemma" in chunks[-2]
    assert chunks[-1]["usage"]["completion_tokens"] > 0


def test_a_schema_is_kept_to(echo: Serving) -> None:
    """The answer is JSON of it, and its quotes stand in the user's words."""
    schema = json.loads(templates.load("summarize").contract.json_schema)
    made = chat(echo, response_format={"type": "json_schema", "json_schema": {"schema": schema}})
    answer = json.loads(made.json()["choices"][0]["message"]["content"])
    assert set(answer) == set(schema["required"])
    assert all(finding["quote"] in NOTE for finding in answer["key_findings"])


MALFORMED: dict[str, dict[str, Any]] = {
    "no json": {"content": b'{"text":', "headers": {"content-type": "application/json"}},
    "empty": {"content": b""},
    "binary": {"content": bytes(range(256)), "headers": {"content-type": "application/json"}},
    "a list": {"json": []},
    "nothing asked": {"json": {}},
    "a number": {"json": {"text": 5}},
    "null": {"json": {"text": None}},
    "a number in quotes": {"json": {"text": "a", "seed": "5"}},
    "too cold": {"json": {"text": "a", "temperature": -1}},
    "no finite number": {
        "content": b'{"text": "a", "temperature": NaN}',
        "headers": {"content-type": "application/json"},
    },
    "a huge number": {
        "content": b'{"text": "a", "seed": ' + b"9" * 5000 + b"}",
        "headers": {"content-type": "application/json"},
    },
    "deep": {
        "content": b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "headers": {"content-type": "application/json"},
    },
    "half a character": {
        "content": b'{"text": "\\ud800"}',
        "headers": {"content-type": "application/json"},
    },
    "unknown field": {"json": {"text": "a", "CANARY": "CANARY"}},
    "no base64": {"json": {"image": "%%%"}},
    "a URL": {"json": {"image": "https://example.org/a.png"}},
    "no image": {"json": {"image": base64.b64encode(b"CANARY").decode()}},
    "a path as mode": {"json": {"text": "a", "mode": "../../etc/passwd"}},
    "no such mode": {"json": {"text": "a", "mode": "nothing"}},
    "an image for text": {
        "json": {"image": base64.b64encode(b"\x89PNG\r\n\x1a\n").decode(), "mode": "labs"}
    },
    "blank": {"json": {"text": " \n"}},
    "no text": {"json": {"text": ""}},
    "NUL": {"json": {"text": "a\0b"}},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_requests_are_refused(echo: Serving, name: str) -> None:
    """4xx with a code and a next step, quoting nothing, and the next request is answered."""
    made = echo.post("/v1/run", **MALFORMED[name])
    assert 400 <= made.status_code < 500, made.text
    assert made.json()["error"] and "CANARY" not in made.text
    assert echo.alive()


@pytest.mark.parametrize(
    "settings",
    [
        {"json": {}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        {"files": {"other": b"x"}},
        {"data": {"image_file": "text"}},
        {"files": {"image_file": b""}},
        {"files": {"image_file": b"CANARY"}},
        {"files": {"image_file": picture()[:44]}},
        {"files": [("image_file", b"a"), ("image_file", b"b")]},
        {"files": {"image_file": picture()}, "data": {"question": "x" * 20_001}},
    ],
)
def test_malformed_uploads_are_refused(echo: Serving, settings: dict[str, Any]) -> None:
    """No form, a broken one, no file, no image, two of them."""
    made = echo.post("/predict", **settings)
    assert 400 <= made.status_code < 500, made.text
    assert made.json()["error"]["message"] and "CANARY" not in made.text
    assert echo.alive()


def test_a_huge_upload_is_refused(echo: Serving) -> None:
    """200 MB: the client sees a 413, and the server goes on."""
    started = time.monotonic()
    made = echo.post("/predict", files={"image_file": io.BytesIO(b"\0" * 200_000_000)})
    assert made.status_code == 413 and time.monotonic() - started < 60
    assert echo.alive()


def test_a_huge_upload_without_a_length_is_refused(echo: Serving) -> None:
    """The same in chunks, whose sum nobody has told."""
    made = echo.post("/predict", content=(b"\0" * 1_000_000 for _ in range(30)))
    assert made.status_code == 413
    assert echo.alive()


@pytest.mark.parametrize("door", ["/predict", "/v1/run"])
def test_a_decompression_bomb_is_refused(echo: Serving, door: str) -> None:
    """A PNG that would swell to 400 million pixels is refused before it does."""
    data = bomb(20_000)
    assert len(data) < 1_000_000
    if door == "/predict":
        made = echo.post(door, files={"image_file": data})
    else:
        made = echo.post(door, json={"image": base64.b64encode(data).decode()})
    assert made.status_code == 413
    assert echo.alive()


def test_pictures_at_once(echo: Serving) -> None:
    """Thirty images from thirty clients, half of them in conversations."""
    url = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"

    def ask(i: int) -> int:
        if i % 2:
            return echo.post("/predict", files={"image_file": picture(16 + i)}).status_code
        parts = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": f"{i}?"},
        ]
        asked = {"messages": [{"role": "user", "content": parts}]}
        return echo.post("/v1/chat/completions", json=asked).status_code

    with ThreadPoolExecutor(30) as threads:
        assert list(threads.map(ask, range(30))) == [200] * 30
    assert echo.empty()


def test_two_hundred_at_once(echo: Serving) -> None:
    """Everybody gets their own answer."""
    texts = [f"Case {i}: takes {i} mg of ramipril daily." for i in range(200)]

    def ask(text: str) -> Any:
        return echo.post("/v1/run", json={"text": text, "mode": "general"})

    with ThreadPoolExecutor(200) as threads:
        made = list(threads.map(ask, texts))
    assert [one.status_code for one in made] == [200] * 200
    assert [one.json()["raw_text"] for one in made] == texts
    assert echo.empty()


def test_a_full_server_says_when_to_come_back() -> None:
    """503 with Retry-After; who comes again gets an answer: nobody is lost."""
    with serving(EchoEngine(delay=0.5), Bounds(places=2)) as small:
        seen: list[int] = []

        def ask(i: int) -> str:
            while True:
                made = small.post("/v1/run", json={"text": f"Case {i} coughs.", "mode": "general"})
                seen.append(made.status_code)
                if made.status_code == 200:
                    return str(made.json()["raw_text"])
                assert made.status_code == 503 and int(made.headers["retry-after"]) > 0
                time.sleep(0.05)

        with ThreadPoolExecutor(8) as threads:
            made = list(threads.map(ask, range(8)))
        assert made == [f"Case {i} coughs." for i in range(8)]
        assert 503 in seen


def test_a_client_that_goes_away_frees_its_place() -> None:
    """A request behind a slow one is dropped with its connection and never begun."""
    with serving(EchoEngine(delay=0.5), Bounds(places=2)) as small:
        asked = json.dumps({"text": NOTE}).encode()
        head = b"POST /v1/run HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        host, port = small.url.removeprefix("http://").split(":")
        for _ in range(6):
            with socket.create_connection((host, int(port))) as client:
                client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(asked) + asked)
                time.sleep(0.1)
        assert small.empty()
        assert small.alive()


def test_a_reader_of_a_stream_that_goes_away() -> None:
    """Its answer is given up, and its place is free."""
    with serving(EchoEngine(delay=0.2), Bounds(places=1)) as small:
        asked = {"stream": True, "messages": [{"role": "user", "content": NOTE}]}
        with small.client.stream("POST", "/v1/chat/completions", json=asked) as made:
            next(made.iter_bytes())
        assert small.empty()
        assert small.alive()


def test_a_request_over_its_time() -> None:
    """504, and the place is free."""
    with serving(EchoEngine(delay=2), Bounds(seconds=0.3)) as small:
        assert small.post("/v1/run", json={"text": NOTE}).status_code == 504
        assert small.empty()


def test_nothing_is_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload of 5 MB is taken where no temporary file can be made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with serving(EchoEngine()) as made:
        data = picture() + b"\0" * 5_000_000  # behind its end, a PNG may have anything
        assert made.post("/predict", files={"image_file": data}).status_code == 200
    assert list(tmp_path.iterdir()) == []


def test_a_lost_engine_is_told() -> None:
    """503 for the request and for health."""
    from medgemma_cli.errors import ModelUnavailableError

    class Lost(EchoEngine):
        def live(self, prompts: Any, audience: Any) -> Any:
            """Loses its device at the second prompt."""
            for i, event in enumerate(super().live(prompts, audience)):
                if i:
                    raise ModelUnavailableError("The device was lost.", "Look at it.")
                yield event

    with serving(Lost()) as made:
        assert made.post("/v1/run", json={"text": NOTE}).status_code == 503
        assert made.get("/health").status_code == 503


def test_requests_on_one_connection(echo: Serving) -> None:
    """Connections are kept, refusals end them, and either way the next request is answered."""
    with httpx2.Client(base_url=echo.url, timeout=300) as client:
        for i in range(20):
            bad = i % 3 == 2
            made = client.post("/v1/run", json={"text": 5 if bad else f"Case {i} coughs."})
            assert made.status_code == (422 if bad else 200)


def test_no_thread_is_left() -> None:
    """When a server has ended, so have its engine and its host threads."""
    with serving(EchoEngine()) as made:
        assert made.alive()
    left = [t.name for t in threading.enumerate() if t.name.startswith(("engine", "host"))]
    # The module's own server is still there.
    assert left.count("engine") <= 1
