"""What must hold of every registered runtime, the shipped fake included."""

from collections.abc import Callable
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
from skerry.core.seams import Array, LoadOptions, Runtime
from skerry.graph import open_model
from skerry.runtimes import get_runtime, runtime_names
from tests.models import conv_net, dynamic_net, if_net, mlp, model_bytes

Stored = Callable[[bytes], Model]
OPTIONS = LoadOptions(precision="float32")
REAL = ["onnxruntime", "openvino"]


def takers(wanted: ModelFormat) -> list[str]:
    """The registered runtimes that take a format."""
    return [name for name in runtime_names() if wanted in get_runtime(name).formats]


@pytest.fixture(params=takers(ModelFormat.ONNX))
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """Each registered runtime that takes ONNX files."""
    return get_runtime(request.param)


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest) -> Runtime:
    """Each runtime with a library behind it."""
    return get_runtime(request.param)


def picture(*shape: int) -> dict[str, Array]:
    """An input of `conv_net`, the same each time."""
    return {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}


def test_ours_are_registered_and_no_other_is_known() -> None:
    """The names are those of the entry points; a wrong one is met with a near one."""
    assert {"litert", "ncnn", "null", "onnxruntime", "openvino"} <= set(runtime_names())
    with pytest.raises(UsageError) as caught:
        get_runtime("openvnio")
    assert "openvino" in caught.value.hint


@pytest.mark.parametrize("runtime", [get_runtime(name) for name in runtime_names()])
def test_a_runtime_knows_its_name_and_version(runtime: Runtime) -> None:
    """The name is the one it is registered under."""
    assert get_runtime(runtime.name).name == runtime.name
    assert runtime.version[0].isdigit()


def test_the_answer_has_the_signature_of_the_model(
    runtime: Runtime, stored: Stored
) -> None:
    """One array an output: its name, dtype and shape."""
    session = runtime.load(stored(conv_net()), OPTIONS)
    assert [str(spec) for spec in session.inputs] == ["x float32[1×3×16×16]"]
    assert [str(spec) for spec in session.outputs] == ["y float32[1×4]"]
    outputs = session.run(picture(1, 3, 16, 16))
    assert list(outputs) == ["y"]
    assert (outputs["y"].dtype.name, outputs["y"].shape) == ("float32", (1, 4))


def test_free_dimensions_follow_the_input(runtime: Runtime, stored: Stored) -> None:
    """A model for any number of pictures of any size answers each of them."""
    session = runtime.load(stored(dynamic_net()), OPTIONS)
    for shape in [(1, 3, 16, 16), (5, 3, 16, 24), (2, 3, 32, 16)]:
        assert session.run(picture(*shape))["y"].shape == (shape[0], 4)


def test_answers_belong_to_the_caller(runtime: Runtime, stored: Stored) -> None:
    """The next inference does not change them, and they may be written to."""
    session = runtime.load(stored(conv_net()), OPTIONS)
    first = session.run(picture(1, 3, 16, 16))["y"]
    kept = first.copy()
    second = session.run({"x": np.ones((1, 3, 16, 16), np.float32)})["y"]
    np.testing.assert_array_equal(first, kept)
    first[:] = 7
    assert not np.any(second == 7)


def test_inputs_are_left_as_they_were(runtime: Runtime, stored: Stored) -> None:
    """A read-only array that is not contiguous will do."""
    session = runtime.load(stored(conv_net()), OPTIONS)
    plain = picture(1, 3, 16, 16)["x"]
    turned = np.asfortranarray(plain)
    turned.flags.writeable = False
    np.testing.assert_array_equal(
        session.run({"x": turned})["y"], session.run({"x": plain})["y"]
    )
    np.testing.assert_array_equal(turned, plain)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        pytest.param({}, "'x' is missing", id="missing"),
        pytest.param(
            {**picture(1, 3, 16, 16), "z": np.ones(1)}, "no input 'z'", id="unknown"
        ),
        pytest.param(
            {"x": np.ones((1, 3, 16, 16))}, "float64, expected float32", id="dtype"
        ),
        pytest.param(
            {"x": np.ones((1, 3, 16, 16), ">f4")},
            ">f4, expected float32",
            id="byte order",
        ),
        pytest.param(picture(1, 16, 16, 3), "(1, 16, 16, 3), expected x", id="shape"),
        pytest.param(picture(3, 16, 16), "(3, 16, 16), expected x", id="rank"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    runtime: Runtime, stored: Stored, inputs: dict[str, Array], says: str
) -> None:
    """The error says what was got and what was expected, for `run` and `profile`."""
    model = stored(conv_net())
    session = runtime.load(model, OPTIONS)
    with pytest.raises(DataError) as caught:
        session.run(inputs)
    assert says in str(caught.value)
    assert caught.value.hint
    with pytest.raises(DataError):
        runtime.profile(model, inputs, OPTIONS, repeats=1)


