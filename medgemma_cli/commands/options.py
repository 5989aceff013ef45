"""Options that several commands share, each with its environment variable `MEDGEMMA_<OPTION>`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

MODEL_PANEL = "Model"
SERVER_PANEL = "Server (--engine server)"
GENERATION_PANEL = "Generation"
INPUT_PANEL = "Input"
LEDGER_PANEL = "Ledger and log"
RAY_PANEL = "Ray"


def option(*names: str, panel: str | None = None, **settings: Any) -> Any:
    """A Typer option whose environment variable follows from its first long name."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = "MEDGEMMA_" + long.removeprefix("--").replace("-", "_").upper()
    settings.setdefault("envvar", variable)
    return typer.Option(*names, rich_help_panel=panel, show_envvar=False, **settings)


class PrecisionChoice(StrEnum):
    """Precisions of the weights."""

    auto = "auto"
    bf16 = "bf16"
    fp16 = "fp16"
    fp32 = "fp32"
    int8 = "int8"
    nf4 = "nf4"
    fp4 = "fp4"


class EngineChoice(StrEnum):
    """Engines."""

    local = "local"
    echo = "echo"
    server = "server"
    runpod = "runpod"
    ray = "ray"


class RayEngineChoice(StrEnum):
    """What a replica can be."""

    local = "local"
    echo = "echo"


class Jobs(StrEnum):
    """How RunPod's jobs are put."""

    sync = "sync"
    later = "async"


class Structured(StrEnum):
    """How a server is asked for an answer's shape."""

    schema = "schema"
    grammar = "grammar"
    none = "none"


class OnLong(StrEnum):
    """What is done with a document longer than the window."""

    SPLIT = "split"
    FAIL = "fail"
    HEAD = "head"


class Fsync(StrEnum):
    """When to wait for the disk."""

    always = "always"
    never = "never"


