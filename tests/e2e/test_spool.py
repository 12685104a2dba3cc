# SPDX-License-Identifier: MIT
"""The spool: what PostgreSQL cannot take now is on disk, answered 200, and in the database once it can."""
import hashlib
import json
import os
import signal
import stat
import subprocess
import threading
import time

import pytest

from support import stack
from support.answers import DEADLINE, SLACK, is_problem, is_spooled
from support.load import Load, volley
from support.processes import frozen
from support.site import FRONTS, BareFront, Request, SpoolSite, encode, locked, new_order, numbers, schema_of_version, scratch, transfer


@pytest.fixture(scope="module")
def own():
    site = SpoolSite(scratch())
    try:
        yield site.start()
    finally:
        site.close()


@pytest.fixture(params=FRONTS)
def front(own, request):
    return own.front(request.param)


@pytest.fixture
def second(own):
    """Another handler on the same database, with a spool of its own unless told otherwise."""
    home = own.home / f"p{next(numbers)}"
    handler = stack.Handler(home, own.logs, own.postgres.conninfo("foloosi_handler"), own.merchants, name=f"handler-{home.name}",
                            spool_dir=home / "spool")
    yield handler
    handler.stop()


def ready(front, site):
    """The front's process has seen that the database is back."""
    stack.wait_for("the front", lambda: post(front, site, encode(transfer())).outcome == "recorded")
    site.drained()


def post(front, site, body):
    return front.send(Request(site.path(), body=body))


def away(site, handler):
    """Its database is gone while that of the others is not."""
    handler.config.settings["database"] = "host=/nonexistent user=foloosi_handler dbname=foloosi"


def back(site, handler):
    handler.config.settings["database"] = site.postgres.conninfo("foloosi_handler")


# -- away and back -------------------------------------------------------------------------------


def test_postgresql_stopped(front, own):
    before, order = encode(transfer()), new_order()
    ready(front, own)
    paid, late = encode(transfer(order=order)), encode(transfer("failed"))
    assert post(front, own, before).outcome == "recorded"
    with own.database_away():
        is_spooled(post(front, own, paid))
        is_spooled(post(front, own, before))  # a repeat of a recorded one
        for answer in volley(front, [Request(own.path(), body=late)] * 10):
            is_spooled(answer)
        assert len(own.files()) == 12
        # no payment, so not spooled; and it could not be kept, so no 400 or 422
        for body in (b"not JSON", b"{}"):
            is_problem(post(front, own, body), 503, "Service Unavailable")
        assert front.send(Request(own.path() + "x", body=late)).status == 404
        assert front.send(Request(own.path("basic"), body=late)).status == 401
        assert len(own.files()) == 12
    own.drained()
    assert own.kept(paid) == ("recorded", 0, paid)
    assert own.kept(late) == ("recorded", 9, late)
    assert own.kept(before) == ("recorded", 1, before)
    assert own.source(paid) == [("spool", 0)]
    assert own.source(before) == [(None, 1)]
    assert own.order(order)[0] == "paid"
    # this front's own process may not have seen yet that the database is back
    stack.wait_for("the front", lambda: post(front, own, paid).outcome == "duplicate")
    own.drained()
    assert own.aside() == []


def test_a_file_holds_no_secret_and_is_ours_alone(own):
    front = own.front("nginx")
    body = encode(transfer())
    with own.database_away():
        basic = ("Authorization", "Basic Zm9sb29zaTpjb3JyZWN0IGhvcnNl")
        answer = front.send(Request(own.path("basic"), body=body, headers=[basic]))
        is_spooled(answer)
        (path,) = own.files()
        status, content = path.stat(), path.read_bytes()
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert body in content and b"basic" in content
        assert answer.json["request"] in path.name
        for secret in (own.tokens["basic"].encode(), b"correct horse", b"Zm9sb29z"):
            assert secret not in content
        listing, files = own.ctl("list"), own.ctl("list", "--json")
        assert listing.returncode == 0 and files.returncode == 0
        head, line, total = listing.stdout.splitlines()
        assert head.split() == ["arrived", "merchant", "request", "bytes"]
        assert line.split()[1:] == ["basic", answer.json["request"], str(len(body))] and total.startswith("1 waiting")
        assert json.loads(files.stdout) == {"waiting": 1, "bytes": status.st_size, "aside": 0, "files": [
            {"arrived": line.split()[0], "merchant": "basic", "request": answer.json["request"], "bytes": len(body), "file": None, "trouble": None}]}
        assert own.ctl("drain", "--json").returncode == 2
        assert "customer@example.com" not in listing.stdout + files.stdout
    own.drained()
    assert own.kept(body)[0] == "recorded"
    assert own.ctl("list").stdout == "0 waiting, 0 bytes\n"
    assert json.loads(own.ctl("list", "--json").stdout) == {"waiting": 0, "bytes": 0, "aside": 0, "files": []}