def test_a_closed_session_does_not_run(runtime: Runtime, stored: Stored) -> None:
    """It says so; closing it twice is no harm."""
    session = runtime.load(stored(mlp()), OPTIONS)
    session.close()
    session.close()
    with pytest.raises(RuntimeFailure, match="closed"):
        session.run({"x": np.ones((1, 8), np.float32)})


def test_a_missing_file_is_the_users_mistake(runtime: Runtime, stored: Stored) -> None:
    """So is a folder in its place."""
    model = stored(mlp())
    model.path.unlink()
    with pytest.raises(UsageError, match="not there"):
        runtime.load(model, OPTIONS)
    model.path.mkdir()
    with pytest.raises(UsageError, match="not there"):
        runtime.load(model, OPTIONS)


def test_settings_without_sense_are_refused(runtime: Runtime, stored: Stored) -> None:
    """No threads, no repeats."""
    model = stored(mlp())
    with pytest.raises(UsageError, match="got 0 threads"):
        runtime.load(model, LoadOptions(threads=0))
    with pytest.raises(UsageError, match="got 0 repeats"):
        runtime.profile(model, {"x": np.ones((1, 8), np.float32)}, OPTIONS, repeats=0)


def test_a_profile_names_the_runtime(runtime: Runtime, stored: Stored) -> None:
    """Times are not negative, and each operator has a name and a type."""
    model = stored(conv_net())
    profile = runtime.profile(model, picture(1, 3, 16, 16), OPTIONS, repeats=3)
    assert (profile.runtime, profile.threads, profile.repeats) == (runtime.name, 1, 3)
    assert profile.operators
    assert all(
        operator.name and operator.op_type and operator.latency_ms >= 0
        for operator in profile.operators
    )


def test_a_profile_finds_each_convolution(real: Runtime, stored: Stored) -> None:
    """What is convolved is not fused away, and takes time; leaves nothing behind."""
    model = stored(conv_net(size=64))
    before = set(model.path.parent.rglob("*"))
    profile = real.profile(model, picture(1, 3, 64, 64), OPTIONS, repeats=3)
    kernels = [entry for entry in profile.operators if "Conv" in entry.op_type]
    assert len(kernels) == 3
    assert profile.total_ms > 0
    assert set(model.path.parent.rglob("*")) == before


def test_a_dynamic_model_is_profiled(real: Runtime, stored: Stored) -> None:
    """Free dimensions take the sizes of the inputs given."""
    model = stored(dynamic_net())
    assert real.profile(model, picture(2, 3, 16, 16), OPTIONS, repeats=1).operators


@pytest.mark.parametrize("content", [conv_net(), mlp(), if_net()])
def test_real_runtimes_agree(stored: Stored, content: bytes) -> None:
    """In float32 they differ by rounding alone."""
    model = stored(content)
    rng = np.random.default_rng(1)
    inputs = {
        spec.name: np.asarray(
            True if spec.dtype == "bool" else rng.normal(size=spec.shape), spec.dtype
        )
        for spec in model.inputs
    }
    first, second = (
        get_runtime(name).load(model, OPTIONS).run(inputs) for name in REAL
    )
    for name, array in first.items():
        np.testing.assert_allclose(second[name], array, rtol=1e-4, atol=1e-5)


