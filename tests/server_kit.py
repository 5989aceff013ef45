"""A small server that speaks OpenAI's chat API, and does what it is told to do wrong.

Its answers are functions of the messages, so that the same document gets the same answer however
often it is asked about. JSON answers are the echo engine's, of the schema that was asked for.
"""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from medgemma_cli.engines.calls.tries import Patience
from medgemma_cli.engines.echo import EchoEngine
from medgemma_cli.records import Contract, Limits, Message, Part, Prompt

Fault = Callable[[int, dict[str, Any]], str | None]

_LETTERS = str.maketrans("0123456789", "ghijklmnop")
# As the engine waits, but in milliseconds.
QUICK = Patience(first=0.01, longest=0.05, seconds=2.0)


def no_fault(number: int, body: dict[str, Any]) -> str | None:
    """All goes well."""
    return None


def text_of(body: dict[str, Any]) -> str:
    """All text of a request's messages."""
    said = []
    for message in body["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        said += [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(said)


def document_of(body: dict[str, Any]) -> str:
    """What stands between the fence's markers; empty where there is no document."""
    found = re.search(r"<<<([0-9a-f]{8})\n(.*?)\n\1>>>", text_of(body), re.DOTALL)
    return found[2] if found else ""


def answer_to(body: dict[str, Any]) -> str:
    """The answer, a function of the messages."""
    shape = body.get("response_format", {}).get("json_schema", {}).get("schema")
    if shape is None:
        digest = hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest()[:16]
        # Letters: a number that is not in the document would be flagged.
        return f"Answer {digest.translate(_LETTERS)}."
    prompt = Prompt(
        id="asked",
        messages=(Message(role="user", parts=(Part(kind="document", text=document_of(body)),)),),
        contract=Contract(kind="json", json_schema=json.dumps(shape)),
        limits=Limits(),
    )
    return next(iter(EchoEngine().generate([prompt]))).text


class FakeServer:
    """Serves `model` on a free port of this machine.

    Attributes:
        asked: the bodies of all chat requests, in order; `headers` theirs.
        inside: the bodies of requests that are under way; none whose answer has begun to leave,
            so that a client that has one never meets its own last request here.
        answered: how often each document got a whole answer.
        most: the most requests that were under way at once.
    """

    def __init__(
        self,
        fault: Fault = no_fault,
        *,
        model: dict[str, Any] | None = None,
        delay: float = 0.0,
        port: int = 0,
    ) -> None:
        self.fault = fault
        self.model = model or {"id": "fake", "object": "model", "owned_by": "tests"}
        self.delay = delay
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answered: Counter[str] = Counter()
        self.usage = True
        self.listing: Any = None
        self.make: Callable[[dict[str, Any]], str] = answer_to
        self.finish = "stop"
        self.most = 0
        self.inside: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._http = _Quiet(("127.0.0.1", port), self._handler())
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: Any) -> None:
                return

            def do_GET(self) -> None:
                outer.paths.append(self.path)
                outer.headers.append(dict(self.headers))
                fault = outer.fault(-1, {})
                if fault in ("down", "302"):
                    outer.wrong(self, fault)
                    return
                listed = {"object": "list", "data": [outer.model]}
                outer.send(self, 200, listed if outer.listing is None else outer.listing)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.paths.append(self.path)
                with outer._lock:
                    number = len(outer.asked)
                    outer.asked.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.inside.append(body)
                    outer.most = max(outer.most, len(outer.inside))
                try:
                    time.sleep(outer.delay)
                    fault = outer.fault(number, body)
                    outer.leaves(body)
                    if fault is not None:
                        outer.wrong(self, fault)
                    elif body.get("stream"):
                        outer.stream(self, body)
                    else:
                        made = outer.completion(body)
                        # Before it leaves: whoever has it may count at once.
                        outer.answered[document_of(body)] += 1
                        outer.send(self, 200, made)
                except (BrokenPipeError, ConnectionResetError):
                    pass

        return Handler

    def leaves(self, body: dict[str, Any]) -> None:
        """This very request is not under way any more."""
        with self._lock:
            self.inside[:] = [one for one in self.inside if one is not body]

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """A whole chat completion."""
        text = self.make(body)
        images = json.dumps(body["messages"]).count('"image_url":')
        usage = {
            "prompt_tokens": len(text_of(body).split()) + 10 + 256 * images,
            "completion_tokens": len(text.split()),
        }
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        return {
            "object": "chat.completion",
            "model": self.model["id"],
            "choices": [choice],
            **({"usage": usage} if self.usage else {}),
        }

    def stream(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        """The same, piece by piece; `cut` in a fault hangs up in the middle."""
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        whole = self.completion(body)
        text = whole["choices"][0]["message"]["content"]
        for piece in re.findall(r".{1,5}", text, re.DOTALL):
            chunk = {"choices": [{"index": 0, "delta": {"content": piece}}]}
            handler.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            handler.wfile.flush()
        last = {"choices": [{"delta": {}, "finish_reason": self.finish}]}
        last |= {"usage": whole["usage"]} if self.usage else {}
        self.answered[document_of(body)] += 1
        handler.wfile.write(b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n")
        handler.wfile.flush()
        handler.close_connection = True

    def send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        value: Any,
        kind: str = "application/json",
        **headers: str,
    ) -> None:
        """A response; a value that is bytes is sent as it stands."""
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        for name, told in headers.items():
            handler.send_header(name.replace("_", "-"), told)
        handler.end_headers()
        handler.wfile.write(data)
        handler.wfile.flush()

    def wrong(self, handler: BaseHTTPRequestHandler, fault: str) -> None:
        """Do something wrong: a status (``503``, ``429:2`` with Retry-After), or a word."""
        name, _, detail = fault.partition(":")
        if name.isdigit():
            headers = {"Retry_After": detail} if detail and name != "302" else {}
            if name == "302":
                headers = {"Location": detail}
            said = {"error": {"message": detail or "no"}}
            self.send(handler, int(name), said, **headers)
        elif name in ("drop", "down"):
            handler.close_connection = True
            handler.connection.close()
        elif name == "half":
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", "5000")
            handler.end_headers()
            handler.wfile.write(b'{"choices": [{"message": {"content": "Half an ans')
            handler.wfile.flush()
            handler.close_connection = True
        elif name == "garbage":
            self.send(handler, 200, b'{"choices": [{"mess')
        elif name == "html":
            self.send(handler, 200, b"<html>busy</html>", kind="text/html")
        elif name == "empty":
            self.send(handler, 200, {"choices": []})
        elif name == "deep":
            self.send(handler, 200, b"[" * 100_000)
        elif name == "huge":
            self.send(handler, 200, b" " * (17 * 2**20))
        elif name == "unended":
            message = {"message": {"content": "Half"}, "finish_reason": None}
            self.send(handler, 200, {"choices": [message]})
        elif name == "slow":
            time.sleep(float(detail))
            self.send(handler, 200, {"choices": []})
        else:
            raise AssertionError(fault)


class _Quiet(ThreadingHTTPServer):
    """Clients that hang up in the middle are part of the game."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        return


@contextmanager
def serving(fault: Fault = no_fault, **settings: Any) -> Iterator[FakeServer]:
    """A fake server for as long as it is needed."""
    server = FakeServer(fault, **settings)
    try:
        yield server
    finally:
        server.close()


def prompt(
    text: str = "Dry cough since Monday.",
    *,
    name: str = "one",
    contract: Contract | None = None,
    images: tuple[Any, ...] = (),
    **limits: Any,
) -> Prompt:
    """A question about a document, with as many image slots as there are images."""
    parts = [Part(kind="image") for _ in images]
    parts += [
        Part(kind="fence", text="<<<0a1b2c3d\n"),
        Part(kind="document", text=text),
        Part(kind="fence", text="\n0a1b2c3d>>>"),
        Part(kind="text", text="\n\nWhat is it?"),
    ]
    return Prompt(
        id=name,
        messages=(
            Message(role="system", parts=(Part(kind="text", text="Be brief."),)),
            Message(role="user", parts=tuple(parts)),
        ),
        images=images,
        contract=contract or Contract(kind="text"),
        limits=Limits(**limits),
    )
