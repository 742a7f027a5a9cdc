from __future__ import annotations

import io
from dataclasses import replace

from skerry.adapt.profiles.conclude import compare, refusal_of
from skerry.adapt.profiles.roofline import Peaks, roofline
from skerry.app.output import Output
from skerry.app.profiling.chart import roofline_chart
from skerry.app.profiling.page import profile_page
from skerry.app.profiling.view import ProfileView, render_view
from skerry.core.profile import HardwareState, InferenceTime, OperatorTime, Profile

PEAKS = Peaks(gops=100, dtype="float32", bandwidth_gb_s=10, source="a test")
PROFILE = Profile(
    runtime="onnxruntime",
    threads=2,
    repeats=30,
    model="<net>.onnx",
    inference=InferenceTime(cpu_ms=2.0, wall_ms=2.1, noise=0.02),
    memory_bytes=1 << 20,
    before=HardwareState(temperature_c=40, clock_mhz=1800),
    after=HardwareState(temperature_c=61, clock_mhz=1800),
    operators=(
        *(
            OperatorTime(
                name=f"a/very/long/name/of/a/convolution/conv_{place}",
                op_type="Conv",
                latency_ms=0.1 + place / 10,
                dtype="float32",
                noise=0.01,
                macs=100_000 * (place + 1),
                moved_bytes=20_000,
            )
            for place in range(14)
        ),
        OperatorTime(name="relu", op_type="Relu", latency_ms=0.01, moved_bytes=10**6),
    ),
)


def view(*profiles: Profile) -> ProfileView:
    """All that is known of some profiles."""
    return ProfileView(
        profiles=profiles,
        peaks=PEAKS,
        roofs=tuple(roofline(one, PEAKS) for one in profiles),
        compared=compare(profiles),
        refusal=refusal_of(profiles),
    )


def shown(found: ProfileView) -> str:
    """What a person sees, with single spaces."""
    stdout = io.StringIO()
    Output(stdout=stdout).result(found, render_view)
    return " ".join(stdout.getvalue().split())


def test_a_terminal_shows_the_longest_first() -> None:
    """With memory, heat, clock, the noise floor, and the roof."""
    text = shown(view(PROFILE))
    for words in (
        "2 threads, 30 repeats",
        "2.00 ms of CPU time an inference",
        "noise floor 2.0 %",
        "1.00 MiB of memory",
        "40 to 61 °C, 1800 MHz",
        "Conv 99.9 % (14)",
        "and 3 shorter operators",
        "100 GOP/s in float32, 10 GB/s (a test)",
    ):
        assert words in text
    assert text.index("conv_13") < text.index("conv_12")


def test_a_difference_is_told() -> None:
    """Real, inside the noise, or not to be said."""
    slower = replace(
        PROFILE, inference=InferenceTime(cpu_ms=4.0, wall_ms=4.0, noise=0.02)
    )
    assert "2.0 × slower (noise ± 4.0 %)" in shown(view(PROFILE, slower))
    assert "no difference beyond the noise" in shown(view(PROFILE, PROFILE))
    restless = replace(
        PROFILE, inference=InferenceTime(cpu_ms=4.0, wall_ms=4.0, noise=0.3)
    )
    found = view(PROFILE, restless)
    assert found.exit_code == 30
    assert "no conclusion: two interleaved halves" in shown(found)
    assert "--repeats" in shown(found)
    assert "too restless" in shown(found)
    foreign = replace(PROFILE, inference=None, source="x.json")
    assert "how far that is noise is not known" in shown(view(PROFILE, foreign))


def test_a_page_stands_alone() -> None:
    """The picture, the cards, all operators; a name is text, whatever it holds."""
    page = profile_page(view(PROFILE, replace(PROFILE, notes=("It is hot.",))))
    assert page.count("<svg") == 4
    assert "&lt;net&gt;.onnx" in page
    assert "<net>" not in page
    assert "It is hot." in page
    assert "Side by side" in page
    assert page.count("conv_0") >= 2
    assert "http" not in page.replace("http-equiv", "")


def test_a_page_without_a_roof() -> None:
    """Profiles of files alone, or a runtime that tells no operators."""
    foreign = replace(PROFILE, inference=None)
    assert "<svg" in profile_page(ProfileView(profiles=(foreign,)))
    mute = replace(PROFILE, operators=(), notes=("It does not tell.",))
    page = profile_page(view(mute))
    assert "tells no times of operators" in page
    refused = ProfileView(profiles=(PROFILE,), refusal="they differ")
    assert "No conclusion: they differ" in profile_page(refused)


def test_the_roofline_draws_what_multiplies() -> None:
    """A circle an operator with multiply-accumulates, names for the longest."""
    chart = roofline_chart(roofline(PROFILE, PEAKS), PEAKS, title="a roof")
    assert chart.count("<circle") == 14
    assert "relu" not in chart
    assert chart.count('class="name"') <= 6
    empty = roofline_chart((), PEAKS, title="nothing")
    assert "100 GOP/s" in empty


def test_roofs_of_other_dtypes_are_drawn_too() -> None:
    """Above the first one and below, each with its name, and inside the picture."""
    peaks = replace(PEAKS, others={"int8": 400.0, "float16": 50.0})
    chart = roofline_chart(roofline(PROFILE, peaks), peaks, title="roofs")
    assert chart.count('class="trace"') == 3
    for words in ("100 GOP/s, float32", "400 GOP/s, int8", "50 GOP/s, float16"):
        assert words in chart
    assert 'cy="-' not in chart
