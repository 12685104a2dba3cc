# SPDX-License-Identifier: MIT
"""foloosi-worker: events to the merchants' endpoints, over real HTTP.

The endpoints are faulty on purpose: they hang, dribble, redirect, break, answer 500, 410 or
without end. Signatures are checked by a verifier of our own, written from the specification.
"""
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

from support import stack
from support.endpoint import Endpoint, Request
from support.worker_site import SECRETS, WorkerSite, numbers, until


# -- the servers -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site():
    site = WorkerSite()
    try:
        yield site
    finally:
        site.close()


@pytest.fixture
def endpoint():
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def shop(site, endpoint):
    """A merchant with one endpoint, and a worker for it."""
    merchant = site.merchant()
    worker = site.worker({merchant: {"event_url": endpoint.url(), "event_secret": SECRETS[0]}})
    site.known(merchant)
    yield merchant
    worker.stop()


# -- what arrives --------------------------------------------------------------------------------


def test_an_event_arrives_signed(site, endpoint, shop):
    order = site.deliver(shop)
    until("the event", lambda: endpoint.requests)
    request = endpoint.requests[0]
    assert (request.method, request.path) == ("POST", "/events/s3cret-path")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("foloosi-worker/")
    assert request.signed_by(SECRETS[0])
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert request.event["type"] == "order.success"
    assert request.event["data"]["order"]["ref"] == order
    (event, payload), = site.pg.query("select e.id, foloosi.event_payload(e) from foloosi.events e where order_ref = %s", [order])
    assert (request.id, request.event) == (event, payload)
    until("the report", lambda: site.left(shop) == [])
    assert site.consumer(shop)[5] == f"http://127.0.0.1:{endpoint.port}"  # and not the path


