from __future__ import annotations

import os
import subprocess
import threading

from skerry.edge.workers.supervisor import Supervisor


class Sleeper:
    """A process that waits for its end."""

    def __init__(self) -> None:
        self.running = subprocess.Popen(["sleep", "600"])
        self.pidfd = os.pidfd_open(self.running.pid)
        self.was_looked_at = threading.Event()
        self.has_ended = threading.Event()
        self.is_faulty = False

    def look(self) -> None:
        self.was_looked_at.set()
        if self.is_faulty:
            raise ValueError

    def ended(self) -> None:
        self.has_ended.set()
        if self.is_faulty:
            raise ValueError

    def end(self) -> None:
        """Kill it."""
        self.running.kill()
        self.running.wait()

    def close(self) -> None:
        """Leave nothing."""
        self.end()
        os.close(self.pidfd)


def test_it_sees_who_ends_and_looks_at_who_lives() -> None:
    """Whatever goes wrong with one of them."""
    supervisor = Supervisor()
    faulty, sound = Sleeper(), Sleeper()
    faulty.is_faulty = True
    for sleeper in (faulty, sound):
        supervisor.watch(sleeper)
    assert faulty.was_looked_at.wait(30)
    faulty.end()
    assert faulty.has_ended.wait(30)
    sound.was_looked_at.clear()
    assert sound.was_looked_at.wait(30)
    assert not sound.has_ended.is_set()
    sound.end()
    assert sound.has_ended.wait(30)
    supervisor.close()
    faulty.close()
    sound.close()


def test_who_is_forgotten_is_not_told() -> None:
    """Its descriptor may be another's by then."""
    supervisor = Supervisor()
    sleeper = Sleeper()
    supervisor.watch(sleeper)
    supervisor.forget(sleeper)
    supervisor.forget(sleeper)
    sleeper.end()
    supervisor._end(sleeper.pidfd)
    supervisor.close()
    assert not sleeper.has_ended.is_set()
    sleeper.close()


def test_a_descriptor_that_is_anothers_by_now_is_no_end() -> None:
    """The next process may get the number of the one that ended."""
    supervisor = Supervisor()
    sleeper = Sleeper()
    supervisor.watch(sleeper)
    supervisor._end(sleeper.pidfd)
    assert not sleeper.has_ended.is_set()
    sleeper.end()
    assert sleeper.has_ended.wait(30)
    supervisor.close()
    sleeper.close()
