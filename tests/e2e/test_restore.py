# SPDX-License-Identifier: MIT
"""What foloosi-webhook-restore(7) says, done.

A real base backup and archive of WAL, a restore to a point in time under a running handler, and a dump
restored into another cluster.
"""

import re
import shutil
import subprocess

import pytest

from support import stack
from support.site import BareFront, Request, encode, scratch, transfer


class ArchivingSite:
    def __init__(self):
        self.home = stack.pathlib.Path(scratch())
        self.home.chmod(0o711)
        self.logs = self.home / "logs"
        self.archive = self.home / "archive"
        self.archive.mkdir()
        stack.give(self.archive, "postgres", mode=0o700)
        self.pg = stack.Postgres(self.home / "pg", self.logs, {
            "fsync": "off", "archive_mode": "on", "archive_command": f"cp %p {self.archive}/%f"})
        self.pg.start(migrated=True)
        self.pg.query("select foloosi.set_merchant('shop')")
        self.token = stack.token()
        self.handler = stack.Handler(self.home / "fw", self.logs, self.pg.conninfo("foloosi_handler"), {"shop": {"token": self.token}},
                                     spool_dir=self.home / "fw" / "spool")
        self.handler.start()

    def close(self):
        self.handler.stop()
        self.pg.stop()
        shutil.rmtree(self.home)

    def post(self, body):
        answer = BareFront(self.handler.socket).send(Request(f"/webhooks/foloosi/shop/{self.token}", body=body))
        assert answer.status == 200
        return answer.outcome

    def take(self, taken):
        """As a consumer does: all that is new, {id: (type, order)}."""
        with self.pg.connect("foloosi_consumer") as c:
            rows = c.execute("select id, type, order_ref from foloosi.next_events('erp', 1000)").fetchall()
            c.execute("select foloosi.finish_events('erp', %s)", [[r[0] for r in rows]])
        new = {id: (type, order) for id, type, order in rows}
        # an endpoint drops what it knows by its number; so a number must never say another thing
        assert all(taken[id] == said for id, said in new.items() if id in taken), "a number was used for two events"
        again = taken.keys() & new.keys()
        taken.update(new)
        return again

    def as_postgres(self, *argv):
        return subprocess.run([str(a) for a in argv], check=True, capture_output=True, text=True, cwd="/", **stack.identity("postgres")).stdout


@pytest.fixture
def site():
    site = ArchivingSite()
    try:
        yield site
    finally:
        site.close()


def bodies(n):
    return [encode(transfer()) for _ in range(n)]


