"""A worker on a made-up score, to be killed: `python -m … FOLDER MOST WAIT_S`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from skerry.compress.tune.loop import work
from skerry.compress.tune.sampler import Proposer, RandomSampler
from skerry.compress.tune.store import Store
from skerry.compress.tune.trial import Outcome, Trial
from skerry.core.recipe import Recipe
from tests.tuning import SPACE, score


def main(folder: str, most: str, wait_s: str) -> None:
    """Work until nothing is left."""

    def slowly(recipe: Recipe, others: Sequence[Trial]) -> Outcome:
        time.sleep(float(wait_s))
        return score(recipe, others)

    proposer = Proposer(space=SPACE, sampler=RandomSampler(SPACE))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    work(Store(Path(folder)), proposer, slowly, most=int(most))


if __name__ == "__main__":
    main(*sys.argv[1:])
