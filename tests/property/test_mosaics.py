from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from skerry.edge.streams.gate import Region
from skerry.edge.streams.mosaics import GAP_PX, Part, Size, grown, pack, sort_out
from skerry.edge.streams.tracks import Seen

_sides = st.floats(0, 1)


@st.composite
def regions(draw: st.DrawFn) -> Region:
    """A part of a picture, which may be empty or all of it."""
    left, right = sorted((draw(_sides), draw(_sides)))
    top, bottom = sorted((draw(_sides), draw(_sides)))
    return (left, top, right, bottom)


@st.composite
def mosaics(draw: st.DrawFn) -> list[Part]:
    """Parts of pictures of several sizes, for one input; small ones above all."""
    frame = Size(draw(st.integers(32, 416)), draw(st.integers(32, 416)))
    parts = []
    for _ in range(draw(st.integers(1, 9))):
        picture = Size(
            draw(st.integers(8, frame.rows)), draw(st.integers(8, frame.columns))
        )
        left, top, right, bottom = draw(regions())
        shrink = draw(st.sampled_from([1.0, 0.3]))
        region = (
            left,
            top,
            left + shrink * (right - left),
            top + shrink * (bottom - top),
        )
        parts.append(Part(region=region, picture=picture, frame=frame))
    return parts


@given(mosaics())
def test_parts_lie_inside_the_input_and_apart(parts: list[Part]) -> None:
    """As large as they are, with a gap; whole pixels around what is asked for."""
    corners = pack(parts)
    if corners is None:
        return
    places = [
        (
            corner.left,
            corner.top,
            corner.left + part.size.columns,
            corner.top + part.size.rows,
        )
        for part, corner in zip(parts, corners, strict=True)
    ]
    frame = parts[0].frame
    for left, top, right, bottom in places:
        assert GAP_PX <= left < right <= frame.columns - GAP_PX
        assert GAP_PX <= top < bottom <= frame.rows - GAP_PX
    for one, other in combinations(places, 2):
        is_beside = one[2] + GAP_PX <= other[0] or other[2] + GAP_PX <= one[0]
        is_below = one[3] + GAP_PX <= other[1] or other[3] + GAP_PX <= one[1]
        assert is_beside or is_below
    for part in parts:
        left, top, right, bottom = part.box
        rows, columns = part.picture
        assert 0 <= left < right <= columns
        assert 0 <= top < bottom <= rows
        assert left <= part.region[0] * columns
        assert part.region[3] * rows <= bottom


@given(mosaics(), st.data())
def test_boxes_come_back_to_where_they_were(
    parts: list[Part], data: st.DataObject
) -> None:
    """To their picture, within a pixel; what lies between parts comes to none."""
    corners = pack(parts)
    if corners is None:
        return
    place = data.draw(st.integers(0, len(parts) - 1))
    part, corner = parts[place], corners[place]
    x, y, end, low = data.draw(regions())
    width, height = part.size.columns, part.size.rows
    box = (x * width, y * height, end * width, low * height)
    frame = part.frame
    in_frame = (
        (corner.left + box[0]) / frame.columns,
        (corner.top + box[1]) / frame.rows,
        (corner.left + box[2]) / frame.columns,
        (corner.top + box[3]) / frame.rows,
    )
    seen = [
        Seen(region=in_frame, score=0.7, label="person"),
        Seen(region=(0.0, 0.0, 0.0, 0.0), score=0.9, label="person"),
    ]
    found = sort_out(seen, parts, corners)
    assert [len(some) for some in found] == [int(n == place) for n in range(len(parts))]
    rows, columns = part.picture
    left, top, _, _ = part.box
    back = found[place][0].region
    expected = (left + box[0], top + box[1], left + box[2], top + box[3])
    sides = (back[0] * columns, back[1] * rows, back[2] * columns, back[3] * rows)
    for one, other in zip(sides, expected, strict=True):
        assert abs(one - other) < 1


@given(st.lists(regions(), min_size=1, max_size=4))
def test_a_margin_stays_inside_the_picture(some: list[Region]) -> None:
    """And nothing that was to be in is out."""
    around = grown(some)
    assert all(0 <= side <= 1 for side in around)
    for region in some:
        assert around[0] <= region[0]
        assert around[1] <= region[1]
        assert region[2] <= around[2]
        assert region[3] <= around[3]
