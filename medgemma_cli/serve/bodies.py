"""What requests may say. Everything is strict: a number in quotes is no number."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medgemma_cli.serve.pictures import from_base64
from medgemma_cli.serve.service import Asked

_TOKENS = Field(default=None, ge=1, le=100_000)
_TEMPERATURE = Field(default=0.0, ge=0, le=5, allow_inf_nan=False)
_TOP_P = Field(default=1.0, ge=0.01, le=1, allow_inf_nan=False)
_SEED = Field(default=0, ge=0, lt=2**63)
_LONGEST_QUESTION = 20_000
# Standing for nothing in a request: clients send them as they are by default.
_NOTHING: tuple[Any, ...] = (None, False, 0, [], {}, "", "none", "auto")
_REFUSED = (
    "stop", "tools", "tool_choice", "functions", "logprobs", "top_logprobs", "logit_bias",
    "presence_penalty", "frequency_penalty",
)  # fmt: skip


class Strict(BaseModel):
    """No field but those named."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class InferBody(Strict):
    """A note to be summarised."""

    case_id: str = Field(max_length=200)
    notes: str

    def asked(self) -> Asked:
        """What it asks."""
        return Asked(text=self.notes)


class RunBody(Strict):
    """A template by name, and a text, an image in base64, or a question alone."""

    text: str | None = None
    image: str | None = Field(default=None, description="base64, or a data URL of it")
    mode: str = Field(default="summarize", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    system_prompt: str | None = Field(default=None, max_length=_LONGEST_QUESTION)
    question: str | None = Field(default=None, max_length=_LONGEST_QUESTION)
    max_new_tokens: int | None = _TOKENS
    temperature: float = _TEMPERATURE
    top_p: float = _TOP_P
    seed: int = _SEED

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.text is None and self.image is None and self.question is None:
            raise ValueError("text, image or question must be there")
        if self.image is not None:
            from_base64(self.image)
        return self

    def asked(self) -> Asked:
        """What it asks."""
        return Asked(
            mode=self.mode,
            text=self.text,
            image=from_base64(self.image) if self.image is not None else None,
            question=self.question,
            system=self.system_prompt,
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
        )


class _Lenient(BaseModel):
    """As the OpenAI clients have it: unknown fields are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, protected_namespaces=())


class TextPart(_Lenient):
    """A text of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(_Lenient):
    """Where an image is: in the URL itself."""

    url: str


class ImagePart(_Lenient):
    """An image of a message, as a data URL."""

    type: Literal["image_url"]
    image_url: ImageUrl


class ChatMessage(_Lenient):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]


class JsonSchema(_Lenient):
    """A JSON Schema under OpenAI's name for it."""

    name: str = "output"
    schema_: dict[str, Any] = Field(alias="schema")


class ResponseFormat(_Lenient):
    """Free text, or JSON of a schema."""

    type: Literal["text", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema must be there")
        return self


class StreamOptions(_Lenient):
    """Whether a stream ends with the usage."""

    include_usage: bool = False


class ChatBody(_Lenient):
    """A conversation, in OpenAI's shape. What cannot be honoured is refused, not passed over."""

    model: str = ""
    messages: list[ChatMessage] = Field(min_length=1, max_length=256)
    max_tokens: int | None = _TOKENS
    max_completion_tokens: int | None = _TOKENS
    temperature: float | None = _TEMPERATURE
    top_p: float | None = _TOP_P
    seed: int | None = _SEED
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    n: Any = None
    stop: Any = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None

    @model_validator(mode="after")
    def _honest(self) -> Self:
        for name in _REFUSED:
            value = getattr(self, name)
            if value not in _NOTHING:
                raise ValueError(f"{name} is not supported here")
        if self.n not in (None, 1):
            raise ValueError("n is 1 here")
        return self
