"""What the device did with its time."""

from dataclasses import dataclass


@dataclass
class Timing:
    """Seconds and counts of one engine, added up over its life.

    Attributes:
        prompt_tokens: tokens that went in with prompts, those of a shared beginning once.
        new_tokens: tokens of answers that went in, forced ones too; an answer's last never does.
        images: images that the vision tower encoded.
        passes: forward passes of decoding.
        prefill: seconds of showing prompts to the model, without the vision tower.
        decode: seconds of decoding, masks and sampling among them.
        vision: seconds of the vision tower.
        idle: seconds in which the device had work to wait for: nothing was read yet.
    """

    prompt_tokens: int = 0
    new_tokens: int = 0
    images: int = 0
    passes: int = 0
    prefill: float = 0.0
    decode: float = 0.0
    vision: float = 0.0
    idle: float = 0.0

    @property
    def busy(self) -> float:
        """Share of the time, 0 to 1, in which the device had something to do."""
        worked = self.prefill + self.decode + self.vision
        return worked / (worked + self.idle) if worked else 0.0
