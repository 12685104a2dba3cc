# SPDX-License-Identifier: MIT
"""PostgreSQL away, frozen, cut off or locked: 503 with Retry-After in time, then on as before."""
import statistics
import threading
import time

import pytest

from support import stack
from support.answers import DEADLINE, SLACK, is_unavailable
from support.load import Load, at_once, volley
from support.processes import family, frozen
from support.site import BODY_LIMIT, FRONTS, BareFront, Request, Site, encode, locked, new_order, schema_of_version, scratch, transfer


@pytest.fixture(scope="module")
def own():
    site = Site(scratch())
    try:
        yield site.start()
    finally:
        site.close()


@pytest.fixture(params=FRONTS)
def front(own, request):
    return own.front(request.param)


def send_until(front, site, body, wanted=200, patience=15):
    """As a provider repeats it."""
    end = time.monotonic() + patience
    while (answer := front.send(Request(site.path(), body=body))).status != wanted:
        assert time.monotonic() < end, answer
        time.sleep(0.1)
    return answer


def test_postgresql_stopped(front, own):
    body, late = encode(transfer()), encode(transfer())
    assert front.send(Request(own.path(), body=body)).outcome == "recorded"
    own.postgres.stop()
    try:
        for _ in range(3):
            is_unavailable(front.send(Request(own.path(), body=late)))
        is_unavailable(front.send(Request(own.path(), body=body)))  # a repeat of a recorded one
        is_unavailable(front.send(Request(own.path(), body=b"not JSON")))  # could not be kept, so no 400
        is_unavailable(front.send(Request(own.path(), body=b"{}")))  # nor 422
        for answer in volley(front, [Request(own.path(), body=late)] * at_once(front, 20)):
            is_unavailable(answer, 4 * SLACK)  # plain CGI starts 20 processes
        # what needs no database
        assert front.send(Request(own.path(), "GET", type=None)).status == 200
        assert front.send(Request(own.path() + "x", body=late)).status == 404
        assert front.send(Request(own.path(), "PUT", late)).status == 405
        assert front.send(Request(own.path("basic"), body=late)).status == 401
        assert front.send(Request(own.path(), body=b" " * (BODY_LIMIT + 1))).status == 413
        assert front.send(Request(own.path(), body=late, type="text/html")).status == 415
    finally:
        own.postgres.start()
    assert send_until(front, own, late).outcome == "recorded"
    assert own.kept(late) == ("recorded", 0, late)
    assert front.send(Request(own.path(), body=body)).outcome == "duplicate"


def test_postgresql_comes_back_under_load(own):
    front = own.front("nginx")
    pid = own.handler.pid
    with Load(own, front) as load:
        time.sleep(0.5)
        own.postgres.stop()
        time.sleep(1)
        own.postgres.start()
        begin = time.monotonic()
        send_until(front, own, encode(transfer()))
        assert time.monotonic() - begin < 5 + SLACK
        time.sleep(0.5)
    assert own.handler.pid == pid and own.handler.alive()
    assert {status for _, status in load.answers} == {200, 503}
    assert own.missing(load.acknowledged()) == []


def test_postgresql_frozen(own):
    """It neither answers nor closes its connections."""
    front = own.front("nginx")
    assert len(family(own.postgres.pid)) > 3
    body = encode(transfer())
    with frozen(own.postgres.pid):
        for answer in volley(front, [Request(own.path(), body=body)] * 10):
            is_unavailable(answer)
        is_unavailable(front.send(Request(own.path(), body=body)))
        assert front.send(Request(own.path(), "GET", type=None)).status == 200
    # the frozen call may have been carried out after all: recorded once, by whichever
    assert send_until(front, own, body).outcome in ("recorded", "duplicate")
    assert own.kept(body)[0] == "recorded"


def test_connections_cut(own):
    front = own.front("nginx")
    with Load(own, front) as load:
        for _ in range(10):
            before = len(load.acknowledged())
            stack.wait_for("the next 200", lambda: len(load.acknowledged()) > before + 20, 30)
            own.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'foloosi_handler'")
    assert {status for _, status in load.answers} <= {200, 503}
    assert own.missing(load.acknowledged()) == []
    assert send_until(front, own, encode(transfer())).outcome == "recorded"


def test_a_locked_order_stops_no_other(own):
    front = own.front("nginx")
    order = new_order()
    assert front.send(Request(own.path(), body=encode(transfer("failed", order)))).status == 200

    def others(n=150):
        return [front.send(Request(own.path(), body=encode(transfer()))) for _ in range(n)]

    others()  # warm
    before = others()
    body = encode(transfer("success", order))
    stuck = []
    with locked(own, order):
        waiting = threading.Thread(
            target=lambda: stuck.extend(volley(front, [Request(own.path(), body=body)] * 5)))
        waiting.start()
        time.sleep(0.1)
        meanwhile = others()
        waiting.join()
    for answer in stuck:
        is_unavailable(answer)
    for answers in (before, meanwhile):
        assert {a.status for a in answers} == {200}
    median = [statistics.median(a.seconds for a in answers) for answers in (before, meanwhile)]
    worst = max(a.seconds for a in meanwhile)
    assert median[1] < 2 * median[0] + 0.005, f"median {median[0]:.4f} s before, {median[1]:.4f} s while locked"
    assert worst < DEADLINE / 2  # one that waits for the lock takes all of it
    assert send_until(front, own, body).outcome == "recorded"
    assert own.order(order)[0] == "paid"


def test_a_short_lock_is_waited_for(own):
    front = own.front("nginx")
    order = new_order()
    assert front.send(Request(own.path(), body=encode(transfer("failed", order)))).status == 200
    answers = []
    with locked(own, order):
        waiting = threading.Thread(
            target=lambda: answers.append(front.send(Request(own.path(), body=encode(transfer("success", order))))))
        waiting.start()
        time.sleep(0.8)
    waiting.join()
    assert (answers[0].status, answers[0].outcome) == (200, "recorded")
    assert 0.6 < answers[0].seconds < DEADLINE


def test_a_schema_that_the_program_does_not_know(own):
    front = own.front("nginx")
    body = encode(transfer())
    with schema_of_version(own, 999):
        own.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'foloosi_handler'")
        time.sleep(0.3)
        is_unavailable(front.send(Request(own.path(), body=body)))
        assert own.kept(body) is None
    assert send_until(front, own, body, patience=20).outcome == "recorded"


# -- PgBouncer in transaction mode -------------------------------------------------------------


def test_through_pgbouncer(own):
    bouncer = own.run(stack.PgBouncer(own.home / "pgbouncer", own.logs, own.postgres))
    handler = own.run(stack.Handler(own.home / "fw2", own.logs, bouncer.conninfo(), own.merchants, name="handler-pgbouncer"))
    front = BareFront(handler.socket)
    for _ in range(3):
        answers = volley(front, [Request(own.path(), body=encode(transfer())) for _ in range(100)])
        assert {(a.status, a.outcome) for a in answers} == {(200, "recorded")}
    own.postgres.stop()
    try:
        for _ in range(2):
            is_unavailable(front.send(Request(own.path(), body=encode(transfer()))))
    finally:
        own.postgres.start()
    assert send_until(front, own, encode(transfer()), patience=40).outcome == "recorded"
    assert handler.stop() == 0
    bouncer.stop()
