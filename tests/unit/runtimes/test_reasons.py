import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.runtimes._reasons import LONGEST_REASON, plain_reason

ORT = "[ONNXRuntimeError] : 1 : FAIL : "
LOAD = f"{ORT}Load model from /models/a b.onnx failed:"
CORE = "/onnxruntime_src/onnxruntime/core"
FRONTEND = (
    "Check 'false' failed at src/frontends/unconverted_ops_report.cpp:151:\n"
    "FrontEnd API failed with OpConversionFailure:\n"
    "Model wasn't fully converted."
)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(
            f"{LOAD}{CORE}/graph/model.cc:256 onnxruntime::Model::Model("
            "onnx::ModelProto&&, const std::map<int, void(*)(int)>&) "
            "Unsupported model IR version: 99, max supported IR version: 13\n",
            "Unsupported model IR version: 99, max supported IR version: 13",
            id="onnxruntime: load, with a signature",
        ),
        pytest.param(
            f"{ORT}Non-zero status code returned while running MatMul node. "
            "Name:'m' Status Message: matmul_helper.h:59 Compute MatMul dimension "
            "mismatch",
            "MatMul node. Name:'m' MatMul dimension mismatch",
            id="onnxruntime: run, with a function",
        ),
        pytest.param(
            f"{LOAD}Fatal error: com.example:Foo(-1) is not a registered function/op",
            "Fatal error: com.example:Foo(-1) is not a registered function/op",
            id="onnxruntime: an operator",
        ),
        pytest.param(
            "Exception from src/inference/src/cpp/infer_request.cpp:224:\n"
            "Exception from src/plugins/intel_cpu/src/node.cpp:794:\n"
            "[CPU] MatMul node with name 'y' Check 'k_lhs == k_rhs' failed at "
            "src/plugins/intel_cpu/src/matmul.cpp:45:\n"
            "Matmul input shapes are incompatible shape A: (2.3) shape B: (2.3)\n\n\n",
            "[CPU] MatMul node with name 'y' "
            "Matmul input shapes are incompatible shape A: (2.3) shape B: (2.3)",
            id="openvino: run",
        ),
        pytest.param(
            f"{FRONTEND}\nSummary:\n-- No conversion rule found for operations: Foo\n",
            "Model wasn't fully converted. "
            "No conversion rule found for operations: Foo",
            id="openvino: an operator",
        ),
        pytest.param(
            f"{FRONTEND} Failed operations detailed log:\n"
            "-- And-17 with a message:\n"
            "While validating ONNX node '<Node(And): y>': Check 'a || b' failed at "
            "src/core/src/op/util/binary_elementwise_logical.cpp:25:\n"
            "While validating node 'opset1::LogicalAnd (x[0]:f32[1])':\n"
            "Operands must have boolean element type.\n",
            "Model wasn't fully converted. And-17 with a message: "
            "Operands must have boolean element type.",
            id="openvino: an operator's inputs",
        ),
        pytest.param("bad_alloc", "bad_alloc", id="plain"),
        pytest.param(f"{ORT}\n", "", id="noise alone"),
    ],
)
def test_what_is_left_is_the_reason(message: str, reason: str) -> None:
    """Codes, paths and functions of a library's source are gone; the reason is not."""
    assert plain_reason(message) == reason


@given(st.text(max_size=500) | st.text("ab :/'()\n-", max_size=9000))
def test_a_reason_is_one_short_line(message: str) -> None:
    """Whatever a library says."""
    reason = plain_reason(message)
    assert len(reason) <= LONGEST_REASON
    assert reason == " ".join(reason.split())


def test_a_long_reason_says_that_it_was_cut() -> None:
    """It ends in an ellipsis."""
    assert plain_reason("word " * 100).endswith("word…")


@pytest.mark.timeout(5)
def test_a_message_without_end_is_no_reason_to_wait() -> None:
    """Only its beginning is read: here each start would be looked for an end."""
    assert plain_reason("Load model from " * 60_000).startswith("Load model from")
