# SPDX-License-Identifier: MIT
"""/healthz, /readyz and /metrics, through the shipped files of nginx and Apache: who may ask, and whether it is true."""
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from support import fcgi_client, stack
from support.answers import SLACK
from support.processes import frozen
from support.site import FRONTS, OperationsSite, OperatorsFront, Request, ask, encode, new_order, parse, scratch, transfer

PAGES = ("/healthz", "/readyz", "/metrics")
WEB_SERVERS = ("nginx", "apache-proxy")


def total(merchant, outcome):
    return f'foloosi_requests_total{{merchant="{merchant}",outcome="{outcome}"}}'


@pytest.fixture(scope="module")
def site():
    site = OperationsSite(scratch())
    try:
        yield site.start()
    finally:
        site.close()


@pytest.fixture
def outage_site():
    """One whose database a test may harm."""
    site = OperationsSite(scratch(), deadline="2s")
    try:
        yield site.start()
    finally:
        site.close()


# -- who may ask ------------------------------------------------------------------------------


@pytest.mark.parametrize("front", WEB_SERVERS)
@pytest.mark.parametrize("page", PAGES)
def test_who_may_ask(site, front, page):
    answer = site.get(page, front)
    assert answer.status == 200 and answer.header("Cache-Control") == "no-store"
    assert answer.header("Content-Type") == {"/metrics": "text/plain; version=0.0.4; charset=utf-8"}.get(page, "application/json")
    head = site.get(page, front, method="HEAD")
    assert head.status == 200 and head.body == b""
    assert site.get(page + "?x=1", front).status == 200
    for method in ("POST", "DELETE", "OPTIONS"):
        refused = site.get(page, front, method=method, body=b"x" if method == "POST" else b"")
        assert refused.status == 405 and refused.header("Allow") == "GET, HEAD"

    # Loopback is 127.0.0.1: not another address of this machine, whatever its headers say.
    assert site.get(page, front, source="127.0.0.2").status == 403
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "Client-IP"):
        assert site.get(page, front, source="127.0.0.2", headers=[(name, "127.0.0.1")]).status == 403
    # A request that a proxy on this machine passed on is not one of this machine's users.
    for name in ("X-Forwarded-For", "Forwarded", "Via"):
        assert site.get(page, front, headers=[(name, "127.0.0.1")]).status == 404


@pytest.mark.parametrize("front", FRONTS)
def test_not_through_the_webhooks_location(site, front):
    """All spellings that the location for webhooks, or none, would take: 404, and nothing of ours is in it."""
    server = site.front(front)
    unknown = server.send(Request("/webhooks/foloosi/nobody/0123456789abcdef", "GET", type=None))
    assert unknown.status == 404
    headers = [("FOLOOSI_OPERATIONS", "on"), ("FOLOOSI-OPERATIONS", "on"), ("Foloosi-Operations", "on")]
    paths = [f"/webhooks/foloosi{p}" for p in PAGES] + [f"/webhooks/foloosi/..{p}" for p in PAGES]
    paths += [f"/webhooks/foloosi/../..{p}" for p in PAGES] if front == "bare" else []
    paths += list(PAGES) if front == "bare" else []
    for path in paths:
        answer = server.send(Request(path, "GET", type=None, headers=headers))
        # (a path with dots is another one for a web server, and not ours to answer)
        assert answer.status == 404 or (".." in path and answer.status == 403), path
        assert b"foloosi_" not in answer.body and b"alive" not in answer.body
        if front == "bare":
            assert answer.body == unknown.body
    if front in ("apache-fcgid", "apache-cgi"):  # short-lived processes have no such pages
        for page in PAGES:
            assert ask(server, page).status in (403, 404)


def test_bare_tool(site):
    """The example of foloosi-webhook(8)."""
    env = {"PATH": stack.ENV_PATH, "FOLOOSI_OPERATIONS": "on", "REQUEST_METHOD": "GET", "REQUEST_URI": "/metrics"}
    run = subprocess.run(["cgi-fcgi", "-bind", "-connect", site.handler.socket], env=env, capture_output=True, check=True)
    assert run.stdout.startswith(b"Status: 200 OK\r\n")
    assert b"\nfoloosi_database_up 1\n" in run.stdout


# -- whether it is true -----------------------------------------------------------------------


