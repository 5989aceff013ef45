"""The training itself: TRL's SFTTrainer on a model with LoRA layers, fresh or an adapter's."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from medgemma_cli.adapters import Adapter
from medgemma_cli.engines import adapting
from medgemma_cli.engines.loading import Loaded
from medgemma_cli.engines.tuning import watching
from medgemma_cli.engines.tuning.batches import Collator
from medgemma_cli.engines.tuning.lessons import IGNORED, Lesson
from medgemma_cli.errors import ConfigError, DocumentError, ModelUnavailableError, StorageError
from medgemma_cli.records import Image
from medgemma_cli.tuning.book import Book, storing
from medgemma_cli.tuning.pictures import Picture
from medgemma_cli.tuning.settings import Course, Settings

_KEPT = 2


class Data(NamedTuple):
    """What is learned from, and what only measures; an image's pixels come by `look`."""

    train: list[Lesson]
    validation: list[Lesson]
    look: Callable[[Picture], Image]


def train(
    loaded: Loaded,
    image: int,
    data: Data,
    settings: Settings,
    course: Course,
    book: Book,
    watch: watching.Watch,
    ready: Callable[[], None],
    *,
    start: Adapter | None = None,
) -> None:
    """Train until the course's end, or until the watch ends it; goes on from a checkpoint.

    Args:
        image: the id that stands for a piece of an image.
        ready: called when nothing stands in the way of the first step any more.
        start: an adapter to begin with.

    Raises:
        ModelUnavailableError: 69, out of memory. ConfigError: 78, an image changed meanwhile, the
            loss is not finite, or the adapter to begin with does not fit. StorageError: 74, a
            checkpoint cannot be written.
    """
    with _telling():
        model = with_lora(loaded.model, settings, start)
        ready()
        if loaded.device == "cpu":
            # Of what a CPU can do, the plain form has the quickest backward pass.
            loaded.model.set_attn_implementation("eager")
        trainer = _trainer(model, loaded, image, data, settings, course, book)
        trainer.add_callback(watching.callback(watch))
        last = book.last()
        trainer.train(resume_from_checkpoint=str(book.checkpoint(last)) if last else None)


