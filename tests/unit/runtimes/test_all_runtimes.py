"""What must hold of each runtime in each format that it takes, alike."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from skerry.core.errors import (
    DataError,
    ModelError,
    RuntimeFailure,
    SkerryError,
    UsageError,
)
from skerry.core.model import Model, ModelFormat
from skerry.core.seams import Array, LoadOptions, Runtime, Session
from skerry.runtimes import get_runtime, open_any, runtime_names
from skerry.tasks.measure import pss_bytes
from tests.twins import inputs_for, picture, tflite_net, twin

EXACT = LoadOptions(precision="float32")
PAIRS = [
    (name, taken)
    for name in runtime_names()
    if name != "null"
    for taken in ModelFormat
    if taken in get_runtime(name).formats
]
CLOSE = 1e-6
"""How far two runtimes may be apart on the small net in float32."""
REAL_CLOSE = 3e-4
"""The same on the face detector of SKERRY_DATA, between formats."""
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Case:
    """A runtime and the small net in a format that it takes."""

    runtime: Runtime
    model: Model

    def load(self, options: LoadOptions = EXACT) -> Session:
        return self.runtime.load(self.model, options)


@pytest.fixture(params=PAIRS, ids="-".join)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """Each runtime in each format that it takes."""
    name, taken = request.param
    return Case(runtime=get_runtime(name), model=twin(taken, tmp_path))


def expected(tmp_path: Path, seed: int = 0) -> Array:
    """What onnxruntime answers."""
    folder = tmp_path / f"expected-{seed}"
    folder.mkdir()
    model = twin(ModelFormat.ONNX, folder)
    session = get_runtime("onnxruntime").load(model, EXACT)
    return session.run(inputs_for(model, seed))["y"]


def test_each_format_is_run_by_somebody() -> None:
    """And openvino, which takes two, is in the suite twice."""
    assert {taken for _, taken in PAIRS} == set(ModelFormat)
    assert {taken for name, taken in PAIRS if name == "openvino"} == {
        ModelFormat.ONNX,
        ModelFormat.TFLITE,
    }


def test_all_give_the_same_answers(case: Case, tmp_path: Path) -> None:
    """In float32 they differ by rounding alone, whatever the format."""
    session = case.load()
    for seed in range(5):
        found = session.run(inputs_for(case.model, seed))["y"]
        assert found.dtype == np.float32
        assert found.shape == (1, 3)
        np.testing.assert_allclose(found, expected(tmp_path, seed), atol=CLOSE)


def test_the_default_precision_is_close(case: Case, tmp_path: Path) -> None:
    """Where the runtime may choose, bf16's eight bits are the least it takes."""
    found = case.load(LoadOptions()).run(inputs_for(case.model))["y"]
    np.testing.assert_allclose(found, expected(tmp_path), atol=1e-2)


@pytest.mark.parametrize(
    "case",
    [pair for pair in PAIRS if pair[1] is not ModelFormat.NCNN],  # that is two files
    ids="-".join,
    indirect=True,
)
def test_a_file_may_have_any_name(case: Case, tmp_path: Path) -> None:
    """A gateway's slot calls every model alike."""
    path = tmp_path / "model.onnx"
    path.write_bytes(case.model.path.read_bytes())
    found = replace(case, model=replace(case.model, path=path)).load()
    np.testing.assert_allclose(
        found.run(inputs_for(case.model))["y"], expected(tmp_path), atol=CLOSE
    )


def test_an_answer_never_changes(case: Case) -> None:
    """The same inputs give the same bits, in this session and in the next."""
    first = case.load()
    wanted = first.run(inputs_for(case.model))["y"]
    for session in (first, case.load()):
        for _ in range(3):
            found = session.run(inputs_for(case.model))["y"]
            np.testing.assert_array_equal(found, wanted)


def test_answers_are_the_callers(case: Case) -> None:
    """They outlive the session, and may be written to."""
    session = case.load()
    first = session.run(inputs_for(case.model))["y"]
    kept = first.copy()
    second = session.run(inputs_for(case.model, 1))["y"]
    session.close()
    del session
    gc.collect()
    np.testing.assert_array_equal(first, kept)
    first[:] = 7
    assert not np.any(second == 7)


def test_inputs_of_any_layout_will_do(case: Case) -> None:
    """Read-only, transposed, cut out of something larger, and gone right after."""
    session = case.load()
    (given,) = inputs_for(case.model).values()
    wanted = session.run({"x": given})["y"]
    wide = np.zeros((*given.shape[:-1], given.shape[-1] * 2), np.float32)
    wide[..., ::2] = given
    frozen = np.asfortranarray(given)
    frozen.flags.writeable = False
    for odd in (wide[..., ::2], frozen):
        np.testing.assert_array_equal(session.run({"x": odd})["y"], wanted)
    for _ in range(20):
        got = session.run({"x": given * np.float32(1)})["y"]
        np.testing.assert_array_equal(got, wanted)