def test_counters_move_by_what_was_sent(site):
    """Through nginx; exactly, by merchant and outcome, and so do all that is derived from it."""
    before = site.metrics()
    body = encode(transfer())
    assert [site.post(body).outcome for _ in range(3)] == ["recorded", "duplicate", "duplicate"]
    assert site.post(encode(transfer()), "hushed").outcome == "recorded"
    assert site.post(encode(transfer("pending"))).outcome == "ignored"
    assert site.post(b"{").status == 400
    assert site.post(b"{}").status == 422
    assert site.post(encode(transfer()), "basic").status == 401
    nginx = site.front("nginx")
    assert nginx.send(Request(site.path("shop", "x" * 48), body=body)).status == 404
    assert nginx.send(Request("/webhooks/foloosi/nobody/" + "x" * 48, body=body)).status == 404
    assert nginx.send(Request(site.path(), "GET", type=None)).status == 200
    assert nginx.send(Request(site.path(), "PUT", body=body)).status == 405
    after = site.metrics()
    moved = {s: after[s] - before.get(s, 0) for s in after if after[s] != before.get(s, 0) and s.endswith('"}') and "bucket" not in s}
    moved = {s: n for s, n in moved.items() if "_total" in s}
    assert moved == {
        total("shop", "recorded"): 1, total("shop", "duplicate"): 2, total("hushed", "recorded"): 1, total("shop", "ignored"): 1,
        total("shop", "not_json"): 1, total("shop", "not_transfer"): 1, total("basic", "unauthorized"): 1,
        total("shop", "not_found"): 1, total("-", "not_found"): 1, total("shop", "hello"): 1, total("shop", "bad_method"): 1,
        **{f'foloosi_answers_total{{status="{s}"}}': n for s, n in ((200, 6), (400, 1), (401, 1), (404, 2), (405, 1), (422, 1))},
    }

    def change(name):
        return after[name] - before[name]

    assert change("foloosi_request_duration_seconds_count") == 12  # the operator's own are not among them
    assert change('foloosi_request_duration_seconds_bucket{le="+Inf"}') == 12
    assert change("foloosi_commits_total") == change("foloosi_batch_deliveries_count") == change("foloosi_commit_duration_seconds_count") == 7
    assert change("foloosi_batch_deliveries_sum") == 7
    assert after["foloosi_database_up"] == after["foloosi_monitor_up"] == 1
    assert after["foloosi_queue_length"] == 0


def test_reload_keeps_counters(site):
    before = site.metrics()
    log = site.handler.log
    seen = log.read_text().count("event=reloaded")
    site.handler.signal(signal.SIGHUP)
    stack.wait_for("the reload", lambda: log.read_text().count("event=reloaded") > seen)
    assert site.post(encode(transfer())).outcome == "recorded"
    after = site.metrics()
    assert after[total("shop", "recorded")] == before[total("shop", "recorded")] + 1
    assert after['foloosi_config_reloads_total{result="ok"}'] == before['foloosi_config_reloads_total{result="ok"}'] + 1
    assert after["process_start_time_seconds"] == before["process_start_time_seconds"]


def test_process_metrics(site):
    found = site.metrics()
    pid = site.handler.pid
    if not os.environ.get("WRAP"):
        assert abs(found["process_open_fds"] - len(os.listdir(f"/proc/{pid}/fd"))) <= 2
        assert found["process_start_time_seconds"] == pytest.approx(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
                                                                     + stack.birth(pid) / os.sysconf("SC_CLK_TCK"), abs=3)
    assert found["process_resident_memory_bytes"] > 1 << 20 and found["process_cpu_seconds_total"] > 0


def test_database_facts(site):
    """What waits there, at most some seconds old."""
    order = new_order()
    for _ in range(2):  # a double payment
        assert site.post(encode(transfer(order=order)), "hushed").outcome == "recorded"
    due = site.query("select count(*) from foloosi.paybacks where merchant = 'hushed' and state = 'due'")[0][0]
    assert due == 1
    stack.wait_for("the facts", lambda: site.metrics().get('foloosi_paybacks{state="due",merchant="hushed"}') == due)
    found = site.metrics()
    assert found['foloosi_attention{kind="payback",merchant="hushed"}'] == due
    assert found["foloosi_schema_version"] == site.query("select foloosi.schema_version()")[0][0]
    # over a connection that is not kept
    stack.wait_for("the end of the connection", lambda: not site.query("select from pg_stat_activity where usename = 'foloosi_monitor'"))


def test_nothing_personal(site):
    """No token, order key, or what the payload has of the customer."""
    body = transfer(order="SECRET-ORDER-7", customer_email="frieda@example.org", customer_mobile="0501234567")
    assert site.post(encode(body)).outcome == "recorded"
    said = b"".join(site.get(page).body for page in PAGES)
    secrets = [*site.tokens.values(), site.second_token, "SECRET-ORDER-7", "frieda", "0501234567", body["data"]["transfer"]["transaction_no"]]
    assert [s for s in secrets if s.encode() in said] == []
    logs = "".join(p.read_text(errors="replace") for p in site.logs.glob("nginx-*.log"))
    assert not re.search(r"GET /(healthz|readyz|metrics) ", logs.replace("127.0.0.2", "")) or "forbidden by rule" in logs


def test_promtool(site):
    """Debian's promtool finds nothing to complain about."""
    text = site.get("/metrics", "nginx").body
    check = subprocess.run([stack.program("promtool"), "check", "metrics"], input=text, capture_output=True)
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")
    assert parse(text.decode())


