"""The demo model's eye, in three stages.

    python -m scripts.build_demo.tower pretrain -o STAGE1
    python -m scripts.build_demo.tower name --base MODEL --tower STAGE1/sight.safetensors -o STAGE2
    python -m scripts.build_demo.tower align --base MODEL --adapter ADAPTER \\
        --tower STAGE2/sight.safetensors -o STAGE3

Each goes on from its last checkpoint when it is run again with the same settings.
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


def _name(arguments: argparse.Namespace) -> None:
    from scripts.build_demo import naming

    course = _course(naming.COURSE, arguments)
    naming.name(arguments.base, arguments.tower, arguments.out, course, _tell)


def _align(arguments: argparse.Namespace) -> None:
    from scripts.build_demo import aligning

    course = _course(aligning.COURSE, arguments)
    aligning.align(arguments.base, arguments.adapter, arguments.tower, arguments.out, course, _tell)


def _course(usual: Any, arguments: argparse.Namespace) -> Any:
    asked = {name: getattr(arguments, name) for name in ("steps", "batch", "seed")}
    return usual._replace(**{name: value for name, value in asked.items() if value is not None})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train the demo model's eye.")
    stages = parser.add_subparsers(required=True)
    first = stages.add_parser("pretrain", help="stage 1: the tower alone, on labels")
    first.add_argument("--images", type=int, default=8000)
    first.add_argument("--passes", type=int, default=3)
    first.add_argument("--batch", type=int, default=16)
    first.add_argument("--checked", type=int, default=600, help="held out, of another seed")
    first.set_defaults(run=_pretrain)
    second = stages.add_parser("name", help="stage 2: the words that describe")
    second.set_defaults(run=_name)
    third = stages.add_parser("align", help="stage 3: against the frozen language model")
    third.add_argument("--adapter", type=Path, help="a LoRA adapter to merge into it first")
    third.set_defaults(run=_align)
    first.add_argument("--seed", type=int, default=1)
    for stage in (second, third):
        stage.add_argument("--base", type=Path, required=True, help="a folder with the text model")
        stage.add_argument("--tower", type=Path, required=True, help="the last stage's weights")
        stage.add_argument("--steps", type=int)
        stage.add_argument("--batch", type=int)
        stage.add_argument("--seed", type=int)
    for stage in (first, second, third):
        stage.add_argument("-o", "--out", type=Path, required=True)
    return parser


def main() -> None:
    """The command line."""
    arguments = _parser().parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
