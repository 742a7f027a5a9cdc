"""The commands on models, and on what they run on."""

from __future__ import annotations

from skerry.app.command import Command

_ROOM = "skerry.app.commands"

MODEL_COMMANDS = (
    Command(
        name="compress",
        run=f"{_ROOM}.compress:compress",
        render=f"{_ROOM}.compress:render_compress",
        summary="Quantize a model as far as a budget allows, and prove it.",
        examples=(
            "compress m.onnx --calibration a.npz --evaluation b.npz --task task.toml",
            "compress m.onnx --evaluation b --task t.toml --like meter/1",
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
            "tune m.onnx --evaluation b.npz --task task.toml --on ssh://pi@board",
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
        name="stream run",
        run=f"{_ROOM}.stream:run",
        render=f"{_ROOM}.stream:render_run",
        summary="Watch many cameras: tracks, zones, events, no face leaves.",
        examples=(
            "stream run cameras.toml",
            "stream run cameras.toml --folder events --port 8800",
        ),
    ),
    Command(
        name="stream bench",
        run=f"{_ROOM}.stream:bench",
        render=f"{_ROOM}.stream:render_bench",
        summary="Find out how many cameras this machine can watch.",
        examples=("stream bench cameras.toml --count 50 --duration-s 30",),
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