# -- when things go wrong ---------------------------------------------------------------------


def test_ready_and_away(outage_site):
    """Database stopped: alive, not ready, spooling; back: ready, drained; all of it counted."""
    site = outage_site
    stack.wait_for("readiness", lambda: site.get("/readyz", "nginx").status == 200)
    first = site.get("/readyz", "nginx")
    assert first.json["status"] == "ready"
    assert set(first.json["checks"]) == {"database", "writer", "spool"} and all(c["ok"] for c in first.json["checks"].values())

    site.postgres.stop()
    stack.wait_for("not ready", lambda: site.get("/readyz", "nginx").status == 503)
    assert site.get("/healthz", "nginx").status == 200
    answer = site.get("/readyz", "nginx").json
    assert answer["status"] == "not ready" and answer["checks"]["database"]["reason"] == "database"
    bodies = [encode(transfer()) for _ in range(3)]
    assert [site.post(b).outcome for b in bodies] == ["spooled"] * 3
    stack.wait_for("the writer to notice", lambda: site.metrics()["foloosi_database_up"] == 0)
    stack.wait_for("the spool's count", lambda: site.metrics()["foloosi_spool_oldest_seconds"] >= 1)
    away = site.metrics()
    assert away["foloosi_spool_files"] == 3 and away["foloosi_spool_bytes"] > 3 * len(bodies[0])
    assert away[total("shop", "spooled")] == 3
    stack.wait_for("stale facts to go", lambda: site.metrics()["foloosi_monitor_up"] == 0)
    assert not any(s.startswith("foloosi_attention") for s in site.metrics())
    spool = site.get("/readyz").json["checks"]["spool"]
    assert spool["ok"] and spool["files"] == 3 and spool["oldest_s"] >= 1

    site.postgres.start()
    stack.wait_for("readiness", lambda: site.get("/readyz", "apache-proxy").status == 200)
    stack.wait_for("the drain", lambda: site.metrics()["foloosi_spool_files"] == 0)
    back = site.metrics()
    assert back['foloosi_spool_drained_total{outcome="recorded"}'] == 3
    assert back["foloosi_database_connects_total"] >= 2 and back["foloosi_database_up"] == 1
    assert site.missing(bodies) == []


def test_database_hangs(outage_site):
    """It neither answers nor closes its connections: 503 within the deadline, however many ask, and deliveries go on."""
    site = outage_site
    site.front("nginx")
    stack.wait_for("readiness", lambda: site.get("/readyz").status == 200)
    time.sleep(1.1)  # the answer of the last round trip is too old by then
    with frozen(site.postgres.pid):
        answers = []
        crowd = [threading.Thread(target=lambda: answers.append(site.get("/readyz", "nginx"))) for _ in range(12)]
        for t in crowd:
            t.start()
        spooled = site.post(encode(transfer()))
        assert spooled.outcome == "spooled"
        assert site.get("/healthz", "nginx").status == 200
        for t in crowd:
            t.join()
        assert [a.status for a in answers] == [503] * 12
        told = [a.json["checks"]["database"] for a in answers if "checks" in a.json]
        assert told and not any(c["ok"] for c in told)
        assert len([a for a in answers if a.header("Retry-After")]) == 12 - len(told)  # too many at a time
        # The handler's own deadline is 2 s, here on a busy machine; nginx's would be 10 and another answer.
        assert max(c["ms"] for c in told) <= 2000 + 1000 * SLACK
    stack.wait_for("readiness", lambda: site.get("/readyz").status == 200)


def test_full_spool_is_not_ready(outage_site):
    site = outage_site
    site.handler.stop()
    site.handler.config.settings["spool_max_files"] = "2"
    site.handler.start()
    site.postgres.stop()
    stack.wait_for("the writer to notice", lambda: site.metrics()["foloosi_database_up"] == 0)
    assert [site.post(encode(transfer()), front="bare").status for _ in range(3)] == [200, 200, 503]
    checks = site.get("/readyz").json["checks"]
    assert not checks["spool"]["ok"] and checks["spool"]["reason"] == "full" and checks["spool"]["files"] == 2
    found = site.metrics()
    assert found['foloosi_unavailable_total{reason="spool_full"}'] == 1
    assert found["foloosi_spool_files"] == found["foloosi_spool_max_files"] == 2
    site.postgres.start()
    stack.wait_for("readiness", lambda: site.get("/readyz").status == 200)


def test_stops_with_requests_under_way(outage_site):
    """Requests that have come are answered before the program ends."""
    site = outage_site
    front = OperatorsFront(site.handler.socket)
    asked = [fcgi_client.Connection(front.path) for _ in range(8)]
    for connection in asked:
        connection.begin(front.params(Request("/readyz", "GET", type=None)))
        connection.stdin([])
    assert site.handler.stop() == 0
    assert {fcgi_client.parse(c.answer())[0] for c in asked} <= {200, 503}
    for connection in asked:
        connection.close()
