# SPDX-License-Identifier: MIT
"""What foloosi-webhook-upgrade(7) says, with a real older release: its programs and its schema.

The older release is built from the repository's history.
"""

import contextlib
import shutil
import subprocess
import threading

import pytest

from support import stack
from support.site import BareFront, Request, encode, new_order, scratch, transfer

OLDER = {"b058b6ca76a539391ecddf7aafc677f396afc0e4": 3, "73e907856f60acf19981b1c5432cc3704c70eff6": 10}  # commit: its schema

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", params=OLDER, ids=lambda commit: f"schema {OLDER[commit]}")
def older(request):
    """The directory of the older release, built."""
    home = stack.pathlib.Path(scratch())
    archive = subprocess.run(["git", "-C", stack.ROOT, "archive", request.param], capture_output=True)
    if archive.returncode:
        pytest.skip("no history here: git fetch --unshallow")
    subprocess.run(["tar", "-x", "-C", home], input=archive.stdout, check=True)
    subprocess.run(["make", "-s", "-C", home, "build/foloosi-webhook"], check=True, capture_output=True)
    yield home, OLDER[request.param]
    shutil.rmtree(home)


class OlderSite:
    """The older schema and, if wanted, the older handler."""

    def __init__(self, older, version):
        self.older, self.version = older, version
        self.home = stack.pathlib.Path(scratch())
        self.home.chmod(0o711)
        self.logs = self.home / "logs"
        self.pg = stack.Postgres(self.home / "pg", self.logs, {"fsync": "off"})
        self.pg.start()
        self.pg.create_database()
        self.migrate(older / "sql")
        self.pg.query("select foloosi.set_merchant('shop')")
        self.token = stack.token()
        self.handler = stack.Handler(self.home / "fw", self.logs, self.pg.conninfo("foloosi_handler"), {"shop": {"token": self.token}},
                                     spool_dir=self.home / "fw" / "spool")
        self.acknowledged, self.outcomes = [], []

    def migrate(self, sql):
        subprocess.run([stack.built("foloosictl"), "migrate", "--database", self.pg.conninfo("postgres"), "--sql", sql], check=True, capture_output=True)

    def run(self, build):
        """This program from now on."""
        if self.handler.alive():
            assert self.handler.stop() == 0
        copy = self.handler.program.with_suffix(".new")
        shutil.copy(build / "foloosi-webhook", copy)
        copy.chmod(0o755)
        copy.rename(self.handler.program)
        self.handler.start()

    def post(self, body=None):
        body = body or encode(transfer())
        answer = BareFront(self.handler.socket).send(Request(f"/webhooks/foloosi/shop/{self.token}", body=body))
        self.outcomes.append(answer.json["outcome"] if answer.status == 200 else answer.status)
        if answer.status == 200:
            self.acknowledged.append(body)
        return self.outcomes[-1]

    @contextlib.contextmanager
    def load(self):
        stop = threading.Event()

        def deliver():
            while not stop.is_set():
                self.post()

        clients = [threading.Thread(target=deliver) for _ in range(4)]
        for c in clients:
            c.start()
        try:
            yield
        finally:
            stop.set()
            for c in clients:
                c.join()

    def settled(self):
        """All that was acknowledged is there, once, and the spool is empty."""
        spool = self.home / "fw" / "spool"
        stack.wait_for("the drain", lambda: not list(spool.glob("*.delivery")))
        return self.pg.query("select count(*), count(distinct order_ref) from foloosi.deliveries where outcome = 'recorded'") \
            == [(len(self.acknowledged), len(self.acknowledged))]

    def close(self):
        self.handler.stop()
        self.pg.stop()
        shutil.rmtree(self.home)


@pytest.fixture
def site(older):
    site = OlderSite(*older)
    try:
        yield site
    finally:
        site.close()


def test_handler_first(site):
    """The new handler on the older schema, and the migration under it: no gap at all."""
    site.run(stack.build_dir())
    with site.load():
        assert site.post() == "recorded"
        site.migrate(stack.ROOT / "sql")
        assert site.post() in ("recorded", "spooled")
    stack.wait_for("the new schema", lambda: site.post() == "recorded")
    assert set(site.outcomes) <= {"recorded", "spooled"} and site.settled()


def test_schema_first(site, tmp_path):
    """The older handler on the new schema: it goes on. One that asks nothing of a newer schema yet waits for its successor after a
    reconnect (on a busy machine it may have had to reconnect in the migration)."""
    asks = site.version >= 10
    site.run(site.older / "build")
    with site.load():
        assert site.post() == "recorded"
        site.migrate(stack.ROOT / "sql")
        stack.wait_for("the new schema", lambda: site.post() in ("recorded", "recorded" if asks else 503))
    assert set(site.outcomes) <= {"recorded", "spooled", "spooled" if asks else 503} and (503 in site.outcomes or site.settled())
    site.pg.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'foloosi_handler'")
    if asks:
        stack.wait_for("the next connection", lambda: site.post() == "recorded")
    else:
        stack.wait_for("the older handler to see it", lambda: site.post() == 503)
        assert f"this program knows 1 to {site.version}" in site.handler.log.read_text()
    site.run(stack.build_dir())
    stack.wait_for("this handler", lambda: site.post() == "recorded")
    assert site.settled()


def test_a_refund_that_the_older_release_ignored(site):
    """It is applied when the schema is migrated, without an event; and its repeat is one."""
    site.run(site.older / "build")
    order = new_order()
    paid = transfer(order=order)
    refund = {"data": {"transfer": {**paid["data"]["transfer"], "transaction_status": "refund"}}}
    assert [site.post(encode(paid)), site.post(encode(refund))] == ["recorded", "ignored"]
    events = site.pg.query("select count(*) from foloosi.events")
    site.run(stack.build_dir())
    assert site.post(encode(refund)) == "ignored"  # on the older schema still
    site.migrate(stack.ROOT / "sql")
    assert site.pg.query("select state::text, refunded, money_left from foloosi.orders where order_ref = %s", [order]) == [("refunded", 100, 0)]
    assert site.pg.query("select count(*) from foloosi.events") == events
    stack.wait_for("the new schema", lambda: site.post(encode(refund)) == "duplicate")


def test_a_schema_of_tomorrow(site, tmp_path):
    """This handler and a schema that is newer: it goes on, however often it connects, unless it is told that it is too old."""
    sql = stack.pathlib.Path(shutil.copytree(stack.ROOT / "sql", tmp_path / "sql"))
    site.migrate(sql)
    site.run(stack.build_dir())
    number = max(int(p.name[:4]) for p in (sql / "migrations").iterdir()) + 1
    (sql / "migrations" / f"{number:04d}_tomorrow.sql").write_text("create table foloosi.tomorrow (id int);\n")
    with site.load():
        assert site.post() == "recorded"
        site.migrate(sql)
        for _ in range(3):
            site.pg.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'foloosi_handler'")
            stack.wait_for("the next connection", lambda: site.post() == "recorded")
    # "duplicate": committed, the answer cut off with the session, and the second try found it
    assert set(site.outcomes) <= {"recorded", "spooled", "duplicate"} and site.settled()
    site.pg.query(f"create or replace function foloosi.schema_serves() returns int language sql as 'select {number}'")
    site.pg.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'foloosi_handler'")
    stack.wait_for("the handler to see it", lambda: site.post() == 503)
    assert "upgrade foloosi-webhook" in site.handler.log.read_text()
