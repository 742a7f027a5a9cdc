"""Vela's files: what they say is read, what they cannot say is refused."""

from __future__ import annotations

import pytest

from skerry.adapt.vela import parse_compiled, parse_layers, parse_summary
from skerry.core.errors import DataError
from skerry.core.target import ProcessorKind
from tests.velas import HEADER, LAYERS, SUMMARY


def test_both_files_make_one_answer() -> None:
    """Sizes come in KiB and time in seconds; a name may hold a comma."""
    found = parse_compiled(LAYERS.encode(), SUMMARY.encode(), toolchain="Vela 5.2.0")
    assert [one.kind for one in found.operators] == [
        ProcessorKind.NPU,
        ProcessorKind.CPU,
    ]
    assert found.operators[0].cycles == 26185
    assert found.operators[0].macs == 320000
    assert [one.name for one in found.fallbacks] == ["a name, with a comma"]
    assert (found.memory_bytes, found.storage_bytes) == (22192, 31104)
    assert found.time_ms == pytest.approx(0.1798)
    assert (found.cycles, found.macs) == (89900, 2664792)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no column 'Original Operator'"),
        (b"\xff", "not UTF-8"),
        (f"{HEADER},More\n".encode(), "no column 'Name' at its end"),
        (f"{HEADER}\nConv2D,Conv2D\n".encode(), "2 columns in line 2"),
        (LAYERS.replace("NPU,129", "GPU,129").encode(), "target 'GPU' in line 2"),
        (LAYERS.replace("26185,29", "many,29").encode(), "'many' in line 2"),
        (LAYERS.replace("26185,29", f"{'9' * 30},29").encode(), "is no count"),
    ],
)
def test_a_strange_per_layer_file_is_refused(content: bytes, said: str) -> None:
    """The message says what is strange, the hint which Vela is known."""
    with pytest.raises(DataError, match=said) as caught:
        parse_layers(content)
    assert "skerry toolchain install vela" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "0 lines"),
        (SUMMARY.encode() * 2, "4 lines"),
        (SUMMARY.replace("nn_macs", "macs").encode(), "no column 'nn_macs'"),
        (SUMMARY.replace("0.0001798", "soon").encode(), "inference_time is 'soon'"),
        (SUMMARY.replace("0.0001798", "-1").encode(), "inference_time is '-1'"),
        (SUMMARY.replace("0.0001798", "inf").encode(), "inference_time is 'inf'"),
        (SUMMARY.replace("default,", 'de"f"ault,"').encode(), "expected|lines|end"),
    ],
)
def test_a_strange_summary_is_refused(content: bytes, said: str) -> None:
    """Columns may be missing, figures no figures."""
    with pytest.raises(DataError, match=said):
        parse_summary(content)
