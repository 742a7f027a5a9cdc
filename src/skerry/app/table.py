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
    Group(name="device", summary="See and register the members of the fleet."),
    Group(name="experiment", summary="See and go on with searches for a recipe."),
    Group(name="fleet", summary="See the whole fleet."),
    Group(name="gateway", summary="Run a gateway."),
    Group(name="hub", summary="Run a hub."),
    Group(name="key", summary="See and change who may sign what devices run."),
    Group(name="release", summary="Sign and publish models."),
    Group(name="retraining", summary="Learn from labelled samples of the field."),
    Group(name="rollout", summary="Deliver a release in stages, and take it back."),
    Group(name="sample", summary="See and label what gateways sent from the field."),
    Group(name="serve", summary="Serve models on this machine, without a hub."),
    Group(name="shadow", summary="See and change what a device should be."),
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
        name="tune",
        run=f"{_ROOM}.tune:tune",
        render=f"{_ROOM}.tune:render_tune",
        summary="Search recipes for a budget, and return the best found.",
        examples=(
            "tune m.onnx --evaluation b.npz --task task.toml --budget budget.toml",
            "tune m.onnx --evaluation photos --task t.toml --trials 100 --workers 2",
        ),
    ),
    Command(
        name="experiment ls",
        run=f"{_ROOM}.experiment:ls",
        render=f"{_ROOM}.experiment:render_rows",
        summary="List the experiments in a folder.",
        examples=("experiment ls", "experiment ls /srv/experiments"),
    ),
    Command(
        name="experiment show",
        run=f"{_ROOM}.experiment:show",
        render=f"{_ROOM}.experiment:render_shown",
        summary="Show an experiment: its front, what to take, all trials.",
        examples=("experiment show experiments/m",),
    ),
    Command(
        name="experiment compare",
        run=f"{_ROOM}.experiment:compare",
        render=f"{_ROOM}.experiment:render_rows",
        summary="Compare experiments on one model within one budget.",
        examples=("experiment compare experiments/tpe experiments/random",),
    ),
    Command(
        name="experiment resume",
        run=f"{_ROOM}.experiment:resume",
        render=f"{_ROOM}.tune:render_tune",
        summary="Go on with an experiment, or join it from another machine.",
        examples=(
            "experiment resume experiments/m",
            "experiment resume experiments/m --trials 200 --workers 2",
        ),
    ),
    Command(
        name="check",
        run=f"{_ROOM}.check:check",
        render=f"{_ROOM}.check:render_check",
        summary="Judge a compression by its budget, for a pull request.",
        examples=(
            "check out/report.json",
            "check out/report.json --against base/report.json --markdown comment.md",
        ),
    ),
    Command(
        name="demo",
        run=f"{_ROOM}.demo:demo",
        render=f"{_ROOM}.demo:render_demo",
        summary="Show what Skerry does, on real models and a fleet of processes.",
        examples=("demo", "demo --keep", "demo --json"),
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
        name="import",
        run=f"{_ROOM}.import_model:import_model",
        render=f"{_ROOM}.import_model:render_import",
        summary="Read a model of another framework, and write it as an ONNX file.",
        examples=("import model.tflite -o model.onnx",),
    ),
    Command(
        name="export",
        run=f"{_ROOM}.export:export",
        render=f"{_ROOM}.export:render_export",
        summary="Write a model for another runtime, or compile it for a target.",
        examples=(
            "export out/model.onnx -o model.tflite",
            "export model.tflite --target ethos-u55-128 -o compiled.tflite",
            "export m.onnx -o m.tflite --calibration samples.npz",
        ),
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
        name="adapt",
        run=f"{_ROOM}.adapt:adapt",
        render=f"{_ROOM}.adapt:render_adapt",
        summary="Rewrite what a target cannot run, and audit again.",
        examples=(
            "adapt model.onnx --target ethos-u55-128 -o adapted.onnx",
            "adapt model.onnx --target board.toml -o adapted.onnx --max-error 0",
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
        name="profile",
        run=f"{_ROOM}.profile:profile",
        render=f"{_ROOM}.profile:render_profile",
        summary="Measure what each operator takes, here or on a device.",
        examples=(
            "profile model.onnx",
            "profile m.onnx --runtime onnxruntime --runtime openvino --trace t.json",
            "profile model.onnx --compare small.onnx --out profile.html",
            "profile model.tflite --on ssh://pi@board --runtime litert",
            "profile --read trtexec.json --read benchmark_model.txt",
        ),
    ),
    Command(
        name="optimize",
        run=f"{_ROOM}.optimize:optimize",
        render=f"{_ROOM}.optimize:render_optimize",
        summary="Make a model faster without training it, here or on a target.",
        examples=(
            "optimize model.onnx photos/ --task task.toml",
            "optimize model.onnx samples.npz --most-threads 1 --latency-ms 20",
            "optimize model.onnx samples.npz --target ethos-u55-128",
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
        name="infer",
        run=f"{_ROOM}.infer:infer",
        render=f"{_ROOM}.infer:render_infer",
        summary="Ask a model, or a server, what is in a picture, a recording, a file.",
        examples=(
            "infer meter.onnx digit.png --task task.toml",
            "infer http://127.0.0.1:8700 digit.png --model meter",
            "infer http://127.0.0.1:8700 tensors.npz --json",
        ),
    ),
    Command(
        name="serve",
        run=f"{_ROOM}.serve:serve",
        render=f"{_ROOM}.serve:render_serve",
        summary="Serve models on this machine, without a hub, until it is stopped.",
        examples=(
            "serve meter.onnx --task task.toml --port 8700",
            "serve meter=small.onnx face=dlib.onnx --isolation thread",
            "serve skerry-gateway",
        ),
    ),
    Command(
        name="serve bench",
        run=f"{_ROOM}.serve_bench:bench",
        render=f"{_ROOM}.serve_bench:render_bench",
        summary="Put load on a server, or on a model, and see how long answers take.",
        examples=(
            "serve bench http://127.0.0.1:8700 --clients 8 --out bench.html",
            "serve bench meter.onnx --rate 200 --duration-s 30",
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
        name="hub up",
        run=f"{_ROOM}.hub:up",
        render=f"{_ROOM}.hub:render_up",
        summary="Run a hub, with its broker, until it is stopped.",
        examples=(
            "hub up",
            "hub up --folder /var/lib/skerry-hub --port 8750",
        ),
    ),
    Command(
        name="hub status",
        run=f"{_ROOM}.hub:status",
        render=f"{_ROOM}.hub:render_status",
        summary="Say whether a hub is up, and what of its metadata grows old.",
        examples=("hub status",),
    ),
    Command(
        name="fleet show",
        run=f"{_ROOM}.fleet:show",
        render=f"{_ROOM}.fleet:render_show",
        summary="Count what the fleet runs, what it refuses, and who is behind.",
        examples=("fleet show",),
    ),
    Command(
        name="gateway run",
        run=f"{_ROOM}.gateway:run",
        render=f"{_ROOM}.gateway:render_run",
        summary="Run a gateway until it is stopped; enrol it at its first start.",
        examples=(
            "gateway run --folder gw-1 --hub http://127.0.0.1:8750 --token TOKEN",
            "gateway run --folder gw-1",
        ),
    ),
    Command(
        name="device ls",
        run=f"{_ROOM}.device:ls",
        render=f"{_ROOM}.device:render_ls",
        summary="List the devices.",
        examples=("device ls",),
    ),
    Command(
        name="device show",
        run=f"{_ROOM}.device:show",
        render=f"{_ROOM}.device:render_show",
        summary="Show a device and its shadow.",
        examples=("device show gw-1",),
    ),
    Command(
        name="device create",
        run=f"{_ROOM}.device:create",
        render=f"{_ROOM}.device:render_create",
        summary="Register a device, and make its one-time token.",
        examples=("device create gw-1 --label site=harbour",),
    ),
    Command(
        name="device logs",
        run=f"{_ROOM}.device:logs",
        render=f"{_ROOM}.device:render_logs",
        summary="Show what a device said it did.",
        examples=("device logs gw-1 --last 20",),
    ),
    Command(
        name="device ping",
        run=f"{_ROOM}.device:ping",
        render=f"{_ROOM}.device:render_ping",
        summary="Ask a device over its own link whether it is there.",
        examples=("device ping gw-1",),
    ),
    Command(
        name="why",
        run=f"{_ROOM}.device:why",
        render=f"{_ROOM}.device:render_why",
        summary="Say what a device runs, what it should, and why not yet.",
        examples=("why gw-1",),
    ),
    Command(
        name="shadow show",
        run=f"{_ROOM}.shadow:show",
        render=f"{_ROOM}.shadow:render_show",
        summary="Show both sides of a device's shadow.",
        examples=("shadow show gw-1 --json",),
    ),
    Command(
        name="shadow set",
        run=f"{_ROOM}.shadow:change",
        render=f"{_ROOM}.shadow:render_show",
        summary="Change what a device should be, by a JSON merge patch.",
        examples=("shadow set gw-1 '{}'",),
    ),
    Command(
        name="key ls",
        run=f"{_ROOM}.key:ls",
        render=f"{_ROOM}.key:render_ls",
        summary="List who may sign what, and what waits for signatures.",
        examples=("key ls",),
    ),
    Command(
        name="key make",
        run=f"{_ROOM}.key:make",
        render=f"{_ROOM}.key:render_make",
        summary="Make a pair of keys for somebody who signs.",
        examples=("key make ann",),
    ),
    Command(
        name="key add",
        run=f"{_ROOM}.key:add",
        render=f"{_ROOM}.key:render_change",
        summary="Let another key sign a role.",
        examples=("key add root ann.pub", "key add tenant ann.pub --threshold 2"),
    ),
    Command(
        name="key revoke",
        run=f"{_ROOM}.key:revoke",
        render=f"{_ROOM}.key:render_change",
        summary="Let a key sign a role no more.",
        examples=("key revoke tenant 4f1c22ab93de",),
    ),
    Command(
        name="key rotate",
        run=f"{_ROOM}.key:rotate",
        render=f"{_ROOM}.key:render_change",
        summary="Put a new key in the place of one.",
        examples=("key rotate tenant", "key rotate online"),
    ),
    Command(
        name="key sign",
        run=f"{_ROOM}.key:sign",
        render=f"{_ROOM}.key:render_sign",
        summary="Sign a file that somebody else has drafted.",
        examples=("key sign 2.root.json --key ann.pem",),
    ),
    Command(
        name="key publish",
        run=f"{_ROOM}.key:publish",
        render=f"{_ROOM}.key:render_publish",
        summary="Renew what grows old, and hand a hub what enough have signed.",
        examples=("key publish", "key publish 2.root.json"),
    ),
    Command(
        name="release init",
        run=f"{_ROOM}.release:init",
        render=f"{_ROOM}.release:render_init",
        summary="Make a publisher's keys, and have a hub trust them.",
        examples=("release init",),
    ),
    Command(
        name="release create",
        run=f"{_ROOM}.release:create",
        render=f"{_ROOM}.release:render_create",
        summary="Pack a model with what proves it, sign it, and publish it.",
        examples=(
            "release create meter small.onnx digits.npz --golden-from meter.onnx",
        ),
    ),
    Command(
        name="release ls",
        run=f"{_ROOM}.release:ls",
        render=f"{_ROOM}.release:render_ls",
        summary="List what is released.",
        examples=("release ls",),
    ),
    Command(
        name="release show",
        run=f"{_ROOM}.release:show",
        render=f"{_ROOM}.release:render_show",
        summary="Show what a release is made of.",
        examples=("release show meter/1",),
    ),
    Command(
        name="release adopt",
        run=f"{_ROOM}.release:adopt",
        render=f"{_ROOM}.release:render_create",
        summary="Sign and publish what a retraining has made.",
        examples=("release adopt t-1",),
    ),
    Command(
        name="rollout create",
        run=f"{_ROOM}.rollout:create",
        render=f"{_ROOM}.rollout:render_show",
        summary="Deliver a release: one device first, then the rest.",
        examples=(
            "rollout create meter/1",
            "rollout create meter/2 --wave gw-1 --wave gw-2,gw-3 --on-failure stop",
        ),
    ),
    Command(
        name="rollout ls",
        run=f"{_ROOM}.rollout:ls",
        render=f"{_ROOM}.rollout:render_ls",
        summary="List the rollouts.",
        examples=("rollout ls",),
    ),
    Command(
        name="rollout show",
        run=f"{_ROOM}.rollout:show",
        render=f"{_ROOM}.rollout:render_show",
        summary="Show where each device of a rollout stands.",
        examples=("rollout show r-1",),
    ),
    Command(
        name="rollout watch",
        run=f"{_ROOM}.rollout:watch",
        render=f"{_ROOM}.rollout:render_watch",
        summary="Follow a rollout until it ends.",
        examples=("rollout watch r-1",),
    ),
    Command(
        name="rollout stop",
        run=f"{_ROOM}.rollout:stop",
        render=f"{_ROOM}.rollout:render_show",
        summary="Stop a rollout where it stands.",
        examples=("rollout stop r-1",),
    ),
    Command(
        name="rollout undo",
        run=f"{_ROOM}.rollout:undo",
        render=f"{_ROOM}.rollout:render_show",
        summary="Take each device back to what it ran before.",
        examples=("rollout undo r-1",),
    ),
    Command(
        name="sample ls",
        run=f"{_ROOM}.sample:ls",
        render=f"{_ROOM}.sample:render_ls",
        summary="List the samples that gateways found worth a label.",
        examples=("sample ls --release meter/1 --unlabelled",),
    ),
    Command(
        name="sample label",
        run=f"{_ROOM}.sample:label",
        render=f"{_ROOM}.sample:render_label",
        summary="Say what a sample shows.",
        examples=("sample label gw-1-7 five",),
    ),
    Command(
        name="retraining create",
        run=f"{_ROOM}.sample:retrain",
        render=f"{_ROOM}.sample:render_show",
        summary="Refit a head on labelled field samples, under gates.",
        examples=("retraining create meter/1 old.npz",),
    ),
    Command(
        name="retraining show",
        run=f"{_ROOM}.sample:show",
        render=f"{_ROOM}.sample:render_show",
        summary="Show what the gates of a retraining found.",
        examples=("retraining show t-1",),
    ),
    Command(
        name="retraining ls",
        run=f"{_ROOM}.sample:ls_retrainings",
        render=f"{_ROOM}.sample:render_retrainings",
        summary="List the retrainings.",
        examples=("retraining ls",),
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
        name="target probe",
        run=f"{_ROOM}.target:probe",
        render=f"{_ROOM}.target:render_probe",
        summary="Ask a toolchain what a target runs, and write the target's table.",
        examples=("target probe ethos-u55-128 --toolchain vela --out my-board.toml",),
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