def test_under_load(own):
    """No answer but 2xx, and all of it is there soon after."""
    front = own.front("nginx")
    pid = own.handler.pid
    with Load(own, front) as load:
        time.sleep(0.5)
        own.postgres.stop()
        time.sleep(3)
        own.postgres.start()
        time.sleep(1)
    own.drained()
    assert own.handler.pid == pid and own.handler.alive()
    assert {status for _, status in load.answers} == {200}
    bodies = load.acknowledged()
    assert len(bodies) > 100
    assert own.missing(bodies) == []
    assert own.query("select count(*) from foloosi.deliveries where source = 'spool'")[0][0] > 50


def test_the_handler_is_killed_in_between(own, second):
    bodies = [encode(transfer()) for _ in range(50)]
    away(own, second)
    second.start()
    for answer in volley(BareFront(second.socket), [Request(own.path(), body=b) for b in bodies]):
        is_spooled(answer)
    second.signal(signal.SIGKILL)
    second.process.wait()
    assert own.missing(bodies) == bodies or len(own.missing(bodies)) == 50
    spool = second.config.settings["spool_dir"]
    stale, young = spool / ".tmp-stale", spool / ".tmp-young"
    for path in (stale, young):
        path.write_bytes(b"FWSPOOL1")
        stack.give(path, "www-data", mode=0o600)
    os.utime(stale, (1, 1))
    back(own, second)
    second.start()
    own.spool, kept = spool, own.spool
    try:
        own.drained()
    finally:
        own.spool = kept
    assert own.missing(bodies) == []
    assert not stale.exists(), "left by a crash"
    assert young.exists(), "another process may be writing it"


