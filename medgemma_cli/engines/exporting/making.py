"""Base and adapter → a merged checkpoint on the disk → loaded again, and compared with both."""

import gc
import shutil
from pathlib import Path
from typing import Any

from medgemma_cli import models
from medgemma_cli.adapters import Adapter
from medgemma_cli.engines.encoding import Encoder
from medgemma_cli.engines.exporting import comparing, merging
from medgemma_cli.engines.loading import free_memory, load_model, load_tokenizer, pick_device
from medgemma_cli.errors import ConfigError, ModelUnavailableError
from medgemma_cli.exporting.agreement import Agreement
from medgemma_cli.records import Precision

# What goes along byte for byte. No other file of the base's folder does.
_ALONG = {
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
    "processor_config.json", "preprocessor_config.json", "generation_config.json", "LICENSE",
    "LICENSE.md", "LICENSE.txt",
}  # fmt: skip
_MADE = {".json", ".safetensors"}


class Maker:
    """One merge. The device holds one model at a time.

    Args:
        base: a checkpoint whose files are here.
        step: told of slow steps.

    Attributes:
        precision: what the models compute in: fp32 where that fits, else bf16. The sums of the
            merge are in fp32 in any case.
    """

    def __init__(
        self, base: models.Checkpoint, adapter: Adapter, device: str, step: models.Step
    ) -> None:
        assert base.path is not None
        self._path = base.path
        self._adapter = adapter
        self._step = step
        self._multimodal = models.is_multimodal(models.config(base.path))
        self._device = pick_device(device)
        self.precision = self._fitting(models.parameters(base) or 0)
        self._encoder = self._encoder_of(base.path)
        self._probes = comparing.probes(self._encoder)
        self._seen: list[comparing.Seen] = []
        self._plain: list[comparing.Seen] = []

    def _fitting(self, weights: int) -> Precision:
        free = free_memory(self._device)
        wanted: tuple[Precision, ...] = ("fp32", "bf16")
        for precision in wanted:
            if models.memory_needed(weights, precision) <= free:
                return precision
        need = models.memory_needed(weights, "bf16")
        raise ModelUnavailableError(
            f"The merge needs about {need / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free on "
            f"{self._device}.",
            "A quantised base cannot be merged into: try --device cpu, or free some memory.",
        )

    def _encoder_of(self, folder: Path) -> Encoder:
        return Encoder(*load_tokenizer(folder, self._multimodal))

    def _load(self, folder: Path, adapter: Adapter | None) -> Any:
        return load_model(
            folder,
            multimodal=self._multimodal,
            precision=self.precision,
            device=self._device,
            double_quant=False,
            adapter=adapter,
        )

    def write(self, folder: Path, kind: merging.Kind) -> tuple[list[str], list[str]]:
        """Write the checkpoint; the names of files made, and of those that are the base's.

        Raises:
            ModelUnavailableError: 69. ConfigError: 78, it cannot be merged.
            OSError: it cannot be written.
        """
        self._step(f"loading base and adapter ({self.precision} on {self._device})", 0, 0)
        model = self._load(self._path, self._adapter)
        image = self._encoder.image_id
        self._step("asking base and adapter", 0, 0)
        self._seen = comparing.look(model, self._probes, image)
        merging.enable(model, on=False)
        self._plain = comparing.again(model, self._probes, self._seen, image)
        merging.enable(model, on=True)
        self._step(f"merging ({kind})", 0, 0)
        merging.merge(model, kind)
        merging.save(model, folder)
        along = sorted(name for name in _ALONG if (self._path / name).is_file())
        made = sorted(path.name for path in folder.iterdir() if path.suffix in _MADE)
        for name in along:
            shutil.copyfile(self._path / name, folder / name)
        del model
        self._release()
        return [name for name in made if name not in along], along

    def compare(self, folder: Path) -> Agreement:
        """Load what was written, and ask it the same.

        Raises:
            ModelUnavailableError: 69, it cannot be loaded. ConfigError: 78, prompts become other
                tokens with it.
        """
        self._step("loading what was written", 0, 0)
        encoder = self._encoder_of(folder)
        if [probe.ids for probe in comparing.probes(encoder)] != [p.ids for p in self._probes]:
            raise ConfigError(
                "The written tokenizer is not that of the base.", "Fetch the base again."
            )
        model = self._load(folder, None)
        self._step("asking what was written", 0, 0)
        merged = comparing.again(model, self._probes, self._seen, encoder.image_id)
        del model
        self._release()
        return comparing.agreement(self._seen, merged, self._plain)

    def _release(self) -> None:
        gc.collect()
        if self._device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()