Model = Annotated[
    str,
    option("--model", "-m", help="Hub id, a folder with a checkpoint, or demo."),
]
Template = Annotated[str, option("--template", "-t", help="Template name, or path to a .md file.")]
System = Annotated[
    str | None,
    option("--system", help="Replace the template's system text: TEXT, or @FILE."),
]
Adapter = Annotated[
    Path | None,
    option("--adapter", panel=MODEL_PANEL, help="A folder with a LoRA adapter for the model."),
]
Revision = Annotated[
    str | None,
    option("--revision", panel=MODEL_PANEL, help="Branch, tag or commit of a hub id."),
]
Offline = Annotated[
    bool,
    option("--offline", panel=MODEL_PANEL, help="Never use the network, not even to look."),
]
PrecisionOption = Annotated[
    PrecisionChoice,
    option("--precision", panel=MODEL_PANEL, help="auto is bf16 where the device has it."),
]
DoubleQuant = Annotated[
    bool,
    option(
        "--double-quant/--no-double-quant",
        panel=MODEL_PANEL,
        help="Quantise the quantisation constants of nf4 and fp4, too.",
    ),
]
Device = Annotated[
    str, option("--device", panel=MODEL_PANEL, help="auto, cuda, cuda:N, cpu or mps.")
]
Engine = Annotated[
    EngineChoice,
    option(
        "--engine",
        panel=MODEL_PANEL,
        help="server: see --base-url; runpod: --endpoint. ray: local, on many devices. echo needs "
        "no model; its output is no summary.",
    ),
]
RayAddress = Annotated[
    str | None,
    option(
        "--ray-address",
        panel=RAY_PANEL,
        help="auto, or host:port of a running cluster. Default: one of this machine alone.",
    ),
]
Replicas = Annotated[
    int, option("--replicas", panel=RAY_PANEL, min=1, help="How many engines there are.")
]
GpusPerReplica = Annotated[
    float | None,
    option(
        "--gpus-per-replica",
        panel=RAY_PANEL,
        min=0,
        help="0 for none, a fraction to share one. Default: 1 where the cluster has any.",
    ),
]
RayEngine = Annotated[
    RayEngineChoice,
    option("--ray-engine", panel=RAY_PANEL, help="What a replica is; echo, to try a cluster."),
]
EchoDelay = Annotated[
    float,
    option("--echo-delay", panel=MODEL_PANEL, min=0, help="Seconds echo takes a document."),
]
BaseUrl = Annotated[
    str | None,
    option(
        "--base-url",
        panel=SERVER_PANEL,
        help="URL[,URL…] of servers of one model that speak OpenAI's chat API.",
    ),
]
ServedModel = Annotated[
    str | None,
    option(
        "--served-model", panel=SERVER_PANEL, help="The served name. Default: the only one there."
    ),
]
AllowRemote = Annotated[
    bool,
    option(
        "--allow-remote",
        panel=SERVER_PANEL,
        help="Servers may have public addresses: DOCUMENTS LEAVE THIS MACHINE and its network.",
    ),
]
Endpoint = Annotated[
    str | None,
    option("--endpoint", panel=SERVER_PANEL, help="With --engine runpod: the endpoint's id."),
]
JobsOption = Annotated[
    Jobs,
    option(
        "--jobs", panel=SERVER_PANEL, help="RunPod's jobs: sync waits for them, async looks again."
    ),
]
RequestTimeout = Annotated[
    float,
    option(
        "--request-timeout", panel=SERVER_PANEL, min=1, help="Seconds that one answer may take."
    ),
]
StructuredOption = Annotated[
    Structured,
    option(
        "--structured",
        panel=SERVER_PANEL,
        help="How answers get their shape: response_format; a grammar with locked quotes (vLLM, "
        "SGLang with guidance); none, in words alone.",
    ),
]
MaxNewTokens = Annotated[
    int | None,
    option(
        "--max-new-tokens", panel=GENERATION_PANEL, min=1, help="Default: what the template says."
    ),
]
MinNewTokens = Annotated[
    int,
    option("--min-new-tokens", panel=GENERATION_PANEL, min=0, help="For free text only."),
]
Temperature = Annotated[
    float,
    option("--temperature", panel=GENERATION_PANEL, min=0, max=5, help="0 is greedy decoding."),
]
TopP = Annotated[
    float, option("--top-p", panel=GENERATION_PANEL, min=0.01, max=1, help="Nucleus sampling.")
]
Seed = Annotated[
    int, option("--seed", panel=GENERATION_PANEL, min=0, help="For sampling, and patches.")
]
Grammar = Annotated[
    bool,
    option(
        "--grammar/--no-grammar",
        panel=GENERATION_PANEL,
        help="Off: ask again where an answer does not fit, in place of decoding what fits.",
    ),
]
MaxAttempts = Annotated[
    int,
    option(
        "--max-attempts",
        panel=GENERATION_PANEL,
        min=1,
        help="Runs that try a document; without a grammar, answers too.",
    ),
]
OnLongOption = Annotated[
    OnLong,
    option(
        "--on-long",
        panel=INPUT_PANEL,
        help="A document longer than the window: split (in parts), head (its beginning), fail.",
    ),
]
MaxInputTokens = Annotated[
    int | None,
    option(
        "--max-input-tokens",
        panel=INPUT_PANEL,
        min=1,
        help="Longer prompts count as longer than the window.",
    ),
]
PairBy = Annotated[
    str | None,
    option(
        "--pair-by",
        panel=INPUT_PANEL,
        metavar="RULE",
        help="Compare each document with the one before it (template compare): "
        "front-matter:patient,date or name:PATTERN. See docs/pairs.md.",
    ),
]
Encoding = Annotated[
    str | None,
    option("--encoding", panel=INPUT_PANEL, help="Of texts that are not UTF-8, e.g. cp1252."),
]
TextColumn = Annotated[
    str | None,
    option(
        "--text-column",
        panel=INPUT_PANEL,
        help="Read tables (.csv .tsv .json .jsonl .parquet), a document a row: its text.",
    ),
]
IdColumn = Annotated[
    str | None,
    option("--id-column", panel=INPUT_PANEL, help="Of tables: the row's id, its summary's name."),
]
ImageColumn = Annotated[
    str | None,
    option(
        "--image-column",
        panel=INPUT_PANEL,
        help="Of tables: the row's image, a path in the table's folder.",
    ),
]
MaxBytes = Annotated[
    int,
    option("--max-bytes", panel=INPUT_PANEL, min=1, help="Larger files are rejected unread."),
]
MaxPixels = Annotated[
    int,
    option(
        "--max-pixels",
        panel=INPUT_PANEL,
        min=1,
        help="Larger images are rejected; pages that are pictures, slices and patches have as many "
        "in all.",
    ),
]
MaxPages = Annotated[
    int,
    option("--max-pages", panel=INPUT_PANEL, min=1, help="Longer PDFs are rejected."),
]
MaxSlideBytes = Annotated[
    int,
    option("--max-slide-bytes", panel=INPUT_PANEL, min=1, help="Larger slides are rejected."),
]
Quiet = Annotated[
    bool, option("--quiet", "-q", panel=LEDGER_PANEL, help="No progress, no final line.")
]
Verbose = Annotated[
    bool,
    option("--verbose", "-v", panel=LEDGER_PANEL, help="Name each document; a closing table."),
]
KeepViews = Annotated[
    bool,
    option(
        "--keep-views",
        panel=LEDGER_PANEL,
        help="Keep what the model saw (slices, patches, pages) as a small JPEG beside the summary.",
    ),
]
ShardOption = Annotated[
    str | None,
    option(
        "--shard",
        panel=LEDGER_PANEL,
        help="i/n: one part of n of the documents, in a ledger of its own; then `medgemma merge`.",
    ),
]
FsyncOption = Annotated[
    Fsync,
    option(
        "--fsync",
        panel=LEDGER_PANEL,
        help="never: faster; a power loss may take the last records (a kill does not).",
    ),
]
