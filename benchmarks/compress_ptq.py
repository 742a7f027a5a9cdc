"""Post-training quantization: ours, and each peer in an environment of its own.

    python -m benchmarks.compress_ptq [--quick] [--work DIR] [--only NET,…]
                                      [--tools TOOL,…] [--stage STAGE]
                                      --json OUT.json

Stages are `make`, `score` and `time`, which `all` does one after the other, and
`costs`: what quantizers take, alone. Its two bars replace those of a result file.

Everything made and measured is kept in the work folder, so a run goes on where the one
before was stopped, and time can be measured later than accuracy, on a quiet machine.
Every quantizer runs on one core, in a process of its own; every model is scored on the
same samples, which no quantizer has seen, and timed in turns with all of its net.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks._compress_ptq_bars import OCR, figures, fixed_cpu, of_net, peak
from benchmarks._compress_ptq_costs import IN_TURNS, Costs, install_mb
from benchmarks._compress_ptq_make import Made, Workshop, digest_files
from benchmarks._compress_ptq_ours import MEMORY_SETTINGS
from benchmarks._compress_ptq_plan import (
    COMPRESS,
    FLOAT,
    OPENVINO,
    ORT,
    OURS,
    QUANTIZERS,
    QUICK,
    Net,
)
from benchmarks._compress_ptq_score import Scorer, Timer
from benchmarks._compress_ptq_table import TOOLS, Board, Entry, draw, rows
from benchmarks._compress_ptq_weights import int8_share
from benchmarks._harness import Outcome, command_line, publish, replace_bars
from benchmarks.nets.case import Case, read_marker
from skerry.core.names import did_you_mean
from skerry.tasks.measure import ChildCost

NAME = "compress_ptq"
WORK = Path("build/bench")
STAGES = ("make", "score", "time", "costs", "all")
STEPS = {"all": ("make", "score", "time"), "costs": ("make",)}
"""What a stage does that is not one step alone."""
SEEDS = (0, 1, 2)
NETS: Mapping[str, Sequence[int]] = {
    OCR: SEEDS,
    "ds": SEEDS,
    "ds_wide": SEEDS,
    "efficientnet_lite0": (0,),
    "efficientnet_lite1": (0,),
    "efficientnet_lite2": (0,),
    "resnet8": (0,),
    "kws": (0,),
    "vww": (0,),
    "yolox_nano": (0,),
    "fastestdet": (0,),
    "rfb320": (0,),
    "centerface": (1,),
}
"""The nets by name, with seeds where lines are drawn or nets trained."""

MANY = "ocr1000"
"""The OCR net with as many calibration images as the bar on memory asks for."""

QUICK_NETS = (OCR,)


class Run:
    """One run of the benchmark, or of some of its stages.

    Args:
        work: Where everything is kept.
        stage: One of `STAGES`.
        tools: Whose models are made and scored; of the others is told what is kept.
        quick: Whether small cases, few quantizers and few rounds will do.
    """

    def __init__(
        self, work: Path, stage: str, tools: Sequence[str], *, quick: bool
    ) -> None:
        self._work = work / "quick" if quick else work
        self._stages = STEPS.get(stage, (stage,))
        self._tools = (FLOAT, *tools)
        self._quick = quick
        self._shop = Workshop(self._work, tell)
        self._scorer = Scorer(self._work, tell)
        self._timer = Timer(self._work, tell, quick=quick)
        self._costs = Costs(self._work, self._shop, tell)
        self._names = QUICK if quick else tuple(QUANTIZERS)

    def board(self, net: Net) -> Board:
        """Do what the stages ask for on one net, and tell all that is known of it."""
        if problem := self._case(net):
            return Board(net=net, missing=problem)
        source = Case.read(net.folder).model
        float_made = Made(
            key="",
            model=source.path.name,
            sha256=digest_files([source.path]),
            size_bytes=source.size_bytes,
        )
        entries = [self._scored(net, FLOAT, float_made, source.path)]
        for name in self._names:
            is_asked = QUANTIZERS[name].tool in self._tools
            make = is_asked and "make" in self._stages
            made = (self._shop.make if make else self._shop.look)(net, name)
            path = self._shop.folder(net, name) / made.model if made.model else None
            entries.append(self._scored(net, name, made, path))
        board = Board(net=net, entries=tuple(entries))
        return self._timed(board)

    def costs(self, net: Net) -> Board:
        """What the quantizers took on one net whose cost a bar compares."""
        if problem := self._case(net):
            return Board(net=net, missing=problem)
        entries: tuple[Entry, ...] = ()
        if net.name == OCR:
            entries = (Entry(by=COMPRESS, made=self._shop.make(net, COMPRESS)),)
        return Board(net=net, entries=entries, costs=self._costs.measure(net, IN_TURNS))

    def memory(self, net: Net) -> dict[str, ChildCost]:
        """What each method of ours takes on many images of a net."""
        if OURS not in self._tools:
            return {}
        if problem := self._case(net):
            tell(f"{net.label}: {problem}")
            return {}
        act = self._shop.make if "make" in self._stages else self._shop.look
        return {
            name: made.cost for name in MEMORY_SETTINGS if (made := act(net, name)).cost
        }

    def install_mb(self) -> float | None:
        """What an installation takes; not in a quick run."""
        if self._quick:
            return None
        return install_mb(self._work, tell, is_allowed="make" in self._stages)

    def _case(self, net: Net) -> str:
        """Write a net's case unless it is there; say why there is none."""
        if read_marker(net.folder) is not None:
            return ""
        if "make" not in self._stages:
            return "missing: not made yet"
        tell(f"{net.label}: the net and its samples")
        command = [sys.executable, "-m", "benchmarks.nets", net.name, str(net.folder)]
        more = ["--seed", str(net.seed), *(["--quick"] if self._quick else [])]
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, check=False
        )
        said = done.stderr.strip().splitlines()
        return f"missing: {' '.join(said[-2:])}" if done.returncode else ""

    def _scored(self, net: Net, name: str, made: Made, path: Path | None) -> Entry:
        if path is None:
            return Entry(by=name, made=made)
        runtimes = QUANTIZERS[name].runtimes[:1] if name in QUANTIZERS else (ORT,)
        score = partial(self._scorer.look, net, name, made.sha256)
        tool = QUANTIZERS[name].tool if name in QUANTIZERS else FLOAT
        if "score" in self._stages and tool in self._tools:
            score = partial(self._scorer.score, net, name, path, made.sha256)
        return Entry(
            by=name,
            made=made,
            scores={runtime: score(runtime) for runtime in runtimes},
            int8_share=int8_share(net.folder / "model.onnx", path),
        )

    def _timed(self, board: Board) -> Board:
        models = {
            entry.by: (self._path(board.net, entry), entry.made.sha256)
            for entry in board.entries
            if entry.made.model
        }
        times = {}
        for runtime in (ORT, OPENVINO):
            wanted = {
                name: model
                for name, model in models.items()
                if name == FLOAT or runtime in QUANTIZERS[name].runtimes
            }
            if "time" in self._stages:
                times[runtime] = self._timer.time(board.net, wanted, runtime)
            elif (kept := self._timer.look(board.net, runtime)) is not None:
                times[runtime] = kept
        entries = tuple(
            Entry(
                by=entry.by,
                made=entry.made,
                scores=entry.scores,
                int8_share=entry.int8_share,
                ratios={
                    runtime: timed.ratios[entry.by]
                    for runtime, timed in times.items()
                    if timed.shas.get(entry.by) == entry.made.sha256
                    and entry.by in timed.ratios
                },
                failures={
                    runtime: timed.failed[entry.by]
                    for runtime, timed in times.items()
                    if entry.by in timed.failed
                },
            )
            for entry in board.entries
        )
        act = self._costs.measure if "time" in self._stages else self._costs.look
        costs = {} if self._quick else act(board.net, tuple(models))
        return Board(net=board.net, entries=entries, costs=costs)

    def _path(self, net: Net, entry: Entry) -> Path:
        if entry.by == FLOAT:
            return net.folder / entry.made.model
        return self._shop.folder(net, entry.by) / entry.made.model


