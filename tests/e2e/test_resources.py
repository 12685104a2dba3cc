# SPDX-License-Identifier: MIT
"""What is scarce, wrong or out of date: an honest answer, and a log line that says what to do."""
import base64
import contextlib
import hashlib
import hmac
import json
import os
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest

from support import stack
from support.answers import is_unavailable
from support.site import SIGNATURE_SECRET, BareFront, Request, Site, encode, new_order, numbers, schema_of_version, scratch, transfer

pytestmark = pytest.mark.skipif(bool(os.environ.get("WRAP")), reason="it is about the bare program's limits")
SANITIZED = any(name in str(stack.build_dir()) for name in ("asan", "tsan"))


@pytest.fixture(scope="module")
def own():
    site = Site(scratch())
    try:
        yield site.start()
    finally:
        site.close()


@pytest.fixture
def second(own):
    """A handler whose limits and database are the test's to spoil."""
    home = own.home / f"p{next(numbers)}"
    handler = stack.Handler(home, own.logs, own.postgres.conninfo("foloosi_handler"), own.merchants, name=f"handler-{home.name}", threads=16)
    handler.spawn, handler.limits = limited(handler), []
    yield handler
    handler.stop()


def limited(handler):
    """spawn() with handler.limits, (resource, soft and hard limit) each, in force."""
    spawn = handler.spawn

    def with_limits(argv, env=None, **more):
        def set_limits():
            for name, value in handler.limits:
                resource.setrlimit(name, (value, value))

        return spawn(argv, env, preexec_fn=set_limits, **more)

    return with_limits


def post(site, handler, body=None):
    return BareFront(handler.socket).send(Request(site.path(), body=body or encode(transfer())))


def says(handler, *words):
    stack.wait_for(f"the log's {words}", lambda: all(w in handler.log.read_text() for w in words))


def spooling(handler):
    """Give it a spool; test_outage.py shows what is said without one."""
    handler.config.settings["spool_dir"] = handler.home / "spool"
    return handler


def spooled(site, handler):
    """A payment, acknowledged while the database takes nothing; returns its order."""
    order = new_order()
    answer = post(site, handler, encode(transfer(order=order)))
    assert (answer.status, answer.outcome) == (200, "spooled"), answer.body
    return order


def drained(site, handler, order):
    """With a mended database: without a restart, and the order is paid."""
    recorded(site, handler)
    stack.wait_for("the spool", lambda: not list((handler.home / "spool").glob("*.delivery")))
    assert site.order(order)[0] == "paid"


def recorded(site, handler):
    stack.wait_for("a recorded payment", lambda: post(site, handler).json.get("outcome") == "recorded")


# -- of the process -----------------------------------------------------------------------------------


def test_out_of_descriptors(own, second):
    second.limits = [(resource.RLIMIT_NOFILE, 24)]
    second.start()
    recorded(own, second)
    idle = []
    try:
        for _ in range(60):
            s = socket.socket(socket.AF_UNIX)
            idle.append(s)
            s.connect(str(second.socket))
            with contextlib.suppress(BrokenPipeError):  # accepted with the last descriptor, and closed for want of another
                s.sendall(b"\1\1")  # and no more: it is held
        says(second, "event=accept_failed", "raise the limit of open files (LimitNOFILE)")
    finally:
        for s in idle:
            s.close()
    recorded(own, second)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer has an address space of its own")
