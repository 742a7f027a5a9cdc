"""Spectra, bands and cepstral coefficients, against values computed elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import DataError, UsageError
from skerry.tasks.series import Scale
from skerry.tasks.spectra import BandEnergies, Fft, Mfcc, mel_bank, to_mel

KEYWORDS: dict[str, Any] = {
    "rate_hz": 16000,
    "frame": 480,
    "hop": 320,
    "mels": 40,
    "coefficients": 10,
    "low_hz": 20,
    "high_hz": 4000,
}
"""What MLPerf Tiny's keyword spotting declares."""

# `tf.signal` of TensorFlow 2.21 on `_chirp()` over its largest value, as MLPerf Tiny's
# `get_dataset.py` calls it: stft(480, 320), 40 mel bands from 20 to 4000 Hz,
# ln(x + 1e-6), mfccs_from_log_mel_spectrograms, the first ten of frames 0, 24 and 48.
TENSORFLOW = {
    0: [
        -47.7114,
        22.0528,
        6.2481,
        2.5765,
        -1.3241,
        -2.7931,
        -4.0485,
        -3.9904,
        -3.5221,
        -2.1865,
    ],
    24: [
        -43.5115,
        2.6205,
        -17.4259,
        -1.3449,
        6.9308,
        1.3139,
        -5.4975,
        -1.1155,
        4.2243,
        2.6147,
    ],
    48: [
        -47.3883,
        -12.5988,
        -7.0476,
        10.4534,
        -7.1439,
        0.3953,
        4.2033,
        -3.685,
        2.2039,
        3.5402,
    ],
}

# librosa 0.11 on `_chirp()`: melspectrogram(n_fft=1024, hop_length=512, n_mels=64,
# center=False), 10 · log10(x + 1e-10), and mfcc of that; frames 0, 15 and 29.
LIBROSA_DB = {
    0: [-45.1714, -45.3378, -80.5448, -95.6444, -99.8004, -99.9938, -99.9998, -100.0],
    15: [
        -87.6694,
        -78.9426,
        -48.2095,
        -46.8705,
        -89.6323,
        -99.6897,
        -99.9935,
        -99.9996,
    ],
    29: [
        -96.0468,
        -93.1682,
        -85.5471,
        -69.1008,
        -15.0815,
        -90.6565,
        -99.8182,
        -99.9952,
    ],
}
LIBROSA_MFCC = {
    0: [-644.5826, 191.7856, 128.3604, 68.2818, 31.3468, 11.7494],
    15: [-609.2818, 124.2542, -107.2637, -142.8933, -16.5333, 73.7273],
    29: [-638.535, 6.1692, -160.8772, 31.3917, 89.1817, -53.3898],
}


def _chirp() -> np.ndarray:
    """One second at 16 kHz, from 200 Hz up to 2 kHz, ever louder."""
    moments = np.arange(16000) / 16000
    wave = np.sin(2 * np.pi * (200 * moments + 900 * moments**2))
    return (wave * (0.3 + 0.5 * moments))[:, None].astype(np.float32)


def test_mfcc_are_those_of_tensorflow() -> None:
    """The features that MLPerf Tiny's keyword nets were trained with, 49 × 10."""
    found = Mfcc(**KEYWORDS).apply(Scale(by="maximum").apply(_chirp()))
    assert found.shape == (49, 10)
    for frame, expected in TENSORFLOW.items():
        np.testing.assert_allclose(found[frame], expected, atol=0.02)


def test_mel_bands_and_mfcc_are_those_of_librosa() -> None:
    """The other usage: Slaney's scale, powers, decibels, an orthonormal DCT."""
    usage: dict[str, Any] = {
        "rate_hz": 16000,
        "frame": 1024,
        "hop": 512,
        "mels": 64,
        "low_hz": 0,
        "scale": "slaney",
        "power": 2,
        "log": "db",
        "floor": 1e-10,
    }
    bands = Mfcc(**usage, coefficients=0).apply(_chirp())
    cepstra = Mfcc(**usage, coefficients=13).apply(_chirp())
    assert bands.shape == (30, 64)
    assert cepstra.shape == (30, 13)
    for frame, expected in LIBROSA_DB.items():
        np.testing.assert_allclose(bands[frame, ::9], expected, atol=2e-3)
    for frame, expected in LIBROSA_MFCC.items():
        np.testing.assert_allclose(cepstra[frame, :6], expected, atol=2e-3)


def test_mfcc_by_hand() -> None:
    """A frame of four samples and two bands, each step written out."""
    step = Mfcc(
        rate_hz=8,
        frame=4,
        hop=4,
        mels=2,
        coefficients=2,
        low_hz=0,
        high_hz=4,
        floor=1.0,
    )
    series = np.array([[1.0], [2.0], [3.0], [4.0]])
    tapered = series[:, 0] * [0, 0.5, 1, 0.5]
    spectrum = np.abs(np.fft.rfft(tapered))
    middles = 1127 * np.log(1 + np.array([0.0, 2, 4]) / 700)
    edges = np.linspace(middles[0], middles[2], 4)
    bands = []
    for low, middle, high in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
        up, down = (middles - low) / (middle - low), (high - middles) / (high - middle)
        triangle = np.clip(np.minimum(up, down), 0, None)
        bands.append(float(spectrum @ triangle))
    logs = np.log(np.array(bands) + 1)
    expected = [logs.sum(), logs @ np.cos(np.pi / 2 * np.array([0.5, 1.5]))]
    np.testing.assert_allclose(step.apply(series)[0], expected, rtol=1e-5)


