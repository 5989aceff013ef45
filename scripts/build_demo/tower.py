"""The demo model's eye, in two stages.

    python -m scripts.build_demo.tower pretrain -o STAGE1
    python -m scripts.build_demo.tower align --base MODEL --tower STAGE1/sight.safetensors -o STAGE2

Both go on from their last checkpoint when they are run again with the same settings.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from scripts.build_demo.gallery import told


def _tell(figures: dict[str, Any]) -> None:
    sys.stdout.write(told(figures) + "\n")
    sys.stdout.flush()


def _pretrain(arguments: argparse.Namespace) -> None:
    from scripts.build_demo.pretraining import Settings, pretrain

    settings = Settings(
        images=arguments.images,
        passes=arguments.passes,
        batch=arguments.batch,
        seed=arguments.seed,
    )
    pretrain(arguments.out, settings, arguments.checked, _tell)


def _align(arguments: argparse.Namespace) -> None:
    from scripts.build_demo.aligning import Settings, align

    settings = Settings(steps=arguments.steps, batch=arguments.batch, seed=arguments.seed)
    align(arguments.base, arguments.adapter, arguments.tower, arguments.out, settings, _tell)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the demo model's eye.")
    stages = parser.add_subparsers(required=True)
    first = stages.add_parser("pretrain", help="stage 1: the tower alone, on labels")
    first.add_argument("--images", type=int, default=8000)
    first.add_argument("--passes", type=int, default=3)
    first.add_argument("--batch", type=int, default=16)
    first.add_argument("--checked", type=int, default=600, help="held out, of another seed")
    first.set_defaults(run=_pretrain)
    second = stages.add_parser("align", help="stage 2: against the frozen language model")
    second.add_argument("--base", type=Path, required=True, help="a folder with the text model")
    second.add_argument("--adapter", type=Path, help="a LoRA adapter to merge into it first")
    second.add_argument("--tower", type=Path, required=True, help="sight.safetensors of stage 1")
    second.add_argument("--steps", type=int, default=240)
    second.add_argument("--batch", type=int, default=16)
    second.set_defaults(run=_align)
    for stage in (first, second):
        stage.add_argument("--seed", type=int, default=1)
        stage.add_argument("-o", "--out", type=Path, required=True)
    return parser


def main() -> None:
    """The command line."""
    arguments = _parser().parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
