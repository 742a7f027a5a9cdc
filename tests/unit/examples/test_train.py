"""The worked examples of training, each in a small form, on what is at hand."""

from __future__ import annotations

import re
import runpy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from skerry.compress.train.training import Training
from tests.architecture.source import REPOSITORY

FOLDER = REPOSITORY / "examples" / "train"
LINE = re.compile(r"^(.+?) +(\d+) parameters +\S+ ([01]\.\d{3})$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data beside the project, and weights go where nobody looks for them."""
    monkeypatch.delenv("SKERRY_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def _script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / f"{name}.py"))


def _run(
    name: str, capsys: pytest.CaptureFixture[str], *options: str
) -> dict[str, tuple[int, float]]:
    """Run an example; returns its lines: parameters and score by what they are of."""
    _script(name)["main"]([*options])
    lines = LINE.findall(capsys.readouterr().out)
    return {what: (int(count), float(score)) for what, count, score in lines}


def test_the_classifier_is_distilled(capsys: pytest.CaptureFixture[str]) -> None:
    """A net, and two small ones of a tenth of the parameters."""
    found = _run("classifier", capsys, "--epochs", "1", "--first", "80")
    large, alone, taught = found.values()
    assert 10 * alone[0] < large[0]
    assert alone[0] == taught[0]


def test_the_keyword_spotter_has_two_teachers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They teach a small net, with labels and without."""
    found = _run("keywords", capsys, "--epochs", "1", "--first", "120")
    assert list(found) == [
        "teacher 1",
        "teacher 2",
        "a small one on labels",
        "distilled",
        "distilled, unlabelled ones too",
    ]
    assert found["distilled"][0] * 5 < found["teacher 1"][0]


def test_the_detector_is_fine_tuned(capsys: pytest.CaptureFixture[str]) -> None:
    """From made-up cells on, and then distilled."""
    found = _run("cells", capsys, "--epochs", "1", "--first", "16")
    assert list(found) == [
        "on made-up cells",
        "fine-tuned",
        "a small one on labels",
        "the same, distilled",
    ]


def test_the_made_up_words_can_be_told_apart() -> None:
    """A few labelled recordings are enough for most of the others."""
    script = _script("keywords")
    training, unknown = script["make_training"](first=480)
    net = script["make"](4, 24, seed=0)
    log = script["fit"](net, training, epochs=20)
    assert max(epoch.score or 0 for epoch in log.epochs) > 0.5
    assert len(unknown) == 252


@pytest.mark.parametrize("name", ["classifier", "keywords", "cells"])
def test_each_is_a_setup_for_a_search(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trained module and what trains it, kept from the first call to the second."""
    script = _script(name)
    setup = script["setup"]
    own = setup.__globals__
    reader = "read_parts" if name == "cells" else "make_training"
    monkeypatch.setitem(own, reader, partial(own[reader], first=40))
    monkeypatch.setitem(own, "EPOCHS", 0)
    first, second = setup(), setup()
    assert isinstance(first, Training)
    assert own["WEIGHTS"].exists()
    for one, other in zip(
        first.module.parameters(), second.module.parameters(), strict=True
    ):
        assert (one == other).all()
    assert first.report is not None
    labels = {type(sample.label) for sample in first.selection}
    assert len(labels) == 1
