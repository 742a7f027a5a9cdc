from __future__ import annotations

from skerry.adapt.profiles.conclude import compare, refusal_of, type_shares
from skerry.core.profile import InferenceTime, OperatorTime, Profile


def profile(
    cpu_ms: float | None, noise: float = 0.02, name: str = "m.onnx", op_ms: float = 1.0
) -> Profile:
    """A profile of three operators, of two types."""
    whole = None
    if cpu_ms is not None:
        whole = InferenceTime(cpu_ms=cpu_ms, wall_ms=cpu_ms, noise=noise)
    return Profile(
        runtime="r",
        threads=1,
        repeats=1,
        model=name,
        inference=whole,
        operators=(
            OperatorTime(name="a", op_type="Conv jit_f32", latency_ms=op_ms),
            OperatorTime(name="b", op_type="Conv jit_i8", latency_ms=op_ms),
            OperatorTime(name="c", op_type="", latency_ms=op_ms / 2),
        ),
    )


def test_stable_profiles_are_compared() -> None:
    """A difference beyond the noise of both is real, any other is none."""
    same, slower = compare([profile(1.0), profile(1.03), profile(1.5)])
    assert same.is_real is False
    assert slower.is_real is True
    assert slower.ratio == 1.5
    assert slower.noise == 0.04
    assert refusal_of([profile(1.0), profile(1.5)]) == ""


def test_unstable_ones_allow_no_conclusion() -> None:
    """More than 10 % between the halves: the figures stay, the verdict does not."""
    profiles = [profile(1.0), profile(2.0, noise=0.31, name="n.onnx")]
    assert "n.onnx on r by 31 %" in refusal_of(profiles)
    (found,) = compare(profiles)
    assert (found.ratio, found.is_real) == (2.0, None)


def test_profiles_of_files_have_no_noise() -> None:
    """They are compared by the sums of operators, and nothing is called real."""
    (found,) = compare([profile(None), profile(None, op_ms=2.0)])
    assert (found.ratio, found.noise, found.is_real) == (2.0, None, None)
    assert refusal_of([profile(None)]) == ""
    assert compare([profile(1.0)]) == ()
    assert compare([profile(0.0), profile(1.0)]) == ()


def test_time_is_summed_by_type() -> None:
    """Kernels of one type count together; one without a type goes by its name."""
    conv, other = type_shares(profile(1.0))
    assert (conv.op_type, conv.operators, conv.share) == ("Conv", 2, 0.8)
    assert (other.op_type, other.operators) == ("c", 1)