def with_lora(model: Any, settings: Settings, start: Adapter | None = None) -> Any:
    """The model with LoRA layers, which alone can learn; A is random, B zero, or an adapter's.

    Raises:
        ConfigError: 78, the adapter to begin with does not fit the model.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(settings.seed)
    model.config.use_cache = False
    if start is not None:
        return adapting.trainable(model, start, settings.dropout)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=adapting.targets(settings.modules or adapting.MODULES),
        task_type="CAUSAL_LM",
    )
    model.requires_grad_(False)
    return get_peft_model(model, config)


def _arguments(
    loaded: Loaded, data: Data, settings: Settings, course: Course, book: Book
) -> dict[str, Any]:
    return {
        "output_dir": str(book.checkpoints),
        "per_device_train_batch_size": settings.batch,
        "per_device_eval_batch_size": settings.batch,
        "gradient_accumulation_steps": settings.accumulate,
        "learning_rate": settings.learning_rate,
        "warmup_steps": course.warm,
        "lr_scheduler_type": "linear",
        "max_steps": course.total,
        "gradient_checkpointing": settings.checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        # Weights of the adapter are fp32; beside a bf16 base they are rounded for each product.
        "bf16": _rounds(loaded),
        "fp16": False,
        "seed": settings.seed,
        "data_seed": settings.seed,
        "eval_strategy": "steps" if data.validation else "no",
        "save_strategy": "steps",
        "eval_steps": course.every,
        "save_steps": course.every,
        "save_total_limit": _KEPT,
        # The best checkpoint is kept beside the last ones.
        "metric_for_best_model": "eval_loss" if data.validation else None,
        "greater_is_better": False if data.validation else None,
        "load_best_model_at_end": False,
        "logging_steps": max(1, course.every // 10),
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": "none",
        "push_to_hub": False,
        "remove_unused_columns": False,
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "dataloader_pin_memory": loaded.device.startswith("cuda"),
        "use_cpu": loaded.device == "cpu",
    }


def _trainer(
    model: Any,
    loaded: Loaded,
    image: int,
    data: Data,
    settings: Settings,
    course: Course,
    book: Book,
) -> Any:
    """A trainer that names examples by number: no text reaches a cache of its library."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig

    first = len(data.train)
    rows = [Dataset.from_dict({"index": list(range(first))}), None]
    if data.validation:
        rows[1] = Dataset.from_dict({"index": list(range(first, first + len(data.validation)))})
    arguments = SFTConfig(**_arguments(loaded, data, settings, course, book))
    _one_device(arguments, loaded.device)
    kind = _on_cpu() if loaded.device == "cpu" else _private()
    trainer = kind(
        model=model,
        args=arguments,
        train_dataset=rows[0],
        eval_dataset=rows[1],
        processing_class=loaded.tokenizer,
        data_collator=Collator(
            [*data.train, *data.validation],
            pad=loaded.tokenizer.pad_token_id or 0,
            image=image,
            processor=loaded.processor,
            look=data.look,
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.processing_class = None  # or every checkpoint would have a copy of it
    for parameter in model.parameters():
        if parameter.requires_grad:
            # TRL casts those on a quantised base to bf16, which loses small steps.
            parameter.data = parameter.data.float()
    return trainer


def _one_device(arguments: Any, device: str) -> None:
    """Of several GPUs only the one that the model is on."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.set_device(torch.device(device).index or 0)
        _ = arguments.device  # counts the GPUs
        arguments._n_gpu = 1


def _rounds(loaded: Loaded) -> bool:
    import torch

    return bool(loaded.model.dtype == torch.bfloat16)


def _private() -> Any:
    """TRL's trainer without what it tells its makers, and without pages for the hub."""
    from trl import SFTTrainer

    class Trainer(SFTTrainer):  # type: ignore[misc]
        """Tells nobody anything."""

        def _send_telemetry(self) -> None:
            return

        def create_model_card(self, *args: Any, **more: Any) -> None:
            """None."""

    return Trainer


def _on_cpu() -> Any:
    """The same trainer, whose loss is made quicker where there is no GPU.

    TRL scores every token of the prompt against the whole vocabulary there, to keep shapes still
    for compilers. Over half of the time of a step goes into words that nobody asked about.
    """

    class Trainer(_private()):  # type: ignore[misc]
        """Scores the answer alone."""

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            """Negative log-likelihood of the labelled tokens, a token, in nats."""
            loss = _loss(model.get_base_model(), inputs, num_items_in_batch, rounds=self.args.bf16)
            return (loss, {"loss": loss}) if return_outputs else loss

    return Trainer


def _loss(model: Any, inputs: dict[str, Any], count: Any, *, rounds: bool) -> Any:
    """Over the labelled tokens, divided by `count` (of all batches of a step), else by their own.

    Args:
        rounds: compute in bf16.
    """
    import torch
    from torch.nn.functional import cross_entropy

    rest = {name: value for name, value in inputs.items() if name != "labels"}
    labels = inputs["labels"][:, 1:]
    wanted = labels[labels != IGNORED]
    with torch.autocast("cpu", torch.bfloat16, enabled=rounds):
        hidden = model.base_model(**rest, use_cache=False).last_hidden_state[:, :-1]
        # Of two dimensions: for three, the weights are copied at each product.
        logits = model.get_output_embeddings()(hidden[labels != IGNORED])
    total = cross_entropy(logits.float(), wanted, reduction="sum")
    return total / (len(wanted) if count is None else count)


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Errors of libraries as ours: what to do about them, and none of their words."""
    import torch
    from safetensors import SafetensorError

    try:
        with storing():
            yield
    except torch.OutOfMemoryError:
        raise ModelUnavailableError(
            "The training does not fit into the device's memory.",
            "Lower --batch-size (and raise --accumulate) or --max-tokens; or --precision nf4.",
        ) from None
    except SafetensorError:
        raise _not_stored() from None
    except RuntimeError as error:
        # torch has no class of its own for a file that cannot be written.
        if not any(name in str(error) for name in ("PytorchStream", "inline_container")):
            raise
        raise _not_stored() from None
    except DocumentError:
        raise ConfigError(
            "An image of the examples changed while it was trained on.",
            "Leave the images as they are, and give another -o.",
        ) from None


def _not_stored() -> StorageError:
    return StorageError(
        "A checkpoint cannot be written or read.",
        "Make room, then run the same command again; it goes on.",
    )