def test_published_vectors():
    """The verifier above against the example of the Standard Webhooks specification."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    request = Request("POST", "/", {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330",
                                    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, b'{"test": 2432232314}')
    assert request.signed_by(secret)
    request.body += b" "
    assert not request.signed_by(secret)


def test_every_secret_signs(site, endpoint):
    merchant = site.merchant()
    worker = site.worker({merchant: {"event_url": endpoint.url(), "event_secret": SECRETS}})
    site.known(merchant)
    site.deliver(merchant)
    until("the event", lambda: endpoint.requests)
    assert [endpoint.requests[0].signed_by(s) for s in SECRETS] == [True] * 3
    assert len(endpoint.requests[0].headers["webhook-signature"].split(" ")) == 3
    worker.stop()


def test_two_urls_and_two_merchants(site):
    endpoints = [Endpoint() for _ in range(3)]
    one, two = site.merchant(), site.merchant()
    worker = site.worker({one: {"event_url": [endpoints[0].url(), endpoints[1].url()], "event_secret": SECRETS[0]},
                           two: {"event_url": endpoints[2].url(), "event_secret": SECRETS[1]}})
    site.known(one, 2)
    site.known(two)
    first, second = site.deliver(one), site.deliver(two)
    until("three events", lambda: all(e.requests for e in endpoints))
    time.sleep(0.1)
    assert [e.orders() for e in endpoints] == [[first], [first], [second]]
    assert endpoints[2].requests[0].signed_by(SECRETS[1]) and not endpoints[2].requests[0].signed_by(SECRETS[0])
    worker.stop()
    for e in endpoints:
        e.close()


def test_an_order_s_events_come_one_after_the_other(site, endpoint, shop):
    """The first is refused at first: the second waits for it, other orders do not."""
    order, tries = f"O-{next(numbers)}", itertools.count(1)
    endpoint.answer = lambda _, r: 500 if r.order == order and r.event["type"] == "order.cancel" and next(tries) < 3 else 200
    with site.pg.connect() as c, c.transaction():
        site.deliver(shop, order, "failed", c=c)
        site.deliver(shop, order, "success", c=c)
        other = site.deliver(shop, c=c)
    until("the other order", lambda: other in endpoint.orders())
    until("the second event", lambda: site.hurry(shop) or site.left(shop) == [])
    assert [r.event["type"] for r in endpoint.requests if r.order == order] == ["order.cancel"] * 3 + ["order.success"]
    assert len({r.headers["webhook-id"] for r in endpoint.requests if r.order == order}) == 2  # the same from try to try


def test_a_payback_that_stays_open_is_said_again(site, endpoint):
    merchant = site.merchant(remind_after="1 hour")
    settings = {merchant: {"event_url": endpoint.url(), "event_secret": SECRETS[0]}}
    worker = site.worker(settings)
    site.known(merchant)
    order = site.deliver(merchant)
    site.deliver(merchant, order)
    until("the payback", lambda: len(endpoint.requests) == 2)
    site.pg.query("update foloosi.paybacks set updated_at = now() - interval '2 hours' where merchant = %s", [merchant])
    assert worker.stop() == 0  # it looks each minute, and at the start
    worker.start()
    until("the reminder", lambda: len(endpoint.requests) == 3)
    first, second = [r.event["data"]["payback"] for r in endpoint.requests[1:]]
    assert "reminder" not in first and second == {**first, "reminder": 1}
    assert endpoint.requests[2].event["type"] == "payback.due" and endpoint.requests[2].signed_by(SECRETS[0])
    assert worker.stop() == 0


# -- what goes wrong -----------------------------------------------------------------------------


def hang(handler, _):
    time.sleep(3)


def reset(handler, _):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()
    handler.wfile = handler.rfile = open(os.devnull, "r+b")
    handler.close_connection = True


def dribble(handler, _):
    handler.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(30):
        handler.connection.sendall(b"x")
        time.sleep(0.1)


def nonsense(handler, _):
    handler.connection.sendall(b"\x00\xff nothing like HTTP\r\n\r\n")
    handler.close_connection = True


FAULTS = {
    "500": (500, "HTTP 500"), "503": ((503, {"Retry-After": "7200"}), "HTTP 503"), "429": ((429, {}), "HTTP 429"),
    "404": (404, "HTTP 404"), "400": (400, "HTTP 400"),
    "redirect": ((302, {"Location": "http://127.0.0.1:1/elsewhere"}), "HTTP 302"),
    "hang": (hang, "no answer in time"), "dribble": (dribble, "no answer in time"),
    "reset": (reset, "the connection broke before the end of the answer"), "nonsense": (nonsense, None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_is_tried_again(site, endpoint, fault):
    merchant = site.merchant()
    worker = site.worker({merchant: {"event_url": endpoint.url(), "event_secret": SECRETS[0]}}, event_timeout="800ms")
    site.known(merchant)
    endpoint.answer, reason = FAULTS[fault]
    site.deliver(merchant)
    until("the report", lambda: [(s, a) for _, s, a, _, _ in site.left(merchant)] == [("waiting", 1)])
    if reason:
        assert site.left(merchant)[0][4] == reason
    (wait,), = site.pg.query("select extract(epoch from due_at - now()) from foloosi.dispatches where event_id = %s", [endpoint.requests[0].id])
    assert 7000 < wait <= 7200 if fault == "503" else 1 < wait < 7  # Retry-After, or 5 s, a quarter more or less
    endpoint.answer = 200
    site.hurry(merchant)
    until("the second try", lambda: site.left(merchant) == [])
    assert endpoint.ids == [endpoint.ids[0]] * 2
    worker.stop()


def test_an_endless_answer_counts_by_its_status(site, endpoint, shop):
    sent = []

    def endless(handler, _):
        handler.connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        try:
            for _ in range(2000):
                handler.connection.sendall(chunk)
                sent.append(1)
        except OSError:
            pass
        handler.close_connection = True

    endpoint.answer = endless
    site.deliver(shop)
    until("the report", lambda: endpoint.requests and site.left(shop) == [])
    until("the cut", lambda: sent == sent[:200])
    assert len(sent) < 200


def test_nobody_listens(site):
    port = stack.free_port()
    merchant = site.merchant()
    worker = site.worker({merchant: {"event_url": f"http://127.0.0.1:{port}/s3cret", "event_secret": SECRETS[0]}})
    site.known(merchant)
    site.deliver(merchant)
    until("the report", lambda: [r[4] for r in site.left(merchant)] == ["nobody listens there, or the network is down"])
    endpoint = Endpoint(port=port)
    site.hurry(merchant)
    until("the event", lambda: site.hurry(merchant) or site.left(merchant) == [] and endpoint.requests)
    worker.stop()
    endpoint.close()


def test_410_disables_and_a_person_enables(site, endpoint, shop):
    endpoint.answer = 410
    site.deliver(shop)
    until("the end", lambda: site.consumer(shop)[3])
    name = site.consumer(shop)[0]
    for _ in range(3):
        site.deliver(shop)
    time.sleep(0.3)
    assert len(endpoint.requests) == 1
    (kind, _, reason, detail, remedy), = site.attention(shop)
    assert (kind, reason) == ("consumer", "410: it is gone") and name in remedy
    endpoint.answer = 200
    site.pg.query("select foloosi.enable_consumer(%s)", [name], user="foloosi_operator")
    until("all four", lambda: len(set(endpoint.ids)) == 4 and site.left(shop) == [])
    assert site.attention(shop) == []


@pytest.mark.parametrize("status, attempts", [(500, 5), (422, 3)])
def test_dead_letters_wait_for_a_person(site, endpoint, status, attempts):
    merchant = site.merchant()
    worker = site.worker({merchant: {"event_url": endpoint.url(), "event_secret": SECRETS[0]}}, event_attempts=5)
    site.known(merchant)
    endpoint.answer = status
    order = site.deliver(merchant)
    for n in range(1, attempts + 1):
        site.hurry(merchant)
        until(f"try {n}", lambda: [(a >= n, s != "claimed") for _, s, a, _, _ in site.left(merchant)] == [(True, True)])
    assert [(s, a, st, r) for _, s, a, st, r in site.left(merchant)] == [("dead", attempts, status, f"HTTP {status}")]
    event = site.left(merchant)[0][0]
    assert ("event", order, f"HTTP {status}") in [a[:3] for a in site.attention(merchant)]
    site.hurry(merchant)
    time.sleep(0.2)
    assert len(endpoint.requests) == attempts
    endpoint.answer = 200
    later = site.deliver(merchant, order)  # payback.due of the same order is not held back by a dead letter
    site.pg.query("update foloosi.consumers set paused_until = now() where paused_until is not null")
    until("the order's next", lambda: endpoint.requests[-1].event["type"] == "payback.due")
    site.pg.query("select foloosi.retry_events(%s, array[%s]::bigint[])", [site.consumer(merchant)[0], event], user="foloosi_operator")
    until("the dead letter", lambda: site.left(merchant) == [] and endpoint.ids[-1] == event)
    assert later == order and site.attention(merchant)[0][0] == "payback"
    worker.stop()


def test_a_dead_endpoint_is_left_alone_and_tried_with_one(site, endpoint, shop):
    endpoint.answer = 503
    for _ in range(30):
        site.deliver(shop)
    until("the circuit", lambda: site.consumer(shop)[1] >= 5 and site.consumer(shop)[2])
    until("the reports", lambda: all(s == "waiting" for _, s, _, _, _ in site.left(shop)))
    site.pg.query("update foloosi.consumers set paused_until = now() + interval '1 hour' where merchant = %s", [shop])
    asked = len(endpoint.requests)
    assert asked < 200
    for _ in range(5):
        site.deliver(shop)
    site.pg.query("update foloosi.dispatches set due_at = now()")
    time.sleep(0.3)
    assert len(endpoint.requests) == asked  # open
    failures = site.consumer(shop)[1]
    site.hurry(shop)  # half open: one goes
    until("the probe", lambda: site.consumer(shop)[1] == failures + 1)
    time.sleep(0.2)
    assert len(endpoint.requests) == asked + 1
    endpoint.answer = 200
    site.hurry(shop)
    until("all", lambda: site.left(shop) == [] and len({r.id for r in endpoint.requests}) == 35, 30)
    assert site.consumer(shop)[1:3] == (0, False)


def test_one_stuck_endpoint_stops_no_other(site):
    slow, quick = Endpoint(hang), Endpoint()
    one, two = site.merchant(), site.merchant()
    worker = site.worker({one: {"event_url": slow.url(), "event_secret": SECRETS[0]},
                           two: {"event_url": quick.url(), "event_secret": SECRETS[0]}}, event_timeout="5s", event_concurrency=2)
    site.known(one)
    site.known(two)
    for _ in range(4):
        site.deliver(one)
    until("the slow ones", lambda: len(slow.requests) == 2)
    orders = [site.deliver(two) for _ in range(10)]
    until("the quick ones", lambda: len(quick.requests) == 10)
    assert len(slow.requests) == 2 and sorted(quick.orders()) == sorted(orders)
    worker.process.kill()
    worker.process.wait()
    worker.process = None
    slow.close()
    quick.close()


# -- its life ------------------------------------------------------------------------------------


def test_the_database_goes_away_and_comes_back(site, endpoint, shop):
    site.deliver(shop)
    until("the first", lambda: len(endpoint.requests) == 1 and site.left(shop) == [])
    site.pg.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'foloosi_worker'")
    site.deliver(shop)
    until("the second", lambda: len(endpoint.requests) == 2 and site.left(shop) == [])


def test_a_report_that_is_refused_is_told_again(site, endpoint, shop):
    """Else the event would be posted again, and a mail sent twice."""
    signature = "text, bigint[], int[], text[], boolean[], int[], int[], text[]"
    site.pg.query(f"revoke execute on function foloosi.settle_events({signature}) from foloosi_worker")
    try:
        site.deliver(shop)
        until("the post", lambda: endpoint.requests)
        until("the refusal", lambda: "database_refused" in "".join(w.log.read_text() for w in site.workers))
    finally:
        site.pg.query(f"grant execute on function foloosi.settle_events({signature}) to foloosi_worker")
    until("the report", lambda: site.left(shop) == [])
    assert len(endpoint.requests) == 1 and site.pg.query("select position > 0 from foloosi.consumers where merchant = %s", [shop]) == [(True,)]


def test_asking_for_a_consumer_again_draws_no_number(site):
    name = f"again-{next(numbers)}"
    first = site.pg.query("select (foloosi.add_consumer(%s)).id", [name])
    assert [site.pg.query("select (foloosi.add_consumer(%s)).id", [name]) for _ in range(3)] == [first] * 3
    assert site.pg.query("select (foloosi.add_consumer(%s)).id", [name + "b"]) == [(first[0][0] + 1,)]


def test_sigterm_waits_for_what_is_under_way(site, endpoint):
    merchant = site.merchant()
    worker = site.worker({merchant: {"event_url": endpoint.url(), "event_secret": SECRETS[0]}})
    site.known(merchant)
    endpoint.answer = lambda *_: time.sleep(1) or 200
    site.deliver(merchant)
    until("the post", lambda: endpoint.requests)
    assert worker.stop() == 0
    assert site.left(merchant) == []  # answered, and reported
    assert len(endpoint.requests) == 1


def test_sighup_reads_the_configuration_again(site, endpoint):
    other = Endpoint()
    merchant = site.merchant()
    worker = site.worker({merchant: {"event_url": endpoint.url(), "event_secret": SECRETS[0]}})
    site.known(merchant)
    worker.config.merchants[merchant]["event_url"] = other.url()
    worker.config.write()
    worker.signal(signal.SIGHUP)
    site.known(merchant, 2)
    site.deliver(merchant)
    until("the event elsewhere", lambda: other.requests)
    assert endpoint.requests == []
    worker.config.merchants[merchant]["event_url"] = "ftp://nowhere"
    worker.config.write()
    worker.signal(signal.SIGHUP)
    until("the complaint", lambda: "reload_failed" in worker.log.read_text())
    site.deliver(merchant)
    until("the next", lambda: len(other.requests) == 2)
    assert worker.stop() == 0
    other.close()


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_several_workers_killed_at_random(site, seed):
    """Two workers, kill -9 now and then, an endpoint that fails now and then: nothing is lost, nothing unsigned, orders in order."""
    r = random.Random(seed)
    lock = threading.Lock()

    def moody(handler, request):
        with lock:
            dice = r.random()
        if dice < 0.1:
            return 500
        if dice < 0.15:
            return reset(handler, request)
        time.sleep(dice * 0.01)
        accepted.append(request)
        return 200

    accepted = []
    endpoint = Endpoint(moody)
    merchant = site.merchant()
    settings = {merchant: {"event_url": endpoint.url(), "event_secret": SECRETS[0]}}
    workers = [site.worker(settings) for _ in range(2)]
    site.known(merchant)
    for _ in range(15):
        with site.pg.connect() as c:
            for _ in range(10):
                site.deliver(merchant, f"K{seed}-{r.randint(1, 20)}", r.choice(["success", "failed"]), c=c)
        site.hurry(merchant)
        if r.random() < 0.5:
            victim = r.choice(workers)
            victim.process.kill()
            victim.process.wait()
            victim.start()
    expected = {i for i, in site.pg.query("select id from foloosi.events where merchant = %s", [merchant])}
    assert len(expected) > 60

    def done():
        # leases of the dead run out after a minute: here at once
        site.pg.query("update foloosi.dispatches d set due_at = now() from foloosi.consumers c where c.id = d.consumer_id and c.merchant = %s"
                       " and (d.state = 'waiting' or d.due_at < now() + interval '59 seconds')", [merchant])
        site.hurry(merchant)
        return site.left(merchant) == [] and {q.id for q in accepted} == expected

    until("every event", done, 60)
    for w in workers:
        assert w.stop() == 0
    assert all(q.signed_by(SECRETS[0]) for q in endpoint.requests)
    paybacks = site.pg.query("select id, transaction_id from foloosi.paybacks where merchant = %s", [merchant])
    opened = {q.id: q.event["data"]["payback"]["id"] for q in accepted if q.event["type"] == "payback.due"}
    assert paybacks and sorted(opened.values()) == sorted(i for i, _ in paybacks)  # each told, none opened twice
    assert len({t for _, t in paybacks}) == len(paybacks)
    for order in {q.order for q in accepted}:
        ids = list(dict.fromkeys(q.id for q in accepted if q.order == order))
        assert ids == sorted(ids)
    endpoint.close()


# -- a receiver ------------------------------------------------------------------------------------


def test_the_manual_s_receiver(site, tmp_path):
    """The PHP of foloosi-events(7) takes what is signed, and nothing else."""
    code = stack.manual_example("push.php")
    assert "whsec_put the secret here" in code
    (tmp_path / "events.php").write_text(code.replace("whsec_put the secret here", SECRETS[0]))
    port = stack.free_port()
    log = tmp_path / "php.log"
    with open(log, "wb") as out:
        php = subprocess.Popen([stack.program("php"), "-S", f"127.0.0.1:{port}", tmp_path / "events.php"], stdout=out, stderr=out)
    try:
        until("PHP", lambda: stack.connects(("127.0.0.1", port)))
        merchant = site.merchant()
        settings = {"event_url": f"http://127.0.0.1:{port}/", "event_secret": [SECRETS[1], SECRETS[0]]}
        worker = site.worker({merchant: settings})
        site.known(merchant)
        order = site.deliver(merchant)
        until("the event", lambda: site.pg.query("select 1 from foloosi.events where merchant = %s", [merchant]) and site.left(merchant) == [] and f"paid: {order}" in log.read_text())
        number, = site.pg.query("select transaction_no from foloosi.transactions where merchant = %s", [merchant])[0]
        site.deliver(merchant, order, "refund", number, 30)
        until("the refund", lambda: f"refunded: {order} 30 AED" in log.read_text())
        assert worker.stop() == 0
        settings["event_secret"] = SECRETS[1]
        worker.config.merchants[merchant].update(settings)
        worker.start()
        forged = site.deliver(merchant)
        until("the refusal", lambda: [r[3] for r in site.left(merchant)] == [401])
        assert f"paid: {forged}" not in log.read_text()
        assert worker.stop() == 0
    finally:
        php.terminate()
        php.wait()


# -- foloosictl events ---------------------------------------------------------------------------


def test_foloosictl_events(site, endpoint):
    def ctl(*arguments):
        return subprocess.run([stack.built("foloosictl"), "events", "--database", site.pg.conninfo("foloosi_operator"), *arguments],
                              capture_output=True, text=True)

    merchant = site.merchant()
    worker = site.worker({merchant: {"event_url": endpoint.url(), "event_secret": SECRETS[0]}}, event_attempts=1)
    site.known(merchant)
    name = site.consumer(merchant)[0]
    endpoint.answer = 400
    for _ in range(3):
        site.deliver(merchant)
    until("the dead", lambda: [r[1] for r in site.left(merchant)] == ["dead"] * 3)
    ids = [str(r[0]) for r in site.left(merchant)]
    head, *lines = ctl().stdout.splitlines()
    line, = [line for line in lines if line.startswith(name)]
    url = f"http://127.0.0.1:{endpoint.port}"
    assert head.split()[:6] == ["consumer", "endpoint", "state", "unseen", "waiting", "dead"]
    assert line.split()[:6] == [name, url, "active", "0", "0", "3"]
    row, = [row for row in json.loads(ctl("--json").stdout) if row["consumer"] == name]
    assert (row["endpoint"], row["state"], row["unseen"], row["waiting"], row["dead"]) == (url, "active", 0, 0, 3)
    assert ctl("list").stdout.splitlines()[0] == head
    assert ctl("discard", name, ids[0]).stdout == "1 events were given up\n"
    endpoint.answer = 200
    assert ctl("retry", name, ids[1]).stdout == "1 events will be handed out again\n"
    until("one", lambda: [r[1] for r in site.left(merchant)] == ["dead"])
    assert ctl("retry", name).stdout == "1 events will be handed out again\n"
    until("the other", lambda: site.left(merchant) == [])
    assert sorted(endpoint.ids) == sorted([int(ids[0])] + [int(i) for i in ids[1:]] * 2)
    assert ctl("disable", name).returncode == 0 and site.consumer(merchant)[3]
    assert ctl("enable", name).returncode == 0 and not site.consumer(merchant)[3]
    assert worker.stop() == 0
    assert ctl("drop", name).returncode == 0 and site.consumer(merchant) == []
    gone = ctl("enable", name)
    assert gone.returncode == 1 and f'there is no consumer "{name}"' in gone.stderr
    for wrong in (["retry"], ["nonsense", name], ["discard", name], ["enable", name, "1"], ["retry", name, "x"], ["list", name], ["retry", name, "--json"],
                  ["retry", name, "1,", "or", "discard"], ["enable", f"{name},", "or", "drop"]):
        assert ctl(*wrong).returncode == 2
    assert ctl("retry", name, "1", "-x").returncode == 2


# -- the command line ----------------------------------------------------------------------------


def run(*arguments):
    return subprocess.run([stack.built("foloosi-worker"), *arguments], capture_output=True, text=True)


def test_help_and_version():
    assert run("--help").returncode == 0 and run("--help").stdout.startswith("usage: foloosi-worker")
    assert run("--version").stdout.startswith("foloosi-worker ")
    assert run("--nonsense").returncode == 2
    assert run("--config", "/nowhere").returncode == 1


def test_check_config_masks(tmp_path, endpoint):
    config = stack.Config(tmp_path / "fw.conf", "", None, {"shop": {
        "token": stack.token(), "event_url": endpoint.url(), "event_secret": SECRETS[0],
        "provider_url": "https://api.example", "provider_secret": "very-s3cret"}}).write()
    done = run("--config", config.path, "--check-config")
    assert done.returncode == 0, done.stderr
    assert "s3cret" not in done.stdout and SECRETS[0] not in done.stdout
    assert f"event_url = http://127.0.0.1:{endpoint.port}/********" in done.stdout and "event_secret = ********" in done.stdout


@pytest.mark.parametrize("url, said", [
    ("http://shop.example/x", "plain_http"), ("http://127.0.0.1.shop.example/x", "plain_http"), ("http://user@127.0.0.1/x", "bad value"),
    ("ftp://127.0.0.1/x", "bad value"), ("https://shop.example/x#y", "bad value"), ("https://", "bad value"), ("https:\\\\shop.example", "bad value")])
def test_urls_that_are_refused(tmp_path, url, said):
    config = stack.Config(tmp_path / "fw.conf", "", None, {"shop": {"token": stack.token(), "event_url": url, "event_secret": SECRETS[0]}}).write()
    done = run("--config", config.path, "--check-config")
    assert done.returncode == 1 and said in done.stderr
    if said == "plain_http":
        config.worker = {"plain_http": "yes"}
        config.write()
        assert run("--config", config.path, "--check-config").returncode == 0


def test_a_url_without_a_secret_is_refused(tmp_path):
    config = stack.Config(tmp_path / "fw.conf", "", None, {"shop": {"token": stack.token(), "event_url": "https://shop.example"}}).write()
    done = run("--config", config.path, "--check-config")
    assert done.returncode == 1 and "no secret to sign" in done.stderr
