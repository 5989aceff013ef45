"""Lessons → the tensors of a pass. Images are decoded when their turn comes, not kept."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from medgemma_cli.engines import vision
from medgemma_cli.engines.tuning.lessons import IGNORED, Lesson
from medgemma_cli.records import Image
from medgemma_cli.tuning.pictures import Picture

if TYPE_CHECKING:
    import torch


class Collator:
    """Makes a batch of lessons that the trainer names by their index.

    Args:
        pad: the id that fills up on the right.
        image: the id that stands for a piece of an image; -1: the model reads text only.
        processor: of a multimodal checkpoint; it is asked only where there are images.
        look: decodes an image.
    """

    def __init__(
        self,
        lessons: Sequence[Lesson],
        *,
        pad: int,
        image: int,
        processor: Any | None,
        look: Callable[[Picture], Image],
    ) -> None:
        self._lessons = lessons
        self._pad = pad
        self._image = image
        self._processor = processor
        self._look = look

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, "torch.Tensor"]:
        """Ids, labels and masks of shape (rows, longest); pixels (images, 3, height, width)."""
        import torch

        taken = [self._lessons[row["index"]] for row in rows]
        longest = max(len(one.ids) for one in taken)
        ids = self._filled([one.ids for one in taken], longest, self._pad)
        made = {
            "input_ids": ids,
            "labels": self._filled([one.labels for one in taken], longest, IGNORED),
            "attention_mask": self._filled([[1] * len(one.ids) for one in taken], longest, 0),
        }
        if self._processor is not None:
            # What marks the pieces of an image, which see each other both ways.
            made["token_type_ids"] = (ids == self._image).long()
        if pixels := [self._pixels(shown) for one in taken for shown in one.pictures]:
            made["pixel_values"] = torch.stack(pixels)
        return made

    def _pixels(self, shown: Picture) -> "torch.Tensor":
        return vision.pixels(self._processor, self._look(shown))

    @staticmethod
    def _filled(rows: list[list[int]], longest: int, filling: int) -> "torch.Tensor":
        import torch

        return torch.tensor([row + [filling] * (longest - len(row)) for row in rows])
