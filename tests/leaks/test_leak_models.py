"""Fault 95: a checkpoint's files, and the libraries that read them, do not tell either."""

import json
import shutil
from pathlib import Path

from house import NAME, TEXT, House, check_streams
from papers import ARGS, template

MODEL = "--device cpu --precision fp32 --max-new-tokens 80"
# What a command would load is loaded once, before it forks.
_LOADED = """
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers import Gemma3ForConditionalGeneration, Gemma3ImageProcessorPil, Gemma3Processor
from transformers import PreTrainedTokenizerFast
torch.set_num_threads(1)
"""


def copied(checkpoint: Path, house: House, name: str, **files: str | bytes | None) -> str:
    """A checkpoint with some of its files replaced, or with None removed."""
    folder = house.root / name
    shutil.copytree(checkpoint, folder)
    for key, data in files.items():
        path = folder / key.replace("__", ".")
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(folder)


def test_checkpoints_at_fault(house: House, checkpoint: Path) -> None:
    """A file of a checkpoint that is broken, or says what it must not, is not quoted."""
    house.put(f"in/{NAME}.md", f"{TEXT} slept well.\n")
    house.put("own.md", template("text"))
    broken = f'{{"{TEXT}": "{TEXT}'
    config = json.loads((checkpoint / "config.json").read_text())
    words = json.loads((checkpoint / "tokenizer_config.json").read_text())
    folders = [
        copied(checkpoint, house, "a", config__json=broken),
        copied(checkpoint, house, "b", config__json=f'"{TEXT}"'),
        copied(checkpoint, house, "c", config__json=json.dumps({**config, "model_type": TEXT})),
        copied(checkpoint, house, "d", config__json=json.dumps({**config, "text_config": TEXT})),
        copied(checkpoint, house, "e", config__json=json.dumps({**config, "auto_map": TEXT})),
        copied(checkpoint, house, "f", tokenizer__json=broken),
        copied(checkpoint, house, "g", tokenizer__json=f'{{"model": "{TEXT}"}}'),
        copied(checkpoint, house, "h", tokenizer_config__json=broken),
        copied(
            checkpoint,
            house,
            "i",
            tokenizer_config__json=json.dumps({**words, "tokenizer_class": TEXT}),
        ),
        copied(checkpoint, house, "j", processor_config__json=broken),
        copied(
            checkpoint,
            house,
            "k",
            chat_template__jinja=f"{{{{ raise_exception('{TEXT}' + messages[1].content) }}}}",
        ),
        copied(checkpoint, house, "l", chat_template__jinja=f"{{% {TEXT} %}}"),
        copied(checkpoint, house, "m", model__safetensors=TEXT),
        copied(checkpoint, house, "n", model__safetensors=b"\x40" + b"\0" * 7 + broken.encode()),
        copied(checkpoint, house, "o", model__safetensors=None),
        copied(checkpoint, house, "p", generation_config__json=broken),
    ]
    commands = []
    for folder in folders:
        verb = "run" if Path(folder).name in "cmnp" else "plan"
        commands.append(f"{verb} in -o out -t own.md --model {folder} {MODEL}")
    commands.append(f"doctor --device cpu --model {folders[0]}")
    for done, command in zip(house.several(*commands, script=_LOADED), commands, strict=True):
        assert done.code in (0, 1, 3, 69, 78), (command, done.told)
        check_streams(done, stdout=(TEXT,))
    assert house.traces() == []


def test_a_real_model(house: House, papers: Path, checkpoint: Path) -> None:
    """The libraries that answer say nothing of what they answer, and keep none of it."""
    house.put("free.md", template("text, image").replace("output:\n  summary: text\n", ""))
    model = f"--model {checkpoint} {MODEL.replace('80', '8')}"
    done = house.run(f"run {ARGS} -o out -t free.md --question {TEXT} {model}")
    assert done.code == 3, done.told
    house.assert_clean(done)
    assert (house.root / "cache" / "medgemma" / "speeds.jsonl").exists()


_DEVICE_FAILS = f"""{_LOADED}
import builtins
from medgemma_cli.engines.decode import Decoder

class Panic(BaseException):
    pass

def prepare():
    error = os.environ["ERROR"]

    def admit(self, works):
        said = str([work.prompt.document for work in works])
        raise (Panic if error == "Panic" else vars(builtins)[error])(said)

    Decoder.admit = admit
"""


def test_errors_of_the_device(house: House, checkpoint: Path) -> None:
    """An error in the device's own thread, with the text in its message."""
    house.put(f"in/{NAME}.md", f"{TEXT} slept well.\n")
    house.put("own.md", template("text"))
    args = f"run in -o out -t own.md --force --model {checkpoint} {MODEL}"
    errors = ("RuntimeError", "MemoryError", "Panic")
    done = house.several(*(f"ERROR={error} {args}" for error in errors), script=_DEVICE_FAILS)
    assert [one.code for one in done] == [3, 1, 1]
    for one in done:
        check_streams(one)
    assert house.traces() == []
