"""The table of commands: the one place that says what `skerry` can do.

Nothing named here is imported before its command runs.
"""

from __future__ import annotations

from dataclasses import dataclass

SUMMARY = "Take a trained model and keep it running, well, on a whole fleet."

_ROOM = "skerry.app.commands"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    Attributes:
        name: What is typed after `skerry`, one or two words.
        run: Where its function is, as `module:name`; the function returns a result.
        render: Where the function is that renders such a result for people.
        summary: One line for the list of commands.
        examples: Command lines without `skerry`, shown at the end of its help.
    """

    name: str
    run: str
    render: str
    summary: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The first word of two-word commands."""

    name: str
    summary: str


GROUPS = (
    Group(name="report", summary="Read the evidence of a compression."),
    Group(name="runtime", summary="See what runs models here."),
    Group(name="target", summary="See what pieces of hardware can do."),
    Group(name="toolchain", summary="Install and run vendors' tools in isolation."),
)

COMMANDS = (
    Command(
        name="compress",
        run=f"{_ROOM}.compress:compress",
        render=f"{_ROOM}.compress:render_compress",
        summary="Quantize a model as far as a budget allows, and prove it.",
        examples=(
            "compress m.onnx --calibration a.npz --evaluation b.npz --task task.toml",
            "compress m.onnx --calibration a --evaluation b --task t.toml --out small",
        ),
    ),
    Command(
        name="demo",
        run=f"{_ROOM}.demo:demo",
        render=f"{_ROOM}.demo:render_demo",
        summary="Show what Skerry does, on a real production model.",
        examples=("demo", "demo --out out", "demo --json"),
    ),
    Command(
        name="doctor",
        run=f"{_ROOM}.doctor:doctor",
        render=f"{_ROOM}.doctor:render_doctor",
        summary="Say what works on this machine, and what to install for the rest.",
        examples=("doctor", "doctor --json"),
    ),
    Command(
        name="init",
        run=f"{_ROOM}.init:init",
        render=f"{_ROOM}.init:render_init",
        summary="Guess what a model is for, show it on six samples, write skerry.toml.",
        examples=("init model.onnx photos/", "init model.onnx digits.npz --force"),
    ),
    Command(
        name="inspect",
        run=f"{_ROOM}.inspect:inspect",
        render=f"{_ROOM}.inspect:render_inspect",
        summary="Say what a model is, and what one inference costs.",
        examples=("inspect model.onnx", "inspect model.onnx --shape x=1x3x48x320"),
    ),
    Command(
        name="audit",
        run=f"{_ROOM}.audit:audit",
        render=f"{_ROOM}.audit:render_audit",
        summary="Say what a target would make of a model, without running it.",
        examples=(
            "audit model.onnx",
            "audit model.onnx --target ethos-u55-128 --shape x=1x3x48x320",
        ),
    ),
    Command(
        name="compare",
        run=f"{_ROOM}.compare:compare",
        render=f"{_ROOM}.compare:render_compare",
        summary="Run one model on several runtimes: the same answers, and how fast?",
        examples=(
            "compare model.onnx samples.npz --runtime onnxruntime --runtime openvino",
        ),
    ),
    Command(
        name="evaluate",
        run=f"{_ROOM}.evaluate:evaluate",
        render=f"{_ROOM}.evaluate:render_evaluate",
        summary="Score a model on labelled samples, and against another.",
        examples=(
            "evaluate model.onnx photos/ --task task.toml",
            "evaluate small.onnx photos/ --task task.toml --against model.onnx",
        ),
    ),
    Command(
        name="report show",
        run=f"{_ROOM}.report:show",
        render=f"{_ROOM}.report:render_show",
        summary="Show what was done to a model, what it cost and what it brought.",
        examples=(
            "report show out/report.json",
            "report show out/report.json --html out/report.html",
        ),
    ),
    Command(
        name="report diff",
        run=f"{_ROOM}.report:diff",
        render=f"{_ROOM}.report:render_diff",
        summary="Say how the compressed models of two reports differ.",
        examples=("report diff out/a/report.json out/b/report.json",),
    ),
    Command(
        name="runtime ls",
        run=f"{_ROOM}.runtime:ls",
        render=f"{_ROOM}.runtime:render_ls",
        summary="List the runtimes, and what installs those that are missing.",
        examples=("runtime ls", "runtime ls --json"),
    ),
    Command(
        name="target ls",
        run=f"{_ROOM}.target:ls",
        render=f"{_ROOM}.target:render_ls",
        summary="List the targets that come with Skerry.",
        examples=("target ls",),
    ),
    Command(
        name="target show",
        run=f"{_ROOM}.target:show",
        render=f"{_ROOM}.target:render_show",
        summary="Show what a target can do, with the source of each figure.",
        examples=("target show ethos-u55-128", "target show my-board.toml"),
    ),
    Command(
        name="toolchain install",
        run=f"{_ROOM}.toolchain:install",
        render=f"{_ROOM}.toolchain:render_install",
        summary="Install a toolchain in an environment of its own.",
        examples=("toolchain install nncf",),
    ),
    Command(
        name="toolchain run",
        run=f"{_ROOM}.toolchain:run",
        render=f"{_ROOM}.toolchain:render_run",
        summary="Run a program, or Python, in a toolchain's environment.",
        examples=(
            "toolchain run openvino -- ovc model.onnx",
            "toolchain run nncf -- script.py --flag",
        ),
    ),
    Command(
        name="toolchain ls",
        run=f"{_ROOM}.toolchain:ls",
        render=f"{_ROOM}.toolchain:render_ls",
        summary="List the toolchains that are known, and which are installed.",
        examples=("toolchain ls", "toolchain ls --json"),
    ),
)
