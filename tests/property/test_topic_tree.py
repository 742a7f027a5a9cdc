"""The tree of topics against the plain rule."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skerry.comms.links import topic_matches
from skerry.comms.topic_tree import TopicTree

LEVELS = st.sampled_from(["a", "b", "", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
PATTERNS = st.builds(
    lambda levels, rest: "/".join(levels + rest),
    st.lists(LEVELS | st.just("+"), min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
).filter(bool) | st.just("#")


@given(patterns=st.sets(PATTERNS), topic=TOPICS)
def test_the_tree_finds_the_patterns_that_match(patterns: set[str], topic: str) -> None:
    """Exactly those that match one by one."""
    tree = TopicTree[str]()
    for pattern in patterns:
        tree.put(pattern, pattern)
    found = list(tree.whose_pattern_matches(topic))
    assert sorted(found) == sorted(p for p in patterns if topic_matches(p, topic))


@given(topics=st.sets(TOPICS), pattern=PATTERNS)
def test_the_tree_finds_the_topics_that_match(topics: set[str], pattern: str) -> None:
    """Exactly those that match one by one."""
    tree = TopicTree[str]()
    for topic in topics:
        tree.put(topic, topic)
    found = list(tree.whose_topic_matches(pattern))
    assert sorted(found) == sorted(t for t in topics if topic_matches(pattern, t))


@given(kept=st.sets(PATTERNS), gone=st.sets(PATTERNS))
def test_what_is_removed_leaves_nothing(kept: set[str], gone: set[str]) -> None:
    """The tree is as if what was removed had never been there."""
    tree = TopicTree[str]()
    for pattern in gone | kept:
        tree.put(pattern, pattern)
    for pattern in gone:
        assert tree.pop(pattern) == pattern
        assert tree.pop(pattern) is None
        assert tree.get(pattern) is None
    for pattern in kept - gone:
        assert tree.pop(pattern) == pattern
    assert not tree._root.children