def test_outputs_come_under_their_own_names(real: Runtime, stored: Stored) -> None:
    """Also where one is an input, a constant or another output again."""
    model = stored(
        model_bytes(
            """net (float[2] x) => (float[2] last, float[2] same, float[2] first) {
                first = Neg(x)
                same = Identity(x)
                last = Exp(x)
            }"""
        )
    )
    given = np.array([1, 2], np.float32)
    outputs = real.load(model, OPTIONS).run({"x": given})
    assert list(outputs) == ["last", "same", "first"]
    np.testing.assert_allclose(outputs["last"], np.exp(given), rtol=1e-5)
    np.testing.assert_array_equal(outputs["same"], given)
    np.testing.assert_array_equal(outputs["first"], -given)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello, I am no model", id="text"),
        pytest.param(bytes(range(256)), id="bytes"),
        pytest.param(conv_net()[: len(conv_net()) // 2], id="half"),
        pytest.param(conv_net()[:-9], id="cut"),
    ],
)
def test_what_is_no_model_is_a_model_error(
    real: Runtime, stored: Stored, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """One plain line of ours, and not a word of the library's."""
    model = stored(mlp())
    model.path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        real.load(model, OPTIONS)
    assert type(caught.value) is ModelError
    assert_plain(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_operator_that_nobody_knows_is_a_failure(
    real: Runtime, stored: Stored, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error names it."""
    model = stored(mlp())
    model.path.write_bytes(
        model_bytes(
            "net (float[1] x) => (float[1] y) { y = com.example.Frob(x) }",
            domains=', "com.example": 1',
        )
    )
    with pytest.raises(RuntimeFailure, match="Frob") as caught:
        real.load(model, OPTIONS)
    assert_plain(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ("s = Constant<value_ints=[3, 7]>() y = Reshape(x, s)", "equested"),
        ("y = MatMul(x, x)", "MatMul"),
    ],
)
def test_a_failing_operator_is_a_failure(
    real: Runtime,
    stored: Stored,
    nodes: str,
    says: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The error says why; `run` and `profile` raise the same; others still run."""
    model = stored(model_bytes(f"net (float[n, m] x) => (float[a, b] y) {{ {nodes} }}"))
    inputs = {"x": np.ones((2, 5), np.float32)}
    session = real.load(model, OPTIONS)
    for attempt in (
        lambda: session.run(inputs),
        lambda: real.profile(model, inputs, OPTIONS, repeats=1),
    ):
        with pytest.raises(RuntimeFailure, match=says) as caught:
            attempt()
        assert_plain(caught.value)
    assert capfd.readouterr() == ("", "")
    fitting = np.ones((3, 7) if "Reshape" in nodes else (2, 2), np.float32)
    assert session.run({"x": fitting})["y"].shape == fitting.shape


def test_a_model_that_changed_since_it_was_opened_is_a_failure(
    real: Runtime, stored: Stored
) -> None:
    """The signature that was read no longer holds: no traceback of the library's."""
    model = stored(mlp())
    model.path.write_bytes(conv_net())
    with pytest.raises(RuntimeFailure) as caught:
        real.load(model, OPTIONS).run({"x": np.ones((1, 8), np.float32)})
    assert_plain(caught.value)


def test_more_threads_change_no_answer(real: Runtime, tmp_path: Path) -> None:
    """Two threads answer what one does."""
    path = tmp_path / "net.onnx"
    path.write_bytes(conv_net(size=32))
    model = open_model(path)
    one, two = (
        real.load(model, LoadOptions(threads=threads, precision="float32")).run(
            picture(1, 3, 32, 32)
        )["y"]
        for threads in (1, 2)
    )
    np.testing.assert_allclose(one, two, rtol=1e-5)


def assert_plain(error: SkerryError) -> None:
    """One line, of no great length, that names no file of a library's source."""
    assert error.hint
    assert "\n" not in error.what
    assert len(error.what) < 300
    for noise in ("src/", ".cc", ".cpp", ".h:", "ONNXRuntimeError", "failed at"):
        assert noise not in error.what
