"""The workshop's releases: small deltas, honest goldens, disagreeing heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skerry.app.demo.digits import DigitSplit, read_digits, split_digits
from skerry.app.demo.load import Expected
from skerry.app.demo.workshop import Made, Pictures, Workshop, deal_out, renumbered
from skerry.compress.ptq.quantize import Quantize
from skerry.core.clock import SystemClock
from skerry.core.seams import LoadOptions
from skerry.evolve.delta import diff
from skerry.runtimes import get_runtime
from skerry.tasks.golden import check_golden, parse_golden


@pytest.fixture(scope="module")
def parts() -> DigitSplit:
    """The digits."""
    return split_digits(read_digits())


@pytest.fixture(scope="module")
def pictures(parts: DigitSplit) -> Pictures:
    """The held-out digits, dealt out."""
    return deal_out(parts, np.random.default_rng(0))


@pytest.fixture(scope="module")
def workshop(
    parts: DigitSplit, pictures: Pictures, tmp_path_factory: pytest.TempPathFactory
) -> Workshop:
    """A workshop."""
    folder = tmp_path_factory.mktemp("releases")
    return Workshop(folder, parts, pictures, Expected(), clock=SystemClock())


@pytest.fixture(scope="module")
def first(workshop: Workshop) -> Made:
    """Release 1."""
    return workshop.first(Quantize())


def test_no_digit_is_in_two_places(parts: DigitSplit, pictures: Pictures) -> None:
    """What is measured with is neither recorded, nor trained on, nor usual."""
    seen = [pictures.clear_recording.pictures, pictures.clear.pictures]
    seen += [pictures.usual.pictures[:, None] / np.float32(255)]
    seen += [parts.training.pictures[:, None] / np.float32(255)]
    hashes = [{picture.tobytes() for picture in np.float32(group)} for group in seen]
    for index, one in enumerate(hashes):
        for other in hashes[index + 1 :]:
            assert not one & other
    assert pictures.fogged.labels.tolist() == pictures.clear.labels.tolist()
    assert len(pictures.fogged_recording) >= 500


def test_a_refit_changes_digits_and_few_bytes(workshop: Workshop, first: Made) -> None:
    """Releases 1 and 2 disagree at night on 1 % or more; the delta is a tenth."""
    second = workshop.refitted(2, first, seed=2)
    for scene, least in (("night", 0.01), ("clear", 0.0)):
        apart = workshop.expected.disagreement(str(first.id), str(second.id), scene)
        assert least <= apart < 0.2
    assert len(diff(first.content, second.content)) < 0.1 * len(second.content)
    assert second.blob != first.blob


def test_golden_samples_come_from_the_float_source(first: Made) -> None:
    """The INT8 copy passes them, though not to the last bit."""
    golden = parse_golden(first.blobs[first.manifest.golden.sha256], name="golden")
    session = get_runtime("onnxruntime").load(first.model, LoadOptions())
    result = check_golden(session, golden)
    session.close()
    assert result.is_ok
    assert result.worst > 0


def test_the_tight_budget_lies_between_healthy_and_limited(
    workshop: Workshop, first: Made
) -> None:
    """30 % of a CPU makes an inference at least 3.3 times as long."""
    assert first.manifest.budget.latency_ms == pytest.approx(20 * workshop.latency_ms)
    tight_ms = workshop.tight().latency_ms
    assert tight_ms is not None
    assert 1.5 * workshop.latency_ms < tight_ms < 3.3 * workshop.latency_ms


def test_what_the_hub_refitted_becomes_a_release(
    workshop: Workshop, first: Made
) -> None:
    """The candidate's bytes are released as they are, one version on."""
    second = workshop.refitted(2, first, seed=7)
    drift = first.manifest.drift
    assert drift is not None
    adopted = workshop.adopt(first, second.content, first.blobs[drift.sha256])
    assert str(adopted.id) == "meter-reader/2"
    assert adopted.content == second.content
    assert adopted.manifest.drift == drift


def test_a_forger_takes_all_but_the_number(first: Made) -> None:
    """The same blobs under another version."""
    forged = renumbered(first, 99)
    assert forged.version == 99
    assert forged.models == first.manifest.models


def test_old_samples_have_labels(workshop: Workshop, tmp_path: Path) -> None:
    """As the hub's retraining wants them."""
    path = tmp_path / "replay.npz"
    path.write_bytes(workshop.replay())
    with np.load(path) as arrays:
        assert arrays["picture"].shape[1:] == (1, 28, 28)
        assert len(arrays["label"]) == len(arrays["picture"]) >= 500
