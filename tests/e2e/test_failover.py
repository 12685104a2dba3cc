# SPDX-License-Identifier: MIT
"""Primary and synchronous standby: nothing acknowledged is lost when the primary dies, and a commit that the
standby did not confirm is never acknowledged."""
import contextlib
import os
import signal
import subprocess
import time

import pytest

from support import stack
from support.answers import DEADLINE, SLACK, is_spooled
from support.load import Load, volley
from support.processes import family, frozen
from support.site import BareFront, Request, SpoolSite, encode, scratch, transfer

pytestmark = pytest.mark.timeout(300)  # many deadlines, one after the other


class Standby(stack.Postgres):
    """A copy that follows its primary, and confirms what it has on disk."""

    def __init__(self, home, logs, primary):
        super().__init__(home, logs, primary.settings | {"unix_socket_directories": ""})
        self.name = "postgresql-standby"
        self.primary = primary
        self.settings["unix_socket_directories"] = str(self.socket_dir)

    def create(self):
        stack.give(self.home, "postgres", mode=0o711)
        self.socket_dir.mkdir()
        stack.give(self.socket_dir, "postgres", "www-data" if stack.IS_ROOT else None, 0o710 if stack.IS_ROOT else 0o700)
        subprocess.run(
            [stack.pg_program("pg_basebackup"), "-h", self.primary.socket_dir, "-U", "postgres", "-D", self.data, "-X", "stream",
             "-c", "fast", "--no-sync"],
            check=True, cwd="/", env={"PATH": stack.ENV_PATH}, **stack.identity("postgres"))
        with open(self.data / "postgresql.auto.conf", "a", encoding="utf-8") as conf:
            conf.write(f"unix_socket_directories = '{self.socket_dir}'\n"
                       f"primary_conninfo = 'host={self.primary.socket_dir} user=postgres application_name=standby'\n"
                       "synchronous_standby_names = ''\n")  # once it is promoted it stands alone
        (self.data / "standby.signal").touch()
        stack.give(self.data / "standby.signal", "postgres", mode=0o600)

    def confirms(self):
        return self.primary.query("select sync_state from pg_stat_replication") == [("sync",)]

    def promote(self):
        self.query("select pg_promote(true, 30)")


class FailoverSite(SpoolSite):
    """Two handlers, with a spool and without, that know both hosts."""

    def start(self):
        super().start()
        self.primary = self.postgres
        self.primary.query("create role rewind")  # something to be replicated
        self.standby = self.run(Standby(self.home / "pg2", self.logs, self.primary))
        self.primary.query("alter system set synchronous_standby_names = 'standby'")
        self.primary.query("select pg_reload_conf()")
        stack.wait_for("the standby", self.standby.confirms)
        database = (f"host={self.primary.socket_dir},{self.standby.socket_dir} port=5432 user=foloosi_handler dbname=foloosi"
                    " target_session_attrs=read-write")
        assert self.handler.stop() == 0
        self.handler.config.settings["database"] = database
        self.handler.start()
        self.plain = self.run(stack.Handler(self.home / "plain", self.logs, database, self.merchants, name="handler-plain"))
        self.doors = {"spool": BareFront(self.handler.socket), "plain": BareFront(self.plain.socket)}
        return self

    def settle(self):
        for door in self.doors.values():
            stack.wait_for("the handler", lambda d=door: self.post(d, encode(transfer())).json.get("outcome") == "recorded")
        self.drained()

    def post(self, door, body):
        return door.send(Request(self.path(), body=body))

    def waiting(self):
        return self.query("select count(*) from pg_stat_activity where wait_event = 'SyncRep'")[0][0]


@pytest.fixture(scope="module")
def own():
    site = FailoverSite(scratch())
    try:
        yield site.start()
    finally:
        site.close()


def test_a_standby_that_never_confirms(own):
    own.settle()
    bodies = {name: [encode(transfer()) for _ in range(10)] for name in own.doors}
    with frozen(own.standby.pid):
        for answer in volley(own.doors["plain"], [Request(own.path(), body=b) for b in bodies["plain"]]):
            assert answer.status == 503 and answer.seconds < DEADLINE + SLACK
        for answer in volley(own.doors["spool"], [Request(own.path(), body=b) for b in bodies["spool"]]):
            is_spooled(answer)
    own.settle()
    assert own.missing(bodies["spool"]) == []
    stack.wait_for("the waiting sessions", lambda: own.waiting() == 0)


