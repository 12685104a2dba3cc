# SPDX-License-Identifier: MIT
"""PostgreSQL is down for a minute under load: nothing but 2xx, and all of it is in the database soon after."""
import re
import subprocess
import threading
import time

import pytest

from support import stack
from support.site import SpoolSite, scratch

RATE = 1000  # requests a second, also while the spool drains
PAYLOAD = stack.ROOT / "tests" / "bench" / "payload.json"
CONNECTIONS = 64
AWAY, WITHIN = 60, 60  # seconds


@pytest.fixture
def own():
    site = SpoolSite(scratch())
    site.postgres.settings["fsync"] = "on"
    try:
        yield site.start()
    finally:
        site.close()


class Pace:
    """tests/bench/pace.c: requests begin when their time has come, each with a body of its own."""

    def __init__(self, site, front, rate, seconds):
        argv = [stack.built("bench/pace"), front.port, site.path(), PAYLOAD, rate, seconds, CONNECTIONS]
        self.process = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, text=True)
        self.result = None
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        self.result = self.process.communicate()[0]

    def finish(self):
        """(requests, those without a 200)"""
        self.reader.join()
        assert self.process.returncode == 0
        return tuple(int(n) for n in re.search(r"requests (\d+) .* errors (\d+)", self.result).groups())


@pytest.mark.long  # test_spool.py's test_under_load is the short one
def test_down_for_a_minute(own):
    front = own.front("nginx")
    load = Pace(own, front, RATE, 2 + AWAY + WITHIN)
    try:
        time.sleep(2)
        own.postgres.stop()
        time.sleep(AWAY)
        waiting = len(own.files())
        own.postgres.start()
        begin = time.monotonic()
        own.drained(patience=WITHIN)
        took = time.monotonic() - begin
    finally:
        requests, failed = load.finish()
    print(f"{waiting} files when PostgreSQL was back, none after {took:.1f} s; {load.result.strip()}")
    assert waiting > 0.8 * RATE * AWAY
    assert failed == 0
    own.drained()
    # no two bodies are alike; what was in doubt may have come twice
    for what in ("deliveries", "transactions", "orders where state = 'paid'", "events where type = 'order.success'"):
        assert own.query(f"select count(*) from foloosi.{what}") == [(requests,)], what
