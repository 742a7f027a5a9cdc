import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("library", "runtime"),
    [
        ("onnxruntime", "onnxruntime"),
        ("openvino", "openvino"),
        ("ai_edge_litert", "litert"),
        ("ncnn", "ncnn"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    library: str, runtime: str
) -> None:
    """The error says what to install; the other runtimes are not touched by it."""
    script = (
        "import sys\n"
        f"sys.modules[{library!r}] = None\n"
        "from skerry.core.errors import MissingExtraError\n"
        "from skerry.runtimes import get_runtime, runtime_names\n"
        f"assert {runtime!r} in runtime_names()\n"
        "get_runtime('null')\n"
        "try:\n"
        f"    get_runtime({runtime!r})\n"
        "except MissingExtraError as error:\n"
        "    print(error.hint)\n"
        "assert not sys.modules.get('openvino_telemetry')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr) == (f"pip install 'skerry[{runtime}]'\n", "")


def test_nothing_heavy_is_imported_before_it_is_asked_for() -> None:
    """Naming the runtimes, and the fake, load no library."""
    script = (
        "import sys\n"
        "from skerry.runtimes import get_runtime, runtime_names\n"
        "runtime_names(), get_runtime('null')\n"
        "heavy = {'onnxruntime', 'openvino', 'onnx', 'ncnn', 'ai_edge_litert'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"


def test_torch_is_asked_for_by_name_where_it_is_missing() -> None:
    """Whatever trains says which extra brings it; what quantizes does without."""
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from skerry.core.errors import MissingExtraError\n"
        "import skerry.compress.search.evidence, skerry.compress.recipe_files\n"
        "try:\n"
        "    import skerry.compress.train.fit\n"
        "except MissingExtraError as error:\n"
        "    print(error.hint)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (run.stdout, run.stderr) == ("pip install 'skerry[train]'\n", "")
