from __future__ import annotations

import os

from tests.record.conftest import finish, start
from vario.record.processes import is_alive, myself


def test_this_process_lives_and_a_forked_child_is_another() -> None:
    me = myself()
    assert me.pid == os.getpid() and is_alive(me, 0.0)
    child = finish(start(myself))
    assert child.host == me.host and child.pid != me.pid
    assert not is_alive(child, 0.0)


def test_a_process_of_somebody_else_is_seen() -> None:
    assert not is_alive(myself()._replace(pid=1), 0.0)  # it lives, but started at another time
