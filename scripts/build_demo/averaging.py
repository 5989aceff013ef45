"""An adapter and one that was tuned on from it → their weighted mean.

    python -m scripts.build_demo.averaging --first ADAPTER1 --second ADAPTER2 --share 0.7 -o ADAPTER

What the second learned stays, and some of what it forgot comes back (Wortsman et al. 2022,
https://arxiv.org/abs/2109.01903). There whole weights are averaged; here A and B of LoRA, each by
itself, which comes near it as long as the second is not far from the first.
"""

import argparse
import json
import shutil
from pathlib import Path

from medgemma_cli.adapters import CONFIG, WEIGHTS, metadata


def average(first: Path, second: Path, share: float, out: Path) -> None:
    """Write an adapter with `share` of the second's weights and the rest of the first's.

    Raises:
        SystemExit: their layers or their shapes are not the same.
    """
    from safetensors.torch import load_file, save_file

    one, two = (load_file(folder / WEIGHTS) for folder in (first, second))
    shapes = [{name: value.shape for name, value in weights.items()} for weights in (one, two)]
    alphas = [json.loads((folder / CONFIG).read_text("utf-8")) for folder in (first, second)]
    if shapes[0] != shapes[1] or alphas[0].get("lora_alpha") != alphas[1].get("lora_alpha"):
        raise SystemExit("The adapters have other layers or sizes: the second must come --from.")
    made = {name: (1 - share) * one[name].float() + share * two[name].float() for name in one}
    out.mkdir(parents=True, exist_ok=True)
    save_file(made, out / WEIGHTS, metadata=metadata(second / WEIGHTS))
    shutil.copyfile(second / CONFIG, out / CONFIG)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Average two adapters of one course.")
    parser.add_argument("--first", type=Path, required=True, help="the adapter tuned on from")
    parser.add_argument("--second", type=Path, required=True, help="what came of it")
    parser.add_argument("--share", type=float, required=True, help="of the second, 0 to 1")
    parser.add_argument("-o", "--out", type=Path, required=True)
    chosen = parser.parse_args()
    average(chosen.first, chosen.second, chosen.share, chosen.out)


if __name__ == "__main__":
    main()