def test_many_threads_may_ask_at_once(case: Case, tmp_path: Path) -> None:
    """Each has the answer to its own question."""
    session = case.load()
    questions = [inputs_for(case.model, seed) for seed in range(8)]
    wanted = [expected(tmp_path, seed) for seed in range(8)]

    def ask(seed: int) -> float:
        found = session.run(questions[seed % 8])["y"]
        return float(np.abs(found - wanted[seed % 8]).max())

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(ask, range(160))) <= CLOSE


def test_more_threads_change_no_answer(case: Case) -> None:
    """Two answer what one does."""
    one, two = (
        case.load(replace(EXACT, threads=threads)).run(inputs_for(case.model))["y"]
        for threads in (1, 2)
    )
    np.testing.assert_allclose(one, two, atol=CLOSE)


def test_closing_while_it_runs_is_no_crash(case: Case) -> None:
    """What runs ends with its answer; what comes after is told that it is closed."""
    for _ in range(3):
        session = case.load()
        has_begun = threading.Event()

        def ask(session: Session, has_begun: threading.Event) -> int:
            answered = 0
            while True:
                try:
                    session.run(inputs_for(case.model))
                except RuntimeFailure as error:
                    assert "closed" in error.what  # noqa: PT017 - it ends the loop
                    return answered
                answered += 1
                has_begun.set()

        with ThreadPoolExecutor(2) as pool:
            asking = [pool.submit(ask, session, has_begun) for _ in range(2)]
            assert has_begun.wait(30)
            session.close()
            session.close()
            assert sum(future.result(30) for future in asking) >= 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda _: {}, "'x' is missing"),
        (lambda x: {"x": x, "z": x}, "no input 'z'"),
        (lambda x: {"x": x.astype(np.float64)}, "float64, expected float32"),
        (lambda x: {"x": x.astype(">f4")}, "expected float32"),
        (lambda x: {"x": x[0]}, "has shape"),
        (lambda x: {"x": x[..., :2]}, "has shape"),
        (lambda x: {"x": np.concatenate([x, x])}, "has shape"),
        (lambda x: {"x": x[:0]}, "has shape"),
    ],
)
def test_wrong_inputs_are_refused(case: Case, wrong: object, says: str) -> None:
    """Before the library sees them; the session goes on."""
    session = case.load()
    (given,) = inputs_for(case.model).values()
    assert callable(wrong)
    with pytest.raises(DataError, match=says):
        session.run(wrong(given))
    session.run({"x": given})