def test_two_handlers_share_one_directory(own, second):
    spool = own.home / "shared"
    bodies = [encode(transfer()) for _ in range(300)]
    third = stack.Handler(own.home / "third", own.logs, "", own.merchants, name="handler-third")
    for handler in (second, third):
        handler.config.settings["spool_dir"] = spool
        handler.config.settings["spool_rate"] = 50
        away(own, handler)
        handler.start()
    try:
        fronts = [BareFront(h.socket) for h in (second, third)]
        for i in range(0, 300, 50):
            for a in volley(fronts[i // 50 % 2], [Request(own.path(), body=b) for b in bodies[i:i + 50]]):
                is_spooled(a)
        assert len(list(spool.glob("*.delivery"))) == 300
        for handler in (second, third):
            assert handler.stop() == 0
            back(own, handler)
            handler.start()
        # one of them drains; when it dies the other goes on
        wait = lambda n: stack.wait_for("the drain", lambda: len(list(spool.glob("*.delivery"))) < n)
        wait(280)
        second.signal(signal.SIGKILL)
        second.process.wait()
        wait(250)
        third.stop()
        second.config.settings["spool_rate"] = third.config.settings["spool_rate"] = 2000
        third.start()
        wait(1)
    finally:
        assert third.stop() == 0
    assert own.missing(bodies) == []
    digests = [hashlib.sha256(b).digest()[:16] for b in bodies]
    # a file may be recorded and not yet removed when its drainer is killed
    (repeated,) = own.query("select sum(repeats) from foloosi.deliveries where digest = any(%s)", [digests])[0]
    assert repeated <= 64
    assert own.query("select count(*) from foloosi.transactions t join foloosi.orders o using (merchant, order_ref) where o.state = 'paid'"
                     " and t.transaction_no = any(%s)",
                     [[json.loads(b)["data"]["transfer"]["transaction_no"] for b in bodies]]) == [(300,)]


def test_a_merchant_who_has_left_the_configuration(own, second):
    """Recorded as on arrival: the key and its prefix are those of then."""
    order = new_order()
    body = encode(transfer(optional2=f"SHOP-{order}"))
    away(own, second)
    second.start()
    is_spooled(BareFront(second.socket).send(Request(own.path("prefixed"), body=body)))
    assert second.stop() == 0
    back(own, second)
    second.config.merchants = {"shop": own.merchants["shop"]}
    second.start()
    stack.wait_for("the drain", lambda: own.kept(body))
    assert own.kept(body)[0] == "recorded"
    assert own.order(order, "prefixed")[0] == "paid"


# -- foloosictl ----------------------------------------------------------------------------------


def test_plain_cgi_and_foloosictl(own, second):
    """No process runs but that of the request."""
    second.config.write()
    second.make_spool()
    spool = second.config.settings["spool_dir"]
    body = encode(transfer())

    def cgi():
        return subprocess.run(
            [second.program], input=body, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20,
            **stack.identity("www-data"),
            env={"GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "POST", "REQUEST_URI": own.path(),
                 "CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json",
                 "FOLOOSI_WEBHOOK_CONFIG": str(second.config.path)})

    def ctl(*argv):
        return subprocess.run([stack.built("foloosictl"), "spool", *argv, "-c", second.config.path],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)

    with own.database_away():
        done = cgi()
        assert done.stdout.startswith(b"Status: 200 ") and b'"outcome":"spooled"' in done.stdout, done
        failed = ctl("drain")
        assert failed.returncode == 1 and "the database does not take it" in failed.stderr
        assert len(list(spool.glob("*.delivery"))) == 1
    torn = spool / "0000000000000001-0123456789abcdef-4.delivery"
    torn.write_bytes(b"torn")
    stack.give(torn, "www-data", mode=0o600)
    found = json.loads(ctl("list", "--json").stdout)["files"]
    assert found[0]["file"] == torn.name and found[0]["arrived"] is None and found[1]["bytes"] == len(body)
    assert f"{torn.name}  {found[0]['trouble']}" in ctl("list").stdout
    done = ctl("drain")
    assert (done.returncode, done.stdout) == (0, "1 drained, 0 left, 1 set aside\n"), done
    assert own.kept(body) == ("recorded", 0, body)
    assert "1 set aside" in ctl("list").stdout
    assert (spool / "aside").stat().st_uid == spool.stat().st_uid
    assert ctl("empty").returncode == 2
    del second.config.settings["spool_dir"]
    second.config.write()
    assert "there is no spool" in ctl("drain").stderr


# -- limits and refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize("limit, value", [("spool_max_files", "3"), ("spool_max_bytes", "2000")])
def test_limits(own, second, limit, value):
    second.config.settings[limit] = value
    away(own, second)
    second.start()
    front = BareFront(second.socket)
    answers = volley(front, [Request(own.path(), body=encode(transfer())) for _ in range(20)])
    kept = [a for a in answers if a.status == 200]
    assert len(kept) == 3
    for answer in answers:
        if answer.status != 200:
            is_problem(answer, 503, "Service Unavailable")
            assert answer.json["reason"] == "spool_full" and answer.header("Retry-After")
    spool = second.config.settings["spool_dir"]
    assert len(list(spool.iterdir())) == len(kept)
    assert second.stop() == 0
    second.start()  # what is there counts
    assert post(front, own, encode(transfer())).json["reason"] == "spool_full"
    assert len(list(spool.iterdir())) == 3
    back(own, second)
    assert second.stop() == 0
    second.start()
    stack.wait_for("the drain", lambda: not list(spool.iterdir()))
    # there is room again
    assert second.stop() == 0
    away(own, second)
    second.start()
    is_spooled(post(front, own, encode(transfer())))


def test_a_full_disk(own, second):
    spool = second.config.settings["spool_dir"]
    spool.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", spool], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("may not mount")
    try:
        stack.give(spool, "www-data", mode=0o700)
        away(own, second)
        second.start()
        front = BareFront(second.socket)
        bodies = [encode(transfer()) for _ in range(40)]
        answers = [post(front, own, b) for b in bodies]
        kept = [b for a, b in zip(answers, bodies, strict=True) if a.status == 200]
        assert 1 <= len(kept) < 40
        assert {a.json["reason"] for a in answers if a.status != 200} == {"spool_failed"}
        assert {a.status for a in answers} == {200, 503}
        assert len(list(spool.iterdir())) == len(kept)
        assert second.stop() == 0
        back(own, second)
        second.start()
        stack.wait_for("the drain", lambda: not list(spool.iterdir()))
        assert own.missing(kept) == []
        assert second.stop() == 0
        assert "No space left on device" in second.log.read_text()
    finally:
        subprocess.run(["umount", spool], check=True)


def test_a_disk_that_hangs(own, second):
    """A filesystem that is frozen: a thread that writes into it, or removes a file, waits in the kernel."""
    image, disk = own.home / "disk.img", second.home / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run([stack.program("mkfs.ext4"), "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, disk], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("may not mount")
    is_frozen = False

    def freeze(how):
        nonlocal is_frozen
        subprocess.run([stack.program("fsfreeze"), "--freeze" if how else "--unfreeze", disk], check=True)
        is_frozen = how

    try:
        disk.chmod(0o755)
        spool = disk / "spool"
        spool.mkdir()
        stack.give(spool, "www-data", mode=0o700)
        second.config.settings["spool_dir"] = spool
        away(own, second)
        second.start()
        front = BareFront(second.socket)
        bodies = [encode(transfer())]
        is_spooled(post(front, own, bodies[0]))

        freeze(True)
        for within in (DEADLINE + SLACK, DEADLINE / 2):  # the first waits, the next ones know
            answer = post(front, own, encode(transfer()))
            assert (answer.status, answer.json["reason"]) == (503, "spool_late") and answer.header("Retry-After")
            assert answer.seconds < within
        freeze(False)
        body = encode(transfer())
        stack.wait_for("the disk", lambda: post(front, own, body).status == 200)
        bodies.append(body)
        assert second.stop() == 0
        assert 'trouble="the disk does not answer"' in second.log.read_text()

        # the way that needs no disk goes on, and the drain with the disk
        back(own, second)
        second.start()
        stack.wait_for("the drain", lambda: not list(spool.glob("*.delivery")))
        assert own.missing(bodies) == []
        freeze(True)
        assert post(front, own, encode(transfer())).outcome == "recorded"
        freeze(False)
        assert second.stop() == 0
    finally:
        if is_frozen:
            freeze(False)
        second.stop()
        subprocess.run(["umount", disk], check=True)
        image.unlink()


def test_another_reason_is_told(own, second):
    """PostgreSQL comes back and refuses every connection: the log does not go on saying that it should be started."""
    second.start()
    rules = own.postgres.data / "pg_hba.conf"
    before = rules.read_text()
    try:
        with own.database_away():
            # not before it is away: a connection made meanwhile would be refused, and logged, too early
            rules.write_text("local all foloosi_handler reject\n" + before)
            stack.wait_for("the log", lambda: "start the server" in second.log.read_text())
            assert "pg_hba.conf" not in second.log.read_text()
        stack.wait_for("the log", lambda: 'remedy="look at pg_hba.conf and pg_ident.conf"' in second.log.read_text())
    finally:
        rules.write_text(before)
        own.query("select pg_reload_conf()")
    stack.wait_for("the handler", lambda: post(BareFront(second.socket), own, encode(transfer())).outcome == "recorded")


def test_what_the_database_refuses_then_goes_to_attention(own, second):
    """It was acknowledged, so it may not vanish: a merchant's trigger fails while the spool drains."""
    order = new_order()
    body, other = encode(transfer(order=order)), encode(transfer())
    away(own, second)
    second.config.settings["spool_dir"].mkdir()
    stack.give(second.config.settings["spool_dir"], "www-data", mode=0o700)
    second.start()
    for b in (body, other):
        is_spooled(post(BareFront(second.socket), own, b))
    assert second.stop() == 0
    own.query("""create function public.no() returns trigger language plpgsql as
                  $$begin raise exception 'the shop says no'; end$$""")
    own.query(f"create trigger no before insert on foloosi.orders for each row when (new.order_ref = '{order}') execute function public.no()")
    try:
        back(own, second)
        second.start()
        stack.wait_for("the drain", lambda: not list(second.config.settings["spool_dir"].glob("*.delivery")))
        assert own.missing([body, other]) == []
        assert own.kept(other)[0] == "recorded" and own.kept(body)[0] == "review"
        assert own.order(order) is None
        assert own.query("select reason from foloosi.attention where order_ref = %s", [order]) == [("hook_failed",)]
    finally:
        own.query("drop trigger no on foloosi.orders")
        own.query("drop function public.no()")


def refused_start(handler):
    handler.config.write()
    for more in ([], ["--check-config"]):
        done = subprocess.run([handler.program, "--config", handler.config.path, *more], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=20, **stack.identity("www-data"))
        assert done.returncode == 1
        assert "spool_dir = " in done.stderr
    return done.stderr


def test_a_directory_that_cannot_be_used(own, second):
    spool = second.config.settings["spool_dir"]
    assert "cannot be opened" in refused_start(second)
    spool.write_text("a file")
    assert "cannot be opened" in refused_start(second)
    spool.unlink()
    spool.mkdir()
    stack.give(spool, "www-data", mode=0o770)
    assert "chmod 700" in refused_start(second)
    stack.give(spool, "www-data", mode=0o500)
    if not os.access(spool, os.W_OK) or stack.IS_ROOT:
        assert "cannot be written to" in refused_start(second)
    if stack.IS_ROOT:
        stack.give(spool, "root", mode=0o700)
        assert "chown" in refused_start(second) or "cannot be opened" in refused_start(second)
    stack.give(spool, "www-data", mode=0o700)
    second.start()
    assert post(BareFront(second.socket), own, encode(transfer())).outcome == "recorded"


def test_sighup_says_what_needs_a_restart(own, second):
    second.start()
    second.config.settings["spool_rate"] = 7
    second.config.settings["spool_dir"] = "/nonexistent"
    second.config.write()
    second.signal(signal.SIGHUP)
    stack.wait_for("the log", lambda: second.log.read_text().count("restart_needed") == 2)
    assert post(BareFront(second.socket), own, encode(transfer())).outcome == "recorded"


# -- torn and foreign files ------------------------------------------------------------------------


def test_torn_and_foreign_files(own):
    front = own.front("nginx")
    said = own.all_logs().count("a file was set aside")
    bodies = [encode(transfer()) for _ in range(3)]
    with own.database_away():
        for body in bodies:
            is_spooled(post(front, own, body))
        good, cut, changed = own.files()
        content = cut.read_bytes()
        cut.write_bytes(content[:-7])
        content = bytearray(changed.read_bytes())
        content[len(content) // 2] ^= 1
        changed.write_bytes(content)
        (own.spool / "notes.txt").write_text("somebody's")
        (own.spool / "0000000000000000-0123456789abcdef-0.delivery").touch()
        (own.spool / "0000000000000002-0123456789abcdef-9.delivery").symlink_to("/etc/passwd")
        os.mkfifo(own.spool / "0000000000000003-0123456789abcdef-9.delivery")
        (own.spool / "lost+found").mkdir()
    own.drained()
    stack.wait_for("the foreign file", lambda: "notes.txt" in own.aside())
    assert own.kept(bodies[0]) == ("recorded", 0, bodies[0])
    assert own.aside() == ["0000000000000000-0123456789abcdef-0.delivery", "0000000000000002-0123456789abcdef-9.delivery",
                           "0000000000000003-0123456789abcdef-9.delivery", cut.name, changed.name, "notes.txt"]
    assert (own.spool / "lost+found").is_dir()
    assert own.all_logs().count("a file was set aside") == said + 6
    assert own.handler.alive()
    for path in (own.spool / "aside").iterdir():
        path.unlink()
    (own.spool / "lost+found").rmdir()


def test_a_foreign_file_in_an_empty_spool(second):
    second.make_spool()
    spool = second.config.settings["spool_dir"]
    (spool / "notes.txt").write_text("somebody's")
    second.start()
    stack.wait_for("the foreign file", (spool / "aside" / "notes.txt").exists)


@pytest.mark.skipif(not stack.IS_ROOT, reason="only root gives files away")
def test_a_file_that_cannot_be_read(own, second):
    """A backup that root put back, say: the log names it, and no other file waits for it."""
    second.config.write()
    second.make_spool()
    spool = second.config.settings["spool_dir"]
    path = spool / "0000000000000001-0123456789abcdef-4.delivery"
    path.touch(mode=0o600)
    second.start()
    stack.wait_for("the log", lambda: 'trouble="a file cannot be read" reason="Permission denied"' in second.log.read_text())
    stack.give(path, "www-data", mode=0o600)
    stack.wait_for("it is torn, too", lambda: not path.exists())


# -- hanging, locked, in doubt ---------------------------------------------------------------------


def test_postgresql_frozen(own):
    """In doubt: what it may have taken is spooled as well, and counted once."""
    front = own.front("nginx")
    bodies = [encode(transfer()) for _ in range(20)]
    with frozen(own.postgres.pid):
        for answer in volley(front, [Request(own.path(), body=b) for b in bodies]):
            is_spooled(answer)
        is_spooled(post(front, own, bodies[0]))
    own.drained()
    assert own.missing(bodies) == []
    numbers = [json.loads(b)["data"]["transfer"]["transaction_no"] for b in bodies]
    assert own.query("select count(*) from foloosi.transactions where transaction_no = any(%s)", [numbers]) == [(20,)]
    assert own.query("select count(*) from foloosi.events e join foloosi.transactions t on t.id = e.transaction_id"
                     " where transaction_no = any(%s)", [numbers]) == [(20,)]


def test_stopped_with_all_hands_full(own, second):
    """As many requests as there are threads wait for a database that hangs, and the handler is told to stop."""
    second.start()
    front = BareFront(second.socket)
    assert post(front, own, encode(transfer())).outcome == "recorded"
    requests = [Request(own.path(), body=encode(transfer())) for _ in range(128)]
    answers = []
    with frozen(own.postgres.pid):
        sending = threading.Thread(target=lambda: answers.extend(volley(front, requests)))
        sending.start()
        time.sleep(0.7)
        assert second.stop() == 0
        sending.join()
    # a slow machine may be late for some, and says so
    assert len(answers) == 128 and {a.status for a in answers} <= {200, 503}
    acknowledged = [a for a in answers if a.status == 200]
    for answer in acknowledged:
        is_spooled(answer)
    assert 64 < len(acknowledged) <= len(list((second.home / "spool").glob("*.delivery")))


def test_a_locked_order_is_spooled_and_stops_no_other(own):
    front = own.front("nginx")
    order = new_order()
    ready(front, own)
    assert post(front, own, encode(transfer("failed", order))).outcome == "recorded"
    bodies = [encode(transfer("success", order)) for _ in range(5)]
    stuck = []
    with locked(own, order):
        waiting = threading.Thread(target=lambda: stuck.extend(volley(front, [Request(own.path(), body=b) for b in bodies])))
        waiting.start()
        for _ in range(50):
            assert post(front, own, encode(transfer())).outcome == "recorded"
        waiting.join()
        for answer in stuck:
            is_spooled(answer)
        assert len(own.files()) == 5
        # the drain finds the order locked, too, and others' files pass it
        other = encode(transfer())
        own.postgres.query("select 1")
        assert own.missing(bodies) != []
        assert post(front, own, other).outcome == "recorded"
    own.drained()
    assert own.missing(bodies) == []
    assert own.order(order)[0] == "paid"
    assert own.query("select count(*) from foloosi.paybacks where order_ref = %s", [order]) == [(4,)]


def test_a_schema_that_the_program_does_not_know(own, second):
    """Not acknowledged; and what is in the spool waits for the right one."""
    front = BareFront(second.socket)
    early = encode(transfer())
    away(own, second)
    second.start()
    is_spooled(post(front, own, early))
    assert second.stop() == 0
    back(own, second)
    with schema_of_version(own, 999):
        second.start()
        stack.wait_for("the log", lambda: "the schema is version 999" in second.log.read_text())
        answer = post(front, own, encode(transfer()))
        is_problem(answer, 503, "Service Unavailable")
        assert answer.json["reason"] == "schema"
        assert own.kept(early) is None
        assert len(list(second.config.settings["spool_dir"].glob("*.delivery"))) == 1
    stack.wait_for("the drain", lambda: own.kept(early))


def test_the_log_says_what_waits_and_nothing_personal(own):
    ready(own.front("bare"), own)
    with own.database_away():
        is_spooled(post(own.front("bare"), own, encode(transfer())))
        stack.wait_for("the log", lambda: "event=spool state=waiting files=" in own.handler.log.read_text())
    own.drained()
    stack.wait_for("the log", lambda: "event=spool state=empty" in own.handler.log.read_text().rpartition("state=waiting")[2])
    text = own.all_logs()
    assert "event=spool state=waiting files=" in text
    assert "event=spool state=empty" in text
    assert "event=drained id=" in text
    for personal in ("customer@example.com", "555534533", "E2E-"):
        assert personal not in text
