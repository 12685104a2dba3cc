"""The stack of the end-to-end tests, once a session: real servers, private to this run.

`front` is a parameter: the same test through nginx, through Apache in its three ways, and on the
handler's bare socket. WRAP (valgrind) and B (an ASan or TSan build) reach the handler by support/stack.py.
"""
import os
import signal

import pytest

from support.site import FRONTS, Site, scratch


def pytest_configure(config):
    # `timeout make check` and the like: let fixtures end what they have started
    def ended(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, ended)


def pytest_collection_modifyitems(config, items):
    if not os.environ.get("LONG"):
        longer = [i for i in items if i.get_closest_marker("long")]
        config.hook.pytest_deselected(items=longer)
        items[:] = [i for i in items if i not in longer]


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