def test_out_of_memory(own, second):
    """It ends with a sentence, and is started again; no payment is refused for it, and what it acknowledged is there."""
    second.limits = [(resource.RLIMIT_AS, 64 << 20)]
    second.start()
    recorded(own, second)
    heavy = b'{"data": [' + b",".join([b"{}"] * 20000) + b"]}"  # 60 KB of text, 17 MB as objects
    answers, over = [], threading.Event()

    def go_on(body):
        while not over.is_set():
            sent = body or encode(transfer())
            with contextlib.suppress(OSError):
                answers.append((sent, post(own, second, sent)))

    senders = [threading.Thread(target=go_on, args=[body]) for body in [None] * 4 + [heavy] * 2]
    for t in senders:
        t.start()
    try:
        assert second.process.wait(30) == -signal.SIGABRT
    finally:
        over.set()
        for t in senders:
            t.join()
    second.process = None
    said = second.log.read_text()
    ours = 'event=fatal reason="out of memory" remedy="raise the limit (MemoryMax, RLIMIT_AS)'
    assert any(sentence in said for sentence in (ours, "fcgiapp.c", "Unexpected error.")), said[-500:]  # libfcgi's, json-c's
    second.log.write_text("")  # Site.close() looks for assertions that fail
    paid = [(body, a) for body, a in answers if body != heavy and a.body]
    assert {a.status for _, a in paid} <= {200}, [a.body for _, a in paid if a.status != 200]
    assert own.missing([body for body, _ in paid]) == []
    second.start()
    recorded(own, second)


@pytest.mark.skipif(SANITIZED, reason="a sanitizer needs threads of its own")
def test_out_of_threads(own, second):
    """At the start: it does not start. Later nothing depends on a new thread but the spool's disk and its drain."""
    second.limits = [(resource.RLIMIT_NPROC, 5)]  # all of the user's together
    with contextlib.suppress(stack.StackError):  # its socket may be there already
        second.start()
    assert second.process.wait(20) == 1
    says(second, "event=fatal", "a higher limit of tasks")


# -- of the database ----------------------------------------------------------------------------------


def test_out_of_connections(own, second):
    (limit,) = own.query("select rolconnlimit from pg_roles where rolname = 'foloosi_handler'")[0]
    own.query("alter role foloosi_handler connection limit 0")
    try:
        spooling(second).start()
        order = spooled(own, second)
        says(second, "53300", "raise max_connections")
    finally:
        own.query(f"alter role foloosi_handler connection limit {limit}")
    drained(own, second, order)


def test_a_read_only_database(own, second):
    """Also one that becomes so while it is connected."""
    spooling(second).start()
    recorded(own, second)
    own.query("alter role foloosi_handler set default_transaction_read_only = on")
    own.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'foloosi_handler'")
    try:
        order = spooled(own, second)
        says(second, "read-only", "is it a standby")
    finally:
        own.query("alter role foloosi_handler reset default_transaction_read_only")
    drained(own, second, order)


@pytest.fixture
def guarded(own):
    """The handler's role must give a password."""
    hba = own.postgres.data / "pg_hba.conf"
    before = hba.read_text()
    own.query("alter role foloosi_handler password 'right'")
    hba.write_text("local all foloosi_handler scram-sha-256\n" + before)
    own.query("select pg_reload_conf()")
    yield
    hba.write_text(before)
    own.query("select pg_reload_conf()")


def test_a_wrong_password(own, second, guarded):
    second.config.settings["database"] = own.postgres.conninfo("foloosi_handler", password="wrong")
    spooling(second).start()
    order = spooled(own, second)
    says(second, "28P01", "look at the password")
    own.query("alter role foloosi_handler password 'wrong'")  # then it is the right one
    drained(own, second, order)
    assert second.stop() == 0
    second.config.settings["database"] = own.postgres.conninfo("foloosi_handler")
    second.start()
    spooled(own, second)
    says(second, "no password supplied", "name a password file")


@pytest.mark.parametrize("version, remedy", [(0, "run foloosictl migrate"), (999, "upgrade foloosi-webhook")])
def test_a_schema_too_old_or_too_new(own, second, version, remedy):
    with schema_of_version(own, version):
        second.start()
        says(second, f"the schema is version {version}", remedy)
        answer = post(own, second)
        is_unavailable(answer)
        assert answer.json["reason"] == "schema"
    recorded(own, second)


# -- certificates -------------------------------------------------------------------------------------