@pytest.mark.long
def test_to_a_point_in_time(site):
    pg, taken = site.pg, {}
    pg.query("select foloosi.add_consumer('erp')")
    before, between, lost, meanwhile = bodies(3), bodies(3), bodies(50), bodies(3)
    assert {site.post(b) for b in before} == {"recorded"}
    base = site.home / "base"
    base.mkdir()
    stack.give(base, "postgres", mode=0o700)
    site.as_postgres(stack.pg_program("pg_basebackup"), "-D", base, "-d", pg.conninfo("postgres", "postgres"), "-c", "fast")
    site.take(taken)
    assert {site.post(b) for b in between} == {"recorded"}
    pg.query("select pg_create_restore_point('good')")
    site.take(taken)  # finished after the point: will come again
    assert {site.post(b) for b in lost} == {"recorded"}
    site.take(taken)
    newest = pg.query("select max(id) from foloosi.events")[0][0]
    assert max(taken) == newest
    pg.query("select pg_switch_wal()")
    segment = pg.query("select pg_walfile_name(pg_switch_wal())")[0][0]
    stack.wait_for("the archive", lambda: pg.query("select last_archived_wal >= %s from pg_stat_archiver", [segment])[0][0] or
                   (site.archive / segment).exists())
    pg.stop()
    assert {site.post(b) for b in meanwhile} == {"spooled"}  # the handler runs on

    pg.data.rename(site.home / "pg" / "lost")
    base.rename(pg.data)
    with open(pg.data / "postgresql.auto.conf", "a", encoding="utf-8") as conf:
        conf.write(f"restore_command = 'cp {site.archive}/%f %p'\nrecovery_target_name = 'good'\nrecovery_target_action = 'promote'\n")
    (pg.data / "recovery.signal").touch()
    stack.give(pg.data / "recovery.signal", "postgres")
    # no client may connect before the numbers are moved on: another socket
    private, public = site.home / "private", pg.socket_dir
    private.mkdir()
    stack.give(private, "postgres", mode=0o700)
    pg.spawn([stack.pg_program("postgres"), "-D", pg.data, "-c", f"unix_socket_directories={private}"])
    pg.socket_dir = private
    stack.wait_for("PostgreSQL", lambda: pg.ready() and not pg.query("select pg_is_in_recovery()")[0][0], alive=pg.alive)
    known = pg.query("select max(id), (select last_value from foloosi.events_id_seq) from foloosi.events")[0]
    assert known[0] < newest and known[1] < newest  # as it is now, numbers would be given away twice
    moved = pg.query("select * from foloosi.after_restore()")
    assert [m[0] for m in moved] == ["foloosi.id_seq", "foloosi.events_id_seq"] and all(m[2] > newest for m in moved)

    # what was acknowledged and is gone: the handler's log has the numbers
    log = site.handler.log.read_text()
    acknowledged = {int(n) for n in re.findall(r"event=request .*outcome=recorded .*delivery=(\d+)", log)}
    there = {id for id, in pg.query("select id from foloosi.deliveries")}
    assert len(acknowledged - there) == len(lost) and len(acknowledged & there) == len(before) + len(between)

    pg.stop()
    pg.socket_dir = public
    pg.start()
    stack.wait_for("the drain", lambda: pg.query("select count(*) from foloosi.deliveries where source = 'spool'")[0][0] == len(meanwhile))
    again = site.take(taken)
    assert len(again) == len(between)  # the same numbers, the same events
    # the drain has a connection of its own, and may have it before the handler's
    stack.wait_for("the handler", lambda: site.post(before[0]) == "duplicate")
    # refilled: by the provider, or by hand; known ones do no harm
    assert [site.post(b) for b in lost] == ["recorded"] * len(lost)
    assert {site.post(b) for b in before + between} == {"duplicate"}
    assert site.take(taken) == set()
    assert pg.query("select state, count(*) from foloosi.orders group by state") == [("paid", len(before + between + lost + meanwhile))]
    assert len({order for _, order in taken.values()}) == len(before + between + lost + meanwhile)


@pytest.mark.long
def test_a_dump_into_another_cluster(site):
    pg = site.pg
    pg.query("select foloosi.add_consumer('erp')")
    old = bodies(3)
    assert {site.post(b) for b in old} == {"recorded"}
    dump = site.home / "shop.dump"
    dump.touch()
    subprocess.run([stack.pg_program("pg_dump"), "-Fc", "-f", dump, pg.conninfo("postgres")], check=True)
    roles = subprocess.run([stack.pg_program("pg_dumpall"), "--roles-only", "-d", pg.conninfo("postgres")], check=True, capture_output=True, text=True).stdout
    other = stack.Postgres(site.home / "other", site.home / "other-logs", {"fsync": "off"})
    with other:
        subprocess.run(["psql", "-X", "-q", "-d", other.conninfo("postgres", "postgres")], input=roles, text=True, check=True, capture_output=True)
        other.create_database()
        subprocess.run([stack.pg_program("pg_restore"), "--exit-on-error", "-d", other.conninfo("postgres"), dump], check=True, capture_output=True)
        assert len(other.query("select * from foloosi.after_restore()")) == 2
        run = subprocess.run([stack.built("foloosictl"), "migrate", "--database", other.conninfo("postgres"), "--sql", stack.ROOT / "sql"],
                             capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (0, "") and "nothing to do" in run.stdout
        site.handler.config.settings["database"] = other.conninfo("foloosi_handler")
        site.handler.stop()
        site.handler.start()
        new = bodies(2)
        assert [site.post(b) for b in old + new] == ["duplicate"] * 3 + ["recorded"] * 2
        with other.connect("foloosi_consumer") as c:
            rows = c.execute("select id from foloosi.next_events('erp')").fetchall()
        assert len(rows) == 5
        site.handler.stop()
        site.handler.start()
