"""The versions of a net whose pairs the delta benchmark packs.

`python -m benchmarks._delta_train FOLDER [--seed N] [--quick]` writes them as float32
ONNX; what is there already is kept. Version 1 learns from 20,000 training pictures of
Fashion-MNIST. The others go on from it with 6,000 that it has not seen, but `scratch`,
which begins anew with another seed.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks._found import tell
from benchmarks.nets.places import FASHION, keep
from benchmarks.nets.torch_depthwise import export, read_pictures
from benchmarks.nets.torch_mobilenet import (
    MobileNet,
    Schooling,
    new_net,
    shift,
    train,
)

COUNTS = {"first": 20_000, "later": 6000, "calibration": 300, "selection": 6000}
QUICK_COUNTS = {"first": 640, "later": 256, "calibration": 32, "selection": 100}
FIRST_BATCH, BATCH = 64, 128
VERSIONS = ("v1", "head", "head_norms", "finetune", "drift", "scratch")

Part = tuple[Tensor, Tensor]


def read_parts(seed: int, *, quick: bool) -> dict[str, Part]:
    """Pictures and labels by part: none of the training pictures is in two.

    `test` are the test pictures.
    """
    pictures, labels = _read("train")
    counts = QUICK_COUNTS if quick else COUNTS
    order = np.random.default_rng([seed, 9]).permutation(len(labels))
    ends = np.cumsum(list(counts.values()))
    places = map(torch.from_numpy, np.split(order[: ends[-1]], ends[:-1]))
    parts = {
        name: (pictures[some], labels[some])
        for name, some in zip(counts, places, strict=True)
    }
    test = _read("t10k")
    return {**parts, "test": tuple(one[:400] if quick else one for one in test)}


def _read(which: str) -> Part:
    names = (f"{which}-{one}-ubyte.gz" for one in ("images-idx3", "labels-idx1"))
    return read_pictures(*(FASHION / name for name in names))


def make_versions(folder: Path, seed: int, *, quick: bool) -> Mapping[str, Path]:
    """Train what is not there yet, and give the file of each version.

    Args:
        folder: Where they are kept.
        seed: Of the training, and of which pictures go where.
        quick: A handful of pictures.
    """
    parts = read_parts(seed, quick=quick)
    later = parts["later"]
    both = (torch.cat([later[0], shift(later[0])]), torch.cat([later[1], later[1]]))
    ends = f"-seed{seed}{'-quick' * quick}.onnx"

    def make(name: str, build: Callable[[], MobileNet]) -> Path:
        def write(path: Path) -> None:
            began = time.process_time()
            net = build()
            path.write_bytes(export(net))
            kept_s = time.process_time() - began
            right, turned = (_right(net, parts["test"], move) for move in MOVES)
            tell(f"{name}{ends}: {right:.4f}, shifted {turned:.4f}, {kept_s:.0f} s")
            if name == "v1":
                torch.save(net.state_dict(), first)

        return keep(folder / f"{name}{ends}", write)

    first = folder / f"v1{ends}".replace(".onnx", ".pt")
    learn = Schooling(
        epochs=2,
        learning_rate=1e-3,
        batch=FIRST_BATCH,
        seed=seed,
        is_norm_frozen=False,
    )
    found = {"v1": make("v1", lambda: train(new_net(seed), *parts["first"], learn))}
    start = new_net(seed)
    start.load_state_dict(torch.load(first, weights_only=True))

    def further(name: str, part: Part, **given: float) -> None:
        schooling = Schooling(seed=seed + 100, batch=BATCH, **{"epochs": 1, **given})
        found[name] = make(name, lambda: train(copy.deepcopy(start), *part, schooling))

    further("head", later, learning_rate=1e-3, is_head_only=True)
    further(
        "head_norms",
        later,
        learning_rate=1e-3,
        is_head_only=True,
        is_norm_frozen=False,
    )
    further("finetune", later, learning_rate=1e-4)
    further("drift", both, learning_rate=3e-4, epochs=2)
    other = seed + 50
    found["scratch"] = make(
        "scratch", lambda: train(new_net(other), *parts["first"], learn)
    )
    return found


MOVES: tuple[Callable[[Tensor], Tensor], ...] = (lambda pictures: pictures, shift)


def _right(net: MobileNet, part: Part, move: Callable[[Tensor], Tensor]) -> float:
    """The fraction of pictures that it tells right."""
    with torch.inference_mode():
        answers = [net(move(some)).argmax(1) for some in part[0].split(BATCH)]
    return float((torch.cat(answers) == part[1]).float().mean())


def main() -> None:
    """Train and write as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks._delta_train")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    make_versions(chosen.folder, chosen.seed, quick=chosen.quick)


if __name__ == "__main__":
    main()
