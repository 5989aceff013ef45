"""Images → what the text model reads in their place. The tower sees each picture once a run."""

import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from medgemma_cli.engines.timing import Timing
from medgemma_cli.records import Image

if TYPE_CHECKING:
    import torch

# At once: 896 pixels a side are 4,096 patches, and each takes its place in every layer.
AT_ONCE = 8
# A picture is 256 tokens, 1.3 MB for the 4B: enough for a series that is asked about again.
_KEPT = 256


def pixels(processor: Any, image: Image) -> "torch.Tensor":
    """Shape (3, height, width), fp32; resized and normalised as the checkpoint wants it."""
    from PIL import Image as Pillow

    picture = Pillow.frombytes("RGB", (image.width, image.height), image.rgb)
    made: torch.Tensor = processor.image_processor(images=[picture], return_tensors="pt")[
        "pixel_values"
    ][0]
    return made


def digest(image: Image) -> bytes:
    """What makes two images the same picture."""
    made = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    made.update(image.rgb)
    return made.digest()


class Eye:
    """The vision tower of a loaded model, with what it saw last.

    Args:
        at_once: pictures of one pass; their neighbours may change their last bits.
    """

    def __init__(self, model: Any, timing: Timing, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._model = model
        self._timing = timing
        self._seen: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def features(self, pictures: list[tuple[bytes, "torch.Tensor"]]) -> "torch.Tensor":
        """What stands for the pictures, one after the other: (pictures × tokens, hidden)."""
        import torch

        started = time.perf_counter()
        wanted = dict(pictures)
        found = {name: self._seen[name] for name in wanted if name in self._seen}
        missing = [name for name in wanted if name not in found]
        for start in range(0, len(missing), self._at_once):
            names = missing[start : start + self._at_once]
            made = self._look(torch.stack([wanted[name] for name in names]))
            found |= dict(zip(names, made, strict=True))
        self._remember(found)
        joined = torch.cat([found[name] for name, _ in pictures])
        if joined.device.type == "cuda":
            torch.cuda.synchronize(joined.device)
        self._timing.images += len(missing)
        self._timing.vision += time.perf_counter() - started
        return joined

    def _look(self, pictures: "torch.Tensor") -> "torch.Tensor":
        """Shape (pictures, tokens, hidden)."""
        model = self._model
        made = model.get_image_features(pictures.to(model.device, model.dtype))
        features: torch.Tensor = made.pooler_output
        return features

    def _remember(self, found: dict[bytes, "torch.Tensor"]) -> None:
        for name, features in found.items():
            self._seen[name] = features
            self._seen.move_to_end(name)
        while len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
