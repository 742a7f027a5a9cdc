from __future__ import annotations

from skerry.core.allowance import REST_S, SHORT_S, Allowance, ShortWork


def test_an_allowance_is_spent_and_comes_back() -> None:
    """A quarter of a second each second, and no more than a burst is saved."""
    allowance = Allowance(share=0.25, burst_s=0.5)
    assert not allowance.is_spent(now_s=0)
    allowance.spend(0.6, now_s=0)
    assert allowance.is_spent(now_s=0.1)
    assert not allowance.is_spent(now_s=1)
    allowance.spend(0.4, now_s=1000)
    assert not allowance.is_spent(now_s=1000)
    allowance.spend(0.2, now_s=1000)
    assert allowance.is_spent(now_s=1000)


def test_short_work_is_done_at_once() -> None:
    """Until it has become long; after a while it is tried again."""
    short = ShortWork(share=1.0)
    assert short.is_due("a", now_s=0)
    for now_s in range(20):
        short.took("a", SHORT_S / 2, now_s=now_s)
        assert short.is_due("a", now_s=now_s)
    short.took("a", 100 * SHORT_S, now_s=20)
    assert not short.is_due("a", now_s=20 + REST_S / 2)
    assert short.is_due("b", now_s=20 + REST_S / 2)
    assert short.is_due("a", now_s=20 + REST_S)


def test_short_work_leaves_the_loop_most_of_its_time() -> None:
    """Much of what is short is too much."""
    short, done = ShortWork(share=0.25), 0
    for step in range(10_000):  # ten seconds
        now_s = step / 1000
        if short.is_due("a", now_s=now_s):
            short.took("a", 0.001, now_s=now_s)
            done += 1
    assert 2400 <= done <= 2600
