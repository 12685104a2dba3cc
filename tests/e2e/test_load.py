# SPDX-License-Identifier: MIT
"""Many at once: what is counted once is counted once, and what was acknowledged is there."""
import collections
import re
import signal
import threading
import time

import pytest

from support import stack
from support.answers import SLACK
from support.load import A_PROCESS_EACH, Load, volley
from support.site import FRONTS, Request, Site, encode, new_order, scratch, transfer

MANY = 200
# A process with a sanitizer, and the session that it opens, take up to a quarter of a second of CPU.
# `make e2e-long` asks the build without sanitizers for all 200.
SANITIZED = stack.build_dir().name in ("asan", "tsan")
PATIENCE = 120  # seconds


@pytest.fixture(scope="module")
def patient():
    """200 processes at once, on two cores that have other things to do, may take longer than all the limits on time
    that are right for a shop: the handler's, Apache's, the sender's."""
    site = Site(scratch(), deadline="60s")
    try:
        yield site.start()
    finally:
        site.close()


@pytest.fixture(params=FRONTS)
def crowded(request):
    """A site and one of its fronts."""
    if request.param not in A_PROCESS_EACH:
        site = request.getfixturevalue("site")
        return site, site.front(request.param)
    site = request.getfixturevalue("patient")
    include = site.home / f"{request.param}-patient.conf"
    file = f"apache/foloosi-webhook-{request.param.removeprefix('apache-')}.conf"
    text, n = re.subn(r"(CGIDScriptTimeout|ConnectTimeout|IOTimeout) \d+", rf"\1 {PATIENCE}", (stack.ROOT / file).read_text())
    assert n > 0
    include.write_text(text)
    return site, site.front(request.param, include)


def many(front):
    return 16 if SANITIZED and front.name in A_PROCESS_EACH else MANY


def statuses(answers):
    return collections.Counter(a.status for a in answers)


def outcomes(answers):
    return collections.Counter(a.outcome for a in answers)


def test_copies_of_one_body(crowded):
    site, front = crowded
    n = many(front)
    order = new_order()
    body = encode(transfer(order=order))
    answers = volley(front, [Request(site.path(), body=body, timeout=PATIENCE)] * n)
    assert statuses(answers) == {200: n}
    assert outcomes(answers) == {"recorded": 1, "duplicate": n - 1}
    assert {a.json["order"]["state"] for a in answers} == {"paid"}
    assert site.kept(body) == ("recorded", n - 1, body)
    assert site.query("select count(*) from foloosi.events where order_ref = %s", [order]) == [(1,)]
    assert site.query("select count(*) from foloosi.paybacks where order_ref = %s", [order]) == [(0,)]


def test_many_payments_of_one_order(crowded):
    """They are decided one after the other. Whose time is over is answered 503, and the sender tries again."""
    site, front = crowded
    n = many(front)
    order = new_order()
    requests, answers = [Request(site.path(), body=encode(transfer(order=order)), timeout=PATIENCE) for _ in range(n)], []
    while requests:
        got = volley(front, requests)
        assert set(statuses(got)) <= {200, 503}
        answers += [a for a in got if a.status == 200]
        requests = [r for r, a in zip(requests, got) if a.status == 503]
    assert statuses(answers) == {200: n}
    assert outcomes(answers) == {"recorded": n}
    assert site.order(order)[0] == "paid"
    assert site.query("select count(*) from foloosi.transactions where order_ref = %s", [order]) == [(n,)]
    assert site.query(
        "select state::text, reason, count(*), count(distinct transaction_id) from foloosi.paybacks where order_ref = %s group by 1, 2",
        [order]) == [("due", "double_payment", n - 1, n - 1)]
    assert dict(site.query("select type::text, count(*) from foloosi.events where order_ref = %s group by 1", [order])) == {
        "order.success": 1, "payback.due": n - 1}


def test_many_orders(crowded):
    site, front = crowded
    n = many(front)
    orders = [new_order() for _ in range(n)]
    answers = volley(front, [Request(site.path(), body=encode(transfer(order=o)), chunked=bool(i % 2), pieces=1 + i % 3, timeout=PATIENCE)
                             for i, o in enumerate(orders)])
    assert statuses(answers) == {200: n}
    assert [a.json["order"] for a in answers] == [{"ref": o, "state": "paid"} for o in orders]


@pytest.mark.parametrize("name", ["nginx", "apache-proxy", "bare"])
def test_slow_senders_do_not_stop_the_others(site, name):
    """Forty bodies that crawl, and fifty that do not. nginx waits for a whole body, the others leave that to the handler."""
    front = site.front(name)
    slow = [Request(site.path(), body=encode(transfer()), pieces=10, delay=0.15) for _ in range(40)]
    crawl = threading.Thread(target=lambda: answers.extend(volley(front, slow)))
    answers = []
    crawl.start()
    time.sleep(0.3)
    for _ in range(50):
        quick = front.send(Request(site.path(), body=encode(transfer())))
        assert quick.status == 200 and quick.seconds < 1
    crawl.join()
    assert statuses(answers) == {200: 40}


# -- signals, on a stack of their own ----------------------------------------------------------


@pytest.fixture(scope="module")
def own():
    site = Site(scratch())
    try:
        yield site.start()
    finally:
        site.close()


@pytest.mark.parametrize("name", ["nginx", "apache-proxy", "bare"])
def test_sigterm_under_load_loses_nothing_that_was_acknowledged(own, name):
    front = own.front(name)
    with Load(own, front) as load:
        for _ in range(2):
            time.sleep(0.7)
            begin = time.monotonic()
            assert own.handler.stop() == 0
            assert time.monotonic() - begin < 4 + SLACK
            own.handler.start()
        time.sleep(0.5)
    acknowledged = load.acknowledged()
    assert len(acknowledged) > 50
    assert acknowledged[-1] in [body for body, _ in load.answers[-50:]], "it works again"
    assert own.missing(acknowledged) == []
    others = {status for _, status in load.answers} - {200}
    assert others <= ({502, 503, 504} if name != "bare" else {503, "FileNotFoundError", "ConnectionRefusedError",
                                                            "ConnectionResetError", "BrokenPipeError", "ValueError"})


def test_sighup_under_load_fails_no_request(own):
    front = own.front("nginx")
    handler = own.handler
    with Load(own, front) as load:
        for n in range(20):
            handler.config.settings["threads"] = 128
            handler.config.merchants["shop"]["token"] = [own.tokens["shop"], f"another-token-number-{n:04}"]
            handler.config.write()
            if n % 5 == 4:
                handler.config.path.write_text("[foloosi-webhook]\nnonsense = 1\n")
            handler.signal(signal.SIGHUP)
            time.sleep(0.08)
    assert len(load.answers) > 100
    assert {status for _, status in load.answers} == {200}
    handler.config.write()
    handler.signal(signal.SIGHUP)
    newest = Request(own.path("shop", "another-token-number-0019"), body=encode(transfer()))
    stack.wait_for("the newest token", lambda: front.send(newest).status == 200)
    assert front.send(Request(own.path("shop", "another-token-number-0018"), body=encode(transfer()))).status == 404
    assert "nonsense" in handler.log.read_text(), "the log says why a configuration was not taken"


def test_a_killed_handler_loses_nothing_that_was_acknowledged(own):
    front = own.front("nginx")
    with Load(own, front) as load:
        time.sleep(0.7)
        own.handler.signal(signal.SIGKILL)
        own.handler.process.wait()
        own.handler.start()
        time.sleep(0.5)
    acknowledged = load.acknowledged()
    assert len(acknowledged) > 50
    assert own.missing(acknowledged) == []