def libfaketime():
    return next(iter(stack.pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


def openssl(*argv, env=None):
    done = subprocess.run([stack.program("openssl"), *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, **(env or {})})
    assert done.returncode == 0, done.stdout


def certificate(directory, expired):
    """server.crt for localhost, by a CA of its own: valid for two days, or expired since yesterday."""
    ca, key, request = directory / "ca.crt", directory / "server.key", directory / "server.csr"
    if not ca.exists():
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "2", "-keyout", directory / "ca.key", "-out", ca)
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", request)
    # OpenSSL 3.5 refuses -days -1, and 3.0 does not know -not_after: the expired one is made two days ago, for one day
    openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", directory / "ca.key", "-CAcreateserial", "-days", "1" if expired else "2",
            "-out", directory / "server.crt", env={"LD_PRELOAD": str(libfaketime()), "FAKETIME": "-2d"} if expired else None)
    for path in (key, directory / "server.crt", ca):
        stack.give(path, "postgres", mode=0o644 if path == ca else 0o600)


@pytest.mark.skipif(libfaketime() is None, reason="libfaketime is not installed: run  make deps")
def test_an_expired_certificate():
    """PostgreSQL by TLS with sslmode=verify-full: expired, then renewed."""
    site = Site(scratch())
    port = stack.free_port()
    tls = site.home / "tls"
    tls.mkdir()
    tls.chmod(0o711)
    certificate(tls, expired=True)
    site.postgres.settings.update(listen_addresses="localhost", ssl="on", ssl_cert_file=tls / "server.crt", ssl_key_file=tls / "server.key")
    site.postgres.port = port
    site.postgres.settings["port"] = str(port)
    try:
        site.start()
        handler = stack.Handler(site.home / "tlsfw", site.logs,
                                f"host=localhost port={port} user=foloosi_handler dbname=foloosi sslmode=verify-full sslrootcert={tls}/ca.crt",
                                site.merchants, name="handler-tls")
        site.run(spooling(handler))
        order = spooled(site, handler)
        says(handler, "certificate verify failed", "its dates")
        certificate(tls, expired=False)
        site.query("select pg_reload_conf()")
        drained(site, handler, order)
        assert site.query("select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid)"
                          " where usename = 'foloosi_handler' and client_port > 0") == [(True,)]
    finally:
        site.close()


# -- the clock ----------------------------------------------------------------------------------------


@pytest.mark.skipif(SANITIZED, reason="libfaketime and a sanitizer both want to be loaded first")
def test_the_clock_jumps_back(own, second, tmp_path):
    """Deadlines are of the monotonic clock: an hour back during a request changes nothing. Signatures are of the wall's."""
    library = libfaketime()
    if library is None:
        pytest.skip("libfaketime is not installed: run  make deps")
    offset = second.home / "offset"
    offset.write_text("+0\n")
    stack.give(offset, "www-data", mode=0o644)
    spawn = second.spawn
    second.spawn = lambda argv, env=None, **more: spawn(argv, {
        **(env or {}), "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1"}, **more)
    second.start()
    recorded(own, second)
    with own.postgres.connect() as c:  # the request waits for the lock until its deadline, and meanwhile the clock jumps
        body = encode(transfer())
        assert post(own, second, body).status == 200
        order = json.loads(body)["data"]["transfer"]["api"]["optional1"]
        c.execute("begin")
        c.execute("select 1 from foloosi.orders where order_ref = %s for update", [order])
        jump = subprocess.Popen(["sh", "-c", f"sleep 1; echo -1h >{offset}"])
        is_unavailable(post(own, second, encode(transfer(order=order))))
        jump.wait()
        c.execute("rollback")
    for _ in range(20):
        assert post(own, second).status == 200
    now = int(time.time())
    for when, status in ((now, 401), (now - 3600, 200)):
        message, key = "msg_1", SIGNATURE_SECRET.removeprefix("whsec_")
        body = encode(transfer())
        signed = hmac_of(key, f"{message}.{when}.".encode() + body)
        headers = [("Webhook-Id", message), ("Webhook-Timestamp", str(when)), ("Webhook-Signature", f"v1,{signed}")]
        answer = BareFront(second.socket).send(Request(own.path("signed"), body=body, headers=headers))
        assert answer.status == status
    assert f"T{time.strftime('%H', time.gmtime(now - 3600))}:" in second.log.read_text().splitlines()[-1]


def hmac_of(key, text):
    return base64.b64encode(hmac.new(base64.b64decode(key), text, hashlib.sha256).digest()).decode()