def test_nothing_is_printed(case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    """Not by loading, running, closing or failing."""
    session = case.load()
    session.run(inputs_for(case.model))
    session.close()
    case.model.path.write_bytes(case.model.path.read_bytes()[:-40])
    with pytest.raises(SkerryError):
        case.load().run(inputs_for(case.model))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, I am no model", bytes(range(256)), b"7767517\n1 1\nhello\n"],
    ids=["empty", "text", "bytes", "param"],
)
def test_garbage_is_a_model_error(
    case: Case, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """One plain line of ours, and not a word of the library's."""
    case.model.path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        case.load()
    assert case.model.path.name in caught.value.what
    assert "\n" not in caught.value.what
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_another_model_in_its_place_is_no_crash(case: Case, tmp_path: Path) -> None:
    """The signature that was read no longer holds: its own answer, or an error."""
    folder = tmp_path / "other"
    folder.mkdir()
    twin(case.model.format, folder, classes=5)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    try:
        found = case.load().run(inputs_for(case.model))["y"]
    except RuntimeFailure as error:
        assert "\n" not in error.what  # noqa: PT017 - either will do
    else:
        assert found.shape == (1, 5)


def test_a_file_of_another_format_is_told_apart(case: Case, tmp_path: Path) -> None:
    """The error names the format that it is and the ones that are taken."""
    for wanted in set(ModelFormat) - case.runtime.formats:
        folder = tmp_path / wanted
        folder.mkdir()
        with pytest.raises(RuntimeFailure, match=f"takes .* is {wanted.label}"):
            case.runtime.load(twin(wanted, folder), EXACT)


def test_what_only_onnxruntime_has_is_refused(case: Case, tmp_path: Path) -> None:
    """Execution providers and libraries of operators: clearly, and before loading."""
    library = tmp_path / "ops.so"
    library.touch()
    if case.runtime.name == "onnxruntime":
        return
    with pytest.raises(RuntimeFailure, match="no execution providers, asked for cuda"):
        case.load(LoadOptions(providers=("cuda",)))
    with pytest.raises(RuntimeFailure, match="takes no libraries of operators"):
        case.load(LoadOptions(libraries=(library,)))


def test_a_missing_library_is_the_users_mistake(case: Case, tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises((UsageError, RuntimeFailure), match=r"none\.so"):
        case.load(LoadOptions(libraries=(tmp_path / "none.so",)))


def test_a_profile_has_the_operators_or_says_why_not(case: Case) -> None:
    """LiteRT's Python package does not tell: that is an error, not an empty profile."""
    inputs = inputs_for(case.model)
    if case.runtime.name == "litert":
        with pytest.raises(RuntimeFailure, match="does not tell how long"):
            case.runtime.profile(case.model, inputs, EXACT, repeats=2)
        return
    profile = case.runtime.profile(case.model, inputs, EXACT, repeats=2)
    kinds = " ".join(entry.op_type for entry in profile.operators)
    assert "Conv" in kinds
    assert "Softmax" in kinds.replace("SoftMax", "Softmax")
    assert profile.total_ms > 0


def test_memory_is_given_back(case: Case, tmp_path: Path) -> None:
    """Loading, running and closing a larger net again and again takes no more of it."""
    folder = tmp_path / "large"
    folder.mkdir()
    large = replace(case, model=twin(case.model.format, folder, classes=200_000))

    def cycle() -> None:
        session = large.load()
        session.run(inputs_for(large.model))
        session.close()

    for _ in range(3):
        cycle()
    gc.collect()
    before = pss_bytes()
    for _ in range(15):
        cycle()
    gc.collect()
    # Each holds 4 MB of weights at least: kept, they would be 60 MB.
    assert pss_bytes() - before < 24 * MIB


@pytest.mark.parametrize("runtime", ["litert", "openvino"])
def test_a_tflite_file_may_take_any_batch(runtime: str, tmp_path: Path) -> None:
    """Shapes follow the inputs, forth and back; names are those of the signature."""
    path = tmp_path / "open.tflite"
    path.write_bytes(tflite_net(is_open=True, is_signed=True))
    model = open_any(path)
    assert [str(spec) for spec in (*model.inputs, *model.outputs)] == [
        "picture float32[?×8×8×3]",
        "scores float32[?×3]",
    ]
    session = get_runtime(runtime).load(model, EXACT)
    pictures = np.concatenate([picture(seed) for seed in range(4)])
    wanted = np.concatenate([expected(tmp_path, seed) for seed in range(4)])
    channels_last = np.ascontiguousarray(pictures.transpose(0, 2, 3, 1))
    for count in (1, 4, 2, 4):
        found = session.run({"picture": channels_last[:count]})["scores"]
        np.testing.assert_allclose(found, wanted[:count], atol=CLOSE)


def test_a_real_net_agrees_across_formats(real_data: Path) -> None:
    """One face detector in ONNX, TFLite and ncnn: scores, and boxes once decoded."""
    folder = real_data / "models_multiformat_face"
    rng = np.random.default_rng(0)
    given = rng.uniform(-1, 1, (1, 3, 240, 320)).astype(np.float32)
    rows: dict[str, list[Array]] = {}
    for name, path in (
        ("onnxruntime", folder / "onnx" / "version-RFB-320.onnx"),
        ("openvino", folder / "onnx" / "version-RFB-320.onnx"),
        (
            "litert",
            folder / "tflite" / "version-RFB-320_without_postprocessing.tflite",
        ),
        ("ncnn", folder / "ncnn" / "RFB-320.param"),
    ):
        model = open_any(path, shapes={"input": (1, 3, 240, 320)})
        is_last = model.format is ModelFormat.TFLITE
        x = np.ascontiguousarray(given.transpose(0, 2, 3, 1)) if is_last else given
        outputs = get_runtime(name).load(model, EXACT).run({model.inputs[0].name: x})
        by_width = {array.shape[-1]: array for array in outputs.values()}
        is_decoded = model.format is ModelFormat.ONNX
        boxes = by_width[4] if is_decoded else _decoded(by_width[4])
        rows[name] = [by_width[2], boxes]
    for name, (scores, boxes) in rows.items():
        wanted_scores, wanted_boxes = rows["onnxruntime"]
        assert np.abs(scores - wanted_scores).max() <= REAL_CLOSE, name
        assert np.abs(boxes - wanted_boxes).max() <= REAL_CLOSE, name


def _decoded(raw: Array) -> Array:
    """Boxes of SSD's offsets to priors (Liu et al., 2016), as in the ONNX file."""
    priors = []
    for step, sizes in ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96))):
        priors += _priors(step, sizes)
    priors += _priors(64, (128, 192, 256))
    prior = np.clip(np.array(priors, np.float32), 0, 1)
    centre = prior[:, :2] + raw[..., :2] * 0.1 * prior[:, 2:]
    half = prior[:, 2:] * np.exp(raw[..., 2:] * 0.2) / 2
    return np.concatenate([centre - half, centre + half], -1)


def _priors(step: int, sizes: tuple[int, ...]) -> list[tuple[float, ...]]:
    width, height = -(-320 // step), -(-240 // step)
    return [
        ((x + 0.5) / width, (y + 0.5) / height, size / 320, size / 240)
        for y in range(height)
        for x in range(width)
        for size in sizes
    ]