def test_mel_scales_are_those_published() -> None:
    """HTK's 1000 mel at 1 kHz; Slaney's 15 at 1 kHz, and 27 more at 6.4 kHz."""
    frequencies = np.array([0.0, 1000.0, 6400.0])
    np.testing.assert_allclose(to_mel(frequencies, "slaney"), [0, 15, 42])
    np.testing.assert_allclose(
        to_mel(frequencies, "htk"), [0, 999.9907, 2610.8], rtol=1e-4
    )


def test_triangles_cover_the_middle_of_the_bands_evenly() -> None:
    """HTK's triangles add up to 1 between the first and the last middle."""
    step = Mfcc(**KEYWORDS | {"mels": 10, "coefficients": 0})
    bank = mel_bank(step)
    assert bank.shape == (257, 10)
    covered = bank.sum(axis=1)
    first, last = bank[:, 0].argmax(), bank[:, -1].argmax()
    np.testing.assert_allclose(covered[first + 1 : last], 1)
    assert bank.min() >= 0


def test_a_sine_has_its_amplitude() -> None:
    """Three turns of a sine of amplitude 2 over a constant of 5."""
    moments = np.arange(32)[:, None] / 32
    series = 5 + 2 * np.sin(2 * np.pi * 3 * moments)
    magnitudes = Fft().apply(series)[:, 0]
    expected = np.zeros(17)
    expected[[0, 3]] = 5, 2
    np.testing.assert_allclose(magnitudes, expected, atol=1e-5)
    raw = Fft(scaling="none").apply(series)[:, 0]
    np.testing.assert_allclose(raw[[0, 3]], [160, 32], atol=1e-4)
    squares = Fft(scaling="none", kind="power").apply(series)[:, 0]
    np.testing.assert_allclose(squares[[0, 3]], [160**2, 32**2], rtol=1e-5)


@given(rows=st.integers(1, 70), more=st.integers(0, 30), windows=st.integers(1, 3))
def test_powers_add_up_to_the_mean_square(rows: int, more: int, windows: int) -> None:
    """Parseval's theorem, with zeros behind the series too."""
    series = np.random.default_rng(rows).normal(size=(windows, rows, 2))
    power = Fft(kind="power", size=rows + more).apply(series)
    assert power.shape == (windows, (rows + more) // 2 + 1, 2)
    expected = np.square(series).mean(axis=1)
    np.testing.assert_allclose(power.sum(axis=1), expected, rtol=1e-4)


@given(rows=st.integers(8, 70))
def test_bands_that_cover_all_add_up_to_the_mean_square(rows: int) -> None:
    """Each bin is in one band; half the rate belongs to the last."""
    series = np.random.default_rng(rows).normal(size=(rows, 1))
    step = BandEnergies(rate_hz=100, bands_hz=((0, 13), (13, 26), (26, 50)))
    found = step.apply(series)
    assert found.shape == (3, 1)
    assert found.sum() == pytest.approx(np.square(series).mean(), rel=1e-4)


def test_a_sine_is_in_its_band() -> None:
    """Amplitude 2 has the mean square 2, 3 dB; the other band is silent."""
    series = 2 * np.sin(2 * np.pi * 10 * np.arange(200) / 200)[:, None]
    step = BandEnergies(rate_hz=200, bands_hz=((5, 15), (20, 40)), log=True)
    np.testing.assert_allclose(step.apply(series)[:, 0], [3.0103, -120], atol=1e-3)


def test_bands_too_narrow_for_the_series_are_refused() -> None:
    """Ten samples at 100 Hz tell frequencies 10 Hz apart."""
    with pytest.raises(DataError, match="10 Hz apart and none from 11 to 19 Hz"):
        BandEnergies(rate_hz=100, bands_hz=((11, 19),)).apply(np.zeros((10, 1)))


@pytest.mark.parametrize(
    ("step", "array"),
    [
        (Fft(), np.zeros(3)),
        (Fft(), np.zeros((0, 2))),
        (Fft(size=2), np.zeros((3, 1))),
        (Fft(size=1 << 20), np.zeros((1, 40))),
        (Mfcc(**KEYWORDS), np.zeros((16000, 2))),
        (Mfcc(**KEYWORDS), np.zeros((100, 1))),
        (Mfcc(**KEYWORDS), np.zeros((2, 480, 1))),
        (Mfcc(**KEYWORDS | {"hop": 1}), np.zeros((1 << 17, 1), np.float32)),
    ],
)
def test_what_fits_no_spectrum_is_refused(step: Any, array: np.ndarray) -> None:
    """Too short, too long, or no series at all."""
    with pytest.raises(DataError) as caught:
        step.apply(array)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("make", "params"),
    [
        (Fft, {"size": -1}),
        (BandEnergies, {"rate_hz": 100, "bands_hz": ()}),
        (BandEnergies, {"rate_hz": 100, "bands_hz": ((0, 51),)}),
        (BandEnergies, {"rate_hz": 100, "bands_hz": ((5, 5),)}),
        (BandEnergies, {"rate_hz": 0, "bands_hz": ((0, 1),)}),
        (Mfcc, KEYWORDS | {"frame": 0}),
        (Mfcc, KEYWORDS | {"size": 256}),
        (Mfcc, KEYWORDS | {"coefficients": 41}),
        (Mfcc, KEYWORDS | {"high_hz": 9000}),
        (Mfcc, KEYWORDS | {"floor": 0}),
        (Mfcc, KEYWORDS | {"hop": 0}),
    ],
)
def test_wrong_parameters_are_refused(make: Any, params: dict[str, Any]) -> None:
    """Numbers that no spectrum has."""
    with pytest.raises(UsageError) as caught:
        make(**params)
    assert caught.value.hint
