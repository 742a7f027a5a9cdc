from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.durable import write_files
from skerry.testing import PowerCut, SimulatedDisk

FOLDER = Path("f")
CONTENTS = st.dictionaries(st.sampled_from("abc"), st.binary(max_size=4), min_size=1)


@given(old=CONTENTS, new=CONTENTS, cut_at=st.integers(0, 9))
def test_each_file_is_whole_after_a_power_cut(
    old: dict[str, bytes], new: dict[str, bytes], cut_at: int
) -> None:
    """Whatever stood there, whatever is written, whenever the power goes."""
    disk = SimulatedDisk(
        {FOLDER / name: content for name, content in old.items()}, cut_at=cut_at
    )
    try:
        write_files(FOLDER, new, disk=disk)
        allowed = [{**old, **new}]
    except PowerCut:
        allowed = [old, new]
    for state in disk.after_power_cut():
        for name in old | new:
            found = state.get(FOLDER / name)
            assert found in [files.get(name, old.get(name)) for files in allowed]


def test_a_cut_within_reach_is_reached() -> None:
    """The property above does cut: ten calls are not more than a write makes."""
    disk = SimulatedDisk(cut_at=9)
    with pytest.raises(PowerCut):
        write_files(FOLDER, dict.fromkeys("abc", b""), disk=disk)