def tell(what: str) -> None:
    """Say what is under way."""
    print(what, file=sys.stderr, flush=True)


def split_names(text: str) -> list[str]:
    """Read names with commas between them."""
    return [name for name in text.split(",") if name]


def check_names(what: str, asked: Sequence[str], known: Collection[str]) -> None:
    """Take only names that there are.

    Raises:
        SystemExit: There is none of a name.
    """
    for name in asked:
        if name not in known:
            sys.exit(f"there is no {what} {name!r}. {did_you_mean(name, known)}")


def find_nets(only: str, work: Path, *, quick: bool) -> list[Net]:
    """The nets that the command line asks for, each with its seeds.

    Raises:
        SystemExit: It asks for one that there is not.
    """
    asked = split_names(only)
    check_names("net", asked, NETS)
    chosen = asked or (QUICK_NETS if quick else tuple(NETS))
    cases = (work / "quick" if quick else work) / "cases"
    return [
        Net(name=name, seed=seed, folder=cases / f"{name}-seed{seed}")
        for name in chosen
        for seed in (NETS[name][:1] if quick else NETS[name])
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for, and write all that is known."""
    parser = command_line(NAME)
    parser.add_argument("--work", type=Path, default=WORK, help="what is kept")
    parser.add_argument("--only", default="", metavar="NET,…", help="of the nets")
    parser.add_argument("--stage", choices=STAGES, default="all")
    parser.add_argument("--tools", default="", metavar="TOOL,…", help="of the tools")
    chosen = parser.parse_args(arguments)
    tools = split_names(chosen.tools) or list(TOOLS)
    check_names("tool", tools, TOOLS)
    run = Run(chosen.work, chosen.stage, tools, quick=chosen.quick)
    nets = find_nets(chosen.only, chosen.work, quick=chosen.quick)
    act = run.costs if chosen.stage == "costs" else run.board
    boards = [act(net) for net in nets]
    memory: dict[str, ChildCost] = {}
    if of_net(boards, OCR) and not chosen.quick:
        folder = nets[0].folder.with_name(f"{MANY}-seed0")
        memory = run.memory(Net(name=MANY, seed=0, folder=folder))
    if chosen.stage == "costs":
        replace_bars(NAME, [peak(boards, memory), fixed_cpu(boards)], chosen.json)
        return
    outcome = Outcome(
        rows=[row for board in boards for row in rows(board)],
        measured=figures(boards, memory=memory, install_mb=run.install_mb()),
        draw=partial(draw, boards),
    )
    publish(NAME, outcome, chosen.json)


if __name__ == "__main__":
    main()