def test_a_cancelled_wait_is_never_acknowledged(own):
    """The server says success then, and warns: committed here and nowhere else."""
    own.settle()
    results = []
    with frozen(own.standby.pid):
        import threading
        body = encode(transfer())
        sender = threading.Thread(target=lambda: results.append(own.post(own.doors["plain"], body)))
        sender.start()
        stack.wait_for("the wait", own.waiting)
        # the superuser's own statement writes nothing, so it does not wait
        end = time.monotonic() + 20
        while sender.is_alive() and time.monotonic() < end:
            own.query("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
            time.sleep(0.02)
        sender.join()
        assert results[0].status == 503
        assert results[0].json["reason"] in ("in_doubt", "database")
        assert own.kept(body), "it is there, but only here"
    own.settle()
    assert own.post(own.doors["plain"], body).outcome == "duplicate"


@pytest.mark.long
def test_few_sessions_are_left_waiting(own):
    """Each try that the standby does not confirm leaves a session in the server: they must not use up its connections."""
    own.settle()
    with frozen(own.standby.pid), Load(own, own.doors["spool"], senders=4):
        time.sleep(15)
        waiting = own.waiting()
        assert waiting <= 7, waiting
    own.settle()


def test_sessions_that_wait_are_few(own):
    """However long the standby is away: a handler that finds eight of its role waiting spools at once and adds none."""
    own.settle()
    with frozen(own.standby.pid), contextlib.ExitStack() as stuck:
        for n in range(8):
            c = stuck.enter_context(contextlib.closing(own.primary.connect("foloosi_handler")))
            c.pgconn.send_query(f"""
                select * from foloosi.record_deliveries('{{1}}', '{{shop}}', '{{WAIT-{n}}}', array[sha256('{n}')], array['{n}'::bytea],
                    '{{null}}', '{{null}}', '{{success}}', '{{WAIT-{n}}}', '{{null}}', '{{1}}', '{{AED}}', '{{null}}', '{{null}}', '{{null}}',
                    '{{null}}', '{{null}}', '{{null}}', '{{null}}')""".encode())
            c.pgconn.flush()
        stack.wait_for("the sessions", lambda: own.waiting() >= 8)
        time.sleep(5)
        for door, handler in ((own.doors["spool"], own.handler), (own.doors["plain"], own.plain)):
            def refused(door=door, handler=handler):
                own.post(door, encode(transfer()))
                return "wait for a synchronous standby" in handler.log.read_text()
            stack.wait_for("the handler", refused)
            assert "out of synchronous_standby_names" in handler.log.read_text()
        time.sleep(DEADLINE)  # lanes and drains that were on their way have arrived
        before = own.waiting()
        with Load(own, own.doors["spool"], senders=4) as load:
            time.sleep(6)
        assert own.waiting() == before < 20
        assert {status for _, status in load.answers} == {200}
        assert len(load.answers) > 4 * 6 / DEADLINE, "nobody waited for a deadline"
    own.settle()
    stack.wait_for("the waiting sessions", lambda: own.waiting() == 0)


@pytest.fixture
def losing():
    """One whose primary a test may kill."""
    site = FailoverSite(scratch())
    try:
        yield site.start()
    finally:
        site.close()


def test_failover_under_load(losing):
    own = losing
    own.settle()
    with Load(own, own.doors["spool"], senders=8) as spooling, Load(own, own.doors["plain"], senders=8) as plain:
        time.sleep(1)
        for pid in family(own.primary.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        own.primary.process.wait()
        time.sleep(0.5)
        own.standby.promote()
        own.postgres = own.standby
        own.settle()
        time.sleep(1)
    own.drained()
    assert {status for _, status in spooling.answers} == {200}
    assert {status for _, status in plain.answers} == {200, 503}
    for load in (spooling, plain):
        bodies = load.acknowledged()
        assert len(bodies) > 50
        assert own.missing(bodies) == []
    assert own.query("select count(*) from (select 1 from foloosi.transactions group by transaction_no having count(*) > 1) x") == [(0,)]
