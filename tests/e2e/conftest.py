# SPDX-License-Identifier: MIT
"""The stack of the end-to-end tests, once a session: real servers, private to this run.

`front` is a parameter: the same test through nginx, through Apache in its three ways, and on the
handler's bare socket. WRAP (valgrind) and B (an ASan or TSan build) reach the handler by support/stack.py.
"""
import faulthandler
import os
import signal
import sys

import pytest

from support import stack
from support.site import FRONTS, Site, scratch


# Seconds for a test with its fixtures. A test that takes longer has a mark of its own: @pytest.mark.timeout(300)
LIMIT = 120
LIMIT_LONG = 1200
# Each file is one process's; of four, none should be left with one of these when the others have ended.
LONGEST = ["test_model.py", "test_time.py", "test_verify.py", "test_ctl.py", "test_in_doubt.py", "test_migrate.py", "test_worker.py",
           "test_spool.py", "test_answers.py", "test_reconcile.py", "test_failover.py"]
SLOWER = 5 if os.environ.get("WRAP") else 4 if stack.build_dir().name == "tsan" else 1


def pytest_configure(config):
    # `timeout make check` and the like: let fixtures end what they have started
    def ended(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ended)


def limit_of(item):
    mark = item.get_closest_marker("timeout")
    return SLOWER * max(mark.args[0] if mark else LIMIT, LIMIT_LONG if item.get_closest_marker("long") else 0)


def pytest_collection_modifyitems(config, items):
    if not os.environ.get("LONG"):
        longer = [i for i in items if i.get_closest_marker("long")]
        config.hook.pytest_deselected(items=longer)
        items[:] = [i for i in items if i not in longer]
    items.sort(key=lambda i: LONGEST.index(i.path.name) if i.path.name in LONGEST else len(LONGEST))
    for item in items:
        item.limit = limit_of(item)
        item.add_marker(pytest.mark.timeout(item.limit), append=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """pytest-timeout prints all stacks, fails the test and lets its fixtures end their servers. If they hang, too: the end."""
    faulthandler.dump_traceback_later(2 * item.limit + 60, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


# -- the session's servers ------------------------------------------------------------------


@pytest.fixture(scope="session")
def site():
    site = Site(scratch())
    try:
        yield site.start()
    finally:
        site.close()


@pytest.fixture(params=FRONTS)
def front(site, request):
    return site.front(request.param)
