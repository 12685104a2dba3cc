# SPDX-License-Identifier: MIT
"""What the other tests lean on: tests/support/."""
import os
import signal
import subprocess
import sys
import time

import pytest

from support import stack
from support.processes import descendants, frozen

# Children that live for some milliseconds, two at a time, each with a child of its own
FORKING = 'while :; do (sleep 0.01; :) & (sleep 0.02; :) & wait; echo .; done'


@pytest.fixture
def forking(tmp_path):
    lines = tmp_path / "lines"
    with open(lines, "wb") as out:
        process = subprocess.Popen(["/bin/sh", "-c", FORKING], stdout=out, start_new_session=True)
    try:
        stack.wait_for("the first", lambda: lines.stat().st_size > 3)
        yield process, lines
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def goes_on(lines):
    before = lines.stat().st_size
    stack.wait_for("the next", lambda: lines.stat().st_size > before + 3)
    return True


def test_frozen_stops_processes_that_come_and_go(forking):
    process, lines = forking
    for _ in range(20):
        with frozen(process.pid):
            before, size = descendants([process.pid]), lines.stat().st_size
            assert set(before.values()) <= {"T", "D"}
            time.sleep(0.05)
            assert descendants([process.pid]).keys() == before.keys() and lines.stat().st_size == size
        assert goes_on(lines)


def test_frozen_lets_go_on_after_an_exception(forking):
    process, lines = forking
    with pytest.raises(ZeroDivisionError), frozen(process.pid, 1 << 22):  # and one that there is not
        1 / 0
    assert goes_on(lines)


def test_frozen_lets_go_on_when_the_tests_are_killed(forking):
    process, lines = forking
    code = f"""if 1:
        import sys, time
        sys.path.insert(0, {str(stack.ROOT / "tests")!r})
        from support.processes import frozen
        with frozen({process.pid}):
            print("frozen", flush=True)
            time.sleep(60)"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as freezer:
        assert freezer.stdout.readline() == b"frozen\n"
        assert set(descendants([process.pid]).values()) <= {"T", "D"}
        freezer.kill()
    assert goes_on(lines)
