# SPDX-License-Identifier: MIT
"""foloosictl migrate and sql/install.sql, on a PostgreSQL of their own.

Roles belong to a whole cluster, so what is said about the first run in a cluster
is tried in clusters that no other test has touched.
"""

import hashlib
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from support import schema, stack
from support.stories import Database as Books
from support.stories import broken

SQL = stack.ROOT / "sql"
CTL = stack.build_dir() / "foloosictl"
LOCK = 28832959141213033


class Cluster(stack.Postgres):
    """A PostgreSQL that logs every statement, and databases in it."""

    def __init__(self):
        self.root = Path(tempfile.mkdtemp(prefix="fm"))
        stack.give(self.root, None, mode=0o711)
        super().__init__(self.root / "pg", self.root / "logs", {"fsync": "off", "log_min_duration_statement": "0"})
        self.count = 0
        self.start()

    def remove(self):
        self.stop()
        shutil.rmtree(self.root)

    def create_database_with(self, options=""):
        self.count += 1
        name = f"t{self.count}"
        with self.connect(dbname="postgres") as c:
            c.execute(f"create database {name} {options}")
        return Database(self, name)


class Database:
    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name

    def connect(self, user="postgres"):
        return self.cluster.connect(user, self.name)

    def conninfo(self, user="postgres"):
        return self.cluster.conninfo(user, self.name)

    def command(self, sql=SQL, user="postgres"):
        return [CTL, "migrate", "--database", self.conninfo(user), "--sql", sql]

    def migrate(self, sql=SQL, user="postgres"):
        return subprocess.run(self.command(sql, user), capture_output=True, text=True)

    def psql(self, file, user="postgres"):
        # From another directory: \ir must find its files.
        return subprocess.run(["psql", "-X", "-d", self.conninfo(user), "-f", file], capture_output=True, text=True, cwd="/")

    def dump(self, *options):
        text = subprocess.run([stack.pg_program("pg_dump"), *options, self.conninfo()], check=True, capture_output=True, text=True).stdout
        text = re.sub(r"^\\(un)?restrict .*\n", "", text, flags=re.M)  # a random word, since 15.14
        return re.sub(r"(hashtextextended\(\$2, )-?\d+", r"\1seed", text)  # drawn for each database, of reference_key()

    def ledger(self):
        with self.connect() as c:
            return c.execute("select version, name, encode(digest, 'hex') from foloosi.schema_migrations order by 1").fetchall()


@pytest.fixture(scope="module")
def cluster():
    c = Cluster()
    yield c
    c.remove()


@pytest.fixture
def fresh_cluster():
    c = Cluster()
    yield c
    c.remove()


@pytest.fixture
def db(cluster):
    return cluster.create_database_with()


@pytest.fixture
def sql(tmp_path):
    """A copy of sql/ to do things to."""
    return Path(shutil.copytree(SQL, tmp_path / "sql"))


def files(sub="migrations"):
    return sorted(p.name for p in (SQL / sub).glob("*.sql"))


def expected_ledger():
    return [
        (int(n[:4]), n[5:-4], hashlib.sha256((SQL / "migrations" / n).read_bytes()).hexdigest()) for n in files()
    ]


LATEST = expected_ledger()[-1][0]
NEXT = f"{LATEST + 1:04d}"


def ok(run):
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout


def refused(run):
    assert run.returncode == 1, run.stdout
    assert run.stdout == ""
    return run.stderr


# ---- the usual runs


def test_empty_database(db):
    out = ok(db.migrate())
    for name in files():
        assert f"migrations/{name} applied\n" in out
    assert out.endswith(f"renewed\nschema is at version {LATEST}\n")
    assert db.ledger() == expected_ledger()
    with db.connect() as c:
        assert c.execute("select foloosi.schema_version()").fetchone() == (LATEST,)


def test_schema_sql_shows_the_tables(db):
    ok(db.migrate())
    with db.connect() as c:
        assert schema.PATH.read_text() == schema.describe(c), "make schema  writes it anew"


def test_twice_changes_nothing(db):
    ok(db.migrate())
    before = db.dump()
    assert ok(db.migrate()) == f"schema is at version {LATEST}, nothing to do\n"
    assert db.dump() == before


def test_everything_belongs_to_the_owner(db):
    ok(db.migrate())
    with db.connect() as c:
        others = c.execute(
            """
            select 'schema', nspname from pg_namespace where nspname = 'foloosi' and nspowner <> 'foloosi_owner'::regrole
            union all select 'class', relname from pg_class
                where relnamespace = 'foloosi'::regnamespace and relowner <> 'foloosi_owner'::regrole
            union all select 'function', proname from pg_proc
                where pronamespace = 'foloosi'::regnamespace and proowner <> 'foloosi_owner'::regrole
            """
        ).fetchall()
    assert others == []


def test_grants_are_exactly_these(db):
    ok(db.migrate())
    with db.connect() as c:
        may = c.execute(
            """
            select r.rolname, p.proname
            from pg_proc p, pg_roles r
            where pronamespace = 'foloosi'::regnamespace and has_function_privilege(r.oid, p.oid, 'execute')
                and r.rolname in ('foloosi_handler', 'foloosi_consumer', 'pg_monitor')
            order by 1, 2
            """
        ).fetchall()
        assert may == [
            ("foloosi_consumer", "finish_events"),
            ("foloosi_consumer", "next_events"),
            ("foloosi_consumer", "retry_events"),
            ("foloosi_consumer", "schema_version"),
            ("foloosi_handler", "record_deliveries"),
            ("foloosi_handler", "schema_serves"),
            ("foloosi_handler", "schema_version"),
        ]
        tables = c.execute(
            """
            select r.rolname, c.relname, p.privilege
            from pg_class c, pg_roles r, unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) as p (privilege)
            where relnamespace = 'foloosi'::regnamespace and relkind in ('r', 'p', 'v', 'm')
                and r.rolname in ('foloosi_handler', 'foloosi_consumer', 'foloosi_operator', 'foloosi_worker', 'foloosi_monitor', 'foloosi_retention', 'pg_monitor')
                and has_table_privilege(r.oid, c.oid, p.privilege)
                and (r.rolname, p.privilege) <> ('foloosi_operator', 'select')
            """
        ).fetchall()
        assert tables == []
        unseen = c.execute(
            """
            select relname from pg_class where relnamespace = 'foloosi'::regnamespace and relkind in ('r', 'p', 'v', 'm')
                and not has_table_privilege('foloosi_operator', oid, 'select')
            """
        ).fetchall()
        assert unseen == []
    with db.connect("foloosi_operator") as c:
        c.execute("select id from foloosi.orders for update")
        c.execute("select id from foloosi.transactions for update")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            c.execute("update foloosi.orders set state = 'paid'")


def test_four_at_once(db):
    """All four wait for the lock before the first may begin."""
    with db.connect() as holder:
        holder.execute("begin")
        holder.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
        runs = [subprocess.Popen(db.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
        waiting = 0
        deadline = time.monotonic() + 20
        while waiting < 4 and time.monotonic() < deadline:
            waiting = holder.execute(
                "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            ).fetchone()[0]
            time.sleep(0.02)
        assert waiting == 4
        holder.execute("commit")
    outs = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0, 0], outs
    assert all("waiting for another migration" in err for _, err in outs)
    assert sorted("nothing to do" in out for out, _ in outs) == [False, True, True, True]
    assert db.ledger() == expected_ledger()


# ---- from older to newer


def test_older_schema_ends_like_a_new_one(db, cluster, sql, tmp_path):
    """Only the first migration yesterday, all of them and one more today."""
    old = tmp_path / "old"
    shutil.copytree(sql, old)
    for path in [*sorted((old / "migrations").glob("*.sql"))[1:], *(old / "views").glob("*.sql")]:
        path.unlink()
    for path in (old / "functions").glob("*.sql"):
        if path.name != "schema_version.sql":
            path.unlink()
    (sql / "migrations" / f"{NEXT}_later.sql").write_text("create table foloosi.later (id int);\n")

    assert "schema is at version 0\n" in ok(db.migrate(old))
    out = ok(db.migrate(sql))
    assert "0000_ledger" not in out and f"migrations/{NEXT}_later.sql applied" in out

    other = cluster.create_database_with()
    ok(other.migrate(sql))
    assert db.dump("--schema-only") == other.dump("--schema-only")
    assert db.ledger() == other.ledger()


FIRST_SCHEMA = """
    insert into foloosi.orders (id, merchant, order_ref, state, amount, currency, transaction_id) values (1, 'shop', 'O-1', 'paid', 100, 'AED', 2);
    insert into foloosi.transactions (id, merchant, transaction_no, payment_reference, order_ref, state, transaction_status, amount, currency)
    values (2, 'shop', 'N-1', 'R-1', 'O-1', 'captured', 'success', 100, 'AED'), (5, 'shop', 'N-2', 'R-1', null, 'captured', 'success', 7, 'AED'), (6, 'shop', 'N-3', null, 'O-2', 'failed', 'failed', null, null);
    insert into foloosi.deliveries (id, merchant, outcome, order_ref, order_state, rule, transaction_id, digest)
    values (3, 'shop', 'recorded', 'O-1', 'paid', 12, 2, substr(sha256('bytes'), 1, 16));
    select setval('foloosi.id_seq', 10);
    create function foloosi.decide(segment foloosi.element[]) returns foloosi.element[] language sql as 'select segment';
    create view foloosi.attention as select * from foloosi.orders where state = 'review';
    create view foloosi.order_history as select * from foloosi.deliveries where order_moved;
    alter function foloosi.decide owner to foloosi_owner; alter view foloosi.attention owner to foloosi_owner; alter view foloosi.order_history owner to foloosi_owner;
"""


def older_schema(db, sql, old, version):
    """A database with the tables as the migrations up to this one made them."""
    shutil.copytree(sql, old)
    for path in [p for p in (old / "migrations").glob("*.sql") if int(p.name[:4]) > version] + list((old / "views").glob("*.sql")):
        path.unlink()
    for path in (old / "functions").glob("*.sql"):
        if path.name != "schema_version.sql":
            path.unlink()
    assert f"schema is at version {version}\n" in ok(db.migrate(old))
    return db


@pytest.fixture
def first_schema(db, sql, tmp_path):
    """A database with rows as migration 0001 made the tables."""
    older_schema(db, sql, tmp_path / "old", 1)
    with db.connect() as c:
        c.execute(FIRST_SCHEMA)
    return db


def test_what_the_first_schema_knew_is_known(first_schema, cluster):
    db = first_schema
    ok(db.migrate())
    with db.connect() as c:
        assert [c.execute(f"select count(*) from foloosi.{table}").fetchone()[0] for table in ("orders", "transactions", "deliveries")] == [1, 3, 1]

        def deliver(*arguments):
            return c.execute("select outcome, reason from foloosi.record_delivery('shop', 'success', %s, %s, %s, %s, 'AED', body => %s)", arguments).fetchone()

        assert deliver("O-1", "N-1", "R-1", 100, b"bytes") == ("duplicate", None)
        assert deliver("O-1", None, "R-1", 100, b"by reference") == ("duplicate", None)
        assert deliver("O-9", "N-9", "R-1", 100, b"another's reference") == ("review", "reference_conflict")
        assert c.execute("select repeats from foloosi.deliveries where id = 3").fetchone() == (1,)
        assert c.execute("select id from foloosi.reference_owner('shop', 'R-1')").fetchone() == (2,)
        assert c.execute("select id from foloosi.transactions_of('shop', 'O-1')").fetchall() == [(2,)]
        assert c.execute("select id from foloosi.transactions_of('shop', 'O-2')").fetchall() == [(6,)]
    other = cluster.create_database_with()
    ok(other.migrate())
    assert db.dump("--schema-only") == other.dump("--schema-only")


@pytest.mark.parametrize("theirs", [
    "create view public.mine as select order_ref from foloosi.orders",
    "create view public.mine as select id from foloosi.attention",
    "create function public.f() returns trigger language plpgsql as 'begin return new; end'; "
    "create trigger mine before update of order_ref on foloosi.deliveries for each row execute function public.f()",
])
def test_a_merchants_view_in_the_way_is_named(first_schema, theirs):
    db = first_schema
    with db.connect() as c:
        c.execute(theirs)
    before = db.dump()
    message = refused(db.migrate())
    assert "of yours" in message and "migrate, and make" in message
    assert db.dump() == before


# ---- from the first version: where its money is


@pytest.fixture
def version_10(db, sql, tmp_path):
    """A database that the first version filled."""
    older_schema(db, sql, tmp_path / "old", 10)
    run = db.psql(stack.ROOT / "tests/corpus/version-10.sql")
    assert (run.returncode, run.stderr) == (0, "")
    return db


# What each story of tests/corpus/version-10.sql left behind, and what must come out: orders (refunded, left, transaction that
# pays), captured transactions of which money went back, paybacks, and deliveries that are refunds (* waits for a person).
CAME_OUT = {
    "whole": "A refunded 100 0 N1; N1 100; ; recorded refunded",
    "no-amount": "A refunded 100 0 N1; N1 100; ; recorded refunded",
    "part": "A paid 30 70 N1; N1 30; ; recorded refunded_in_part",
    "two-parts": "A paid 70 30 N1; N1 70; ; recorded refunded_in_part, recorded refunded_in_part",
    "currency": "A paid 0 100 N1; N1 0; ; review refund_differs *",
    "more": "A paid 0 100 N1; N1 0; ; review refund_differs *",
    "before": "A refunded 100 0 N1; N1 100; ; recorded refunded",
    "before-in-part": "A paid 30 70 N1; N1 30; ; recorded refunded_in_part",
    "payer": "A paid 100 100 N2; N1 100; N2 check double_payment 100; recorded refunded",
    "payer-other-sum": "A review 100 60 N1; N1 100; N2 check double_payment 60; recorded refunded",
    "doubled": "A paid 100 100 N1; N2 100; N2 settled double_payment 100; recorded refunded",
    # 10 settled it: that counts as all of it, and a person looks
    "doubled-ten": "A paid 100 100 N1; N2 100; N2 settled double_payment 100; recorded refunded_in_part *, recorded refunded_in_part",
    "doubled-stray": "A paid - 200 N1; ; N2 check double_payment 100; review refund_unknown *",
    "doubled-both": "A refunded 200 0 N1; N1 100, N2 100; N2 settled double_payment 100; recorded refunded, recorded refunded",
    "by-person": "A paid 100 100 N1; N2 100; N2 settled double_payment 100 by postgres; ",
    # whether a contradiction that a person settled meant that money went back, only that person knows: it pays the order
    "contradicted": "A paid - 100 N1; ; N1 settled status_contradiction 100 by postgres; ",
    "contradicted-double": "A paid - 200 N1; ; N2 check double_payment 100; ",
    "withdrawn": "A paid - 200 N1; ; N1 settled withdrawn 100, N2 due double_payment 100; ",
    "closed": "A cancelled 100 100 N1; N1 100; N1 settled order_closed 100 by postgres, N2 due order_closed 100; ",
    "closed-refund-twice": "A cancelled 100 0 N1; N1 100; N1 settled order_closed 100; recorded refunded, recorded refunded",
    "renewal": "FLSSUB_1 paid 100 200 N1; N2 100; N2 settled double_payment 100 by postgres, N3 check renewal 100; ",
    "renewal-refunded": "FLSSUB_1 paid 100 100 N2; N1 100; N2 check renewal 100; recorded refunded",
    "bytes-gone": "A paid - 200 N1; ; N2 check double_payment 100; ignored refund_unreadable *",
    "bytes-gone-unknown": "A paid - 200 N1; ; N2 check double_payment 100; ignored refund_unreadable *",
    "bytes-gone-nothing": "; ; ; ignored refund_unreadable *",
    "bytes-odd": "A paid - 100 N1; ; ; ignored refund_unreadable *",
    "test-number": "A paid - 100 N1; ; ; ignored status *",
    "registered-otherwise": "A review - 200 N1; ; N2 check double_payment 100; ",
    "review": "A refunded 100 0 N1; N1 100; ; recorded refunded",
    "two-numbers": "A cancelled - - N1; ; ; ",
    "keyless": "A paid - 100 N2; N1 100; ; recorded refunded",
    "failed": "A cancelled - - N1, B paid - 100 N2; ; ; review refund_unknown *",
    "by-cash": "A paid 100 0 -; N1 100; N1 settled double_payment 100; recorded refunded",
    "zero": "A paid - 0 N1, B paid 0 0 N3; N2 0; N3 settled double_payment 0; recorded refunded",
    "denied": "A cancelled - - N1; ; N1 check order_closed 100; ",
    "denied-review": "A review - 100 N1; ; ; ",
    "though-failed": "A cancelled - - N1; ; N1 check captured_though_failed 100; ",
    # with call-back the provider is asked about the refund first
    "asked": "A paid - 200 N1; ; N2 check double_payment 100; recorded refunded",
    "waiting": "A verifying - - N1; ; ; review refund_unknown *",
    "plain": "A paid - 100 N1, B paid - 100 N3, C cancelled - - N4; ; ; ",
}

CAME_OUT_SQL = """
    select coalesce((select string_agg(concat_ws(' ', o.order_ref, o.state, coalesce(trim_scale(o.refunded)::text, '-'),
                                       coalesce(trim_scale(o.money_left)::text, '-'), coalesce(t.transaction_no, '-')), ', ' order by o.id)
                     from foloosi.orders o left join foloosi.transactions t on t.id = o.transaction_id where o.merchant = m.merchant), '') || '; '
        || coalesce((select string_agg(concat_ws(' ', t.transaction_no, trim_scale(t.refunded)), ', ' order by t.id)
                     from foloosi.transactions t where t.merchant = m.merchant and t.refunded is not null), '') || '; '
        || coalesce((select string_agg(concat_ws(' ', t.transaction_no, p.state, p.reason, trim_scale(p.amount), 'by ' || p.settled_by), ', ' order by p.id)
                     from foloosi.paybacks p join foloosi.transactions t on t.id = p.transaction_id where p.merchant = m.merchant), '') || '; '
        || coalesce((select string_agg(concat_ws(' ', d.outcome, d.reason, case when d.attention then '*' end), ', ' order by d.id)
                     from foloosi.deliveries d where d.merchant = m.merchant and (d.rule between 20 and 23 or d.outcome = 'ignored')), '')
    from foloosi.merchants m where m.merchant = %s"""


def came_out(c):
    return {merchant: c.execute(CAME_OUT_SQL, [merchant]).fetchone()[0] for merchant in CAME_OUT}


@pytest.mark.parametrize("way", ["foloosictl", "psql"])
def test_where_the_first_version_s_money_is(version_10, cluster, way):
    db = version_10
    with db.connect() as c:
        assert {m for m, in c.execute("select merchant from foloosi.merchants")} == set(CAME_OUT)
        events = c.execute("select count(*) from foloosi.events").fetchone()
        decisions = c.execute("select max(id) from foloosi.decisions").fetchone()[0]
        states = dict(c.execute("select id, state::text from foloosi.orders").fetchall())
    if way == "foloosictl":
        ok(db.migrate())
    else:
        assert db.psql(SQL / "install.sql").returncode == 0
    with db.connect() as c:
        assert came_out(c) == CAME_OUT
        # history, no event
        assert c.execute("select count(*) from foloosi.events").fetchone() == events
        moved = {i: (was, state) for i, was, state in c.execute(
            "select subject_id, order_state_before, order_state from foloosi.decisions where order_moved and id > %s and action = 'migrate'", [decisions])}
        assert moved == {i: (was, state) for i, was, state in (
            (i, states[i], state) for i, state in c.execute("select id, state::text from foloosi.orders").fetchall()) if was != state}
        assert len(moved) == 6
        changed = c.execute("select count(*) from foloosi.paybacks where updated_at > created_at + interval '1 day'").fetchone()[0]
        assert c.execute("select count(*) from foloosi.decisions d join foloosi.paybacks p on p.id = d.subject_id where d.action = 'migrate'").fetchone() == (changed,)
    # what must hold of the order rules
    found = Books(db.conninfo).rows(list(CAME_OUT), (0, 0))
    assert {merchant: broken(rows) for merchant, rows in found.items() if broken(rows)} == {}
    other = cluster.create_database_with()
    ok(other.migrate())
    assert db.dump("--schema-only") == other.dump("--schema-only")


def test_what_the_migration_computed_the_functions_compute(version_10):
    """Nothing changes when every order is brought in line once more."""
    db = version_10
    ok(db.migrate())
    with db.connect() as c:
        before = came_out(c), c.execute("select count(*), max(id) from foloosi.events").fetchone()
        for _ in range(2):
            c.execute("select foloosi.align_orders(array[row(merchant, order_ref, null, null, null)::foloosi.alignment], foloosi.count_refunds("
                      "array(select t.id from foloosi.transactions t where t.merchant = o.merchant and t.order_ref = o.order_ref))) from foloosi.orders o")
            assert (came_out(c), c.execute("select count(*), max(id) from foloosi.events").fetchone()) == before


def test_no_trigger_sees_the_migration(version_10):
    """Nor is one of them enabled that was not, or less than it was."""
    db = version_10
    with db.connect() as c:
        c.execute("create function public.no() returns trigger language plpgsql as $$begin raise exception 'no'; end$$")
        for table in ("orders", "transactions", "deliveries", "paybacks", "decisions"):
            for name, mode in (("a", "enable"), ("b", "disable"), ("c", "enable always"), ("d", "enable replica")):
                c.execute(f"create trigger {name} before insert or update on foloosi.{table} for each row execute function public.no()")
                c.execute(f"alter table foloosi.{table} {mode} trigger {name}")
        c.execute("create constraint trigger e after update on foloosi.orders deferrable initially deferred for each row execute function public.no()")
        enabled = "select tgrelid::regclass::text, tgname, tgenabled from pg_trigger where not tgisinternal and tgrelid <> 'foloosi.other_transactions'::regclass order by 1, 2"
        before = c.execute(enabled).fetchall()
    ok(db.migrate())
    with db.connect() as c:
        assert c.execute(enabled).fetchall() == before
        assert came_out(c) == CAME_OUT


def test_a_refund_that_could_not_be_read_comes_again(version_10):
    """Its bytes were gone; the provider sends them once more, and the provider's word or a person ends the doubt."""
    db = version_10
    with db.connect() as c:
        bytes_, = c.execute("select b.body from foloosi.bodies b join foloosi.deliveries d on d.id = b.delivery_id"
                            " where d.merchant = 'bytes-odd' and d.detail = 'status refund'").fetchone()
    ok(db.migrate())
    with db.connect() as c:
        (reason, remedy), = c.execute("select reason, remedy from foloosi.attention where merchant = 'bytes-odd'").fetchall()
        assert reason == "refund_unreadable" and "dismiss_attention" in remedy
        assert c.execute("select outcome, reason, order_state from foloosi.record_delivery('bytes-odd', 'refund', 'A', 'N1', amount => 100, currency => 'AED',"
                         " body => %s)", [bytes_]).fetchone() == ("recorded", "refunded", "refunded")
        assert c.execute("select count(*) from foloosi.attention where merchant = 'bytes-odd'").fetchone() == (0,)


def test_older_than_the_first_version(first_schema):
    """Rows of schema 1 in one go: refunds that it ignored are applied as well."""
    db = first_schema
    with db.connect() as c:
        c.execute("""
            insert into foloosi.deliveries (id, merchant, outcome, reason, detail, rule, digest, order_ref, order_state)
            values (8, 'shop', 'ignored', 'status', 'status refund', 2, substr(sha256('{"data": {"transfer": {"transaction_status": "refund", "transaction_no": "N-1"}}}'), 1, 16), 'O-1', 'paid');
            insert into foloosi.bodies (delivery_id, body) values (8, '{"data": {"transfer": {"transaction_status": "refund", "transaction_no": "N-1"}}}');""")
    ok(db.migrate())
    with db.connect() as c:
        assert c.execute("select state, refunded, money_left from foloosi.orders where order_ref = 'O-1'").fetchone() == ("refunded", 100, 0)


def test_one_migration_more(db, sql):
    ok(db.migrate(sql))
    (sql / "migrations" / f"{NEXT}_later.sql").write_text("create table foloosi.later (id int);\n")
    out = ok(db.migrate(sql))
    assert out == (
        f"migrations/{NEXT}_later.sql applied\nfunctions, views and grants renewed\n"
        f"schema is at version {LATEST + 1}\n"
    )
    with db.connect("foloosi_operator") as c:
        c.execute("select from foloosi.later")
    assert "nothing to do" in ok(db.migrate(sql))


def test_a_changed_function_is_renewed(db, sql):
    ok(db.migrate(sql))
    (sql / "functions" / "schema_version.sql").open("a").write(
        "comment on function foloosi.schema_version() is 'another word';\n"
    )
    assert ok(db.migrate(sql)) == f"functions, views and grants renewed\nschema is at version {LATEST}\n"
    assert "another word" in db.dump("--schema-only")
    assert "nothing to do" in ok(db.migrate(sql))


def test_a_removed_file_renews_too(db, sql):
    extra = sql / "functions" / "zz_extra.sql"
    extra.write_text("create or replace function foloosi.zz() returns int language sql as 'select 1';\n")
    ok(db.migrate(sql))
    extra.unlink()
    assert "renewed" in ok(db.migrate(sql))
    assert "nothing to do" in ok(db.migrate(sql))


# ---- ledgers and files that do not fit


def test_edited_migration_is_refused(db, sql):
    ok(db.migrate(sql))
    before = db.dump()
    path = sql / "migrations" / files()[-1]
    path.open("a").write("\n")
    err = refused(db.migrate(sql))
    assert f"{path}: was edited after it had been applied" in err
    assert "nothing was changed" in err
    assert db.dump() == before


def test_newer_database_is_refused(db, sql):
    (sql / "migrations" / f"{NEXT}_later.sql").write_text("create table foloosi.later (id int);\n")
    ok(db.migrate(sql))
    before = db.dump()
    err = refused(db.migrate())
    assert f"newer than these files: it has migration {NEXT}_later" in err and "release" in err
    assert db.psql(SQL / "install.sql").returncode == 3
    assert db.dump() == before


def test_missing_and_late_migrations_are_refused(db, sql):
    (sql / "migrations" / f"{LATEST + 2:04d}_last.sql").write_text("select 1;\n")
    ok(db.migrate(sql))
    (sql / "migrations" / f"{NEXT}_late.sql").write_text("select 1;\n")
    assert f"{NEXT}_late.sql: is not applied, but {LATEST + 2:04d} is" in refused(db.migrate(sql))
    (sql / "migrations" / f"{NEXT}_late.sql").unlink()
    (sql / "migrations" / "0000_ledger.sql").unlink()
    assert "0000_ledger.sql was applied to this database and is missing here" in refused(db.migrate(sql))


@pytest.mark.parametrize(
    "name", ["1_short.sql", "0001x.sql", "0001_.sql", "0001_Big.sql", "00001_five.sql", "later.sql"]
)
def test_odd_names_are_refused(db, sql, name):
    (sql / "migrations" / name).write_text("select 1;\n")
    assert f"{name}: a migration's name is NNNN_words.sql" in refused(db.migrate(sql))


def test_one_number_twice_is_refused(db, sql):
    (sql / "migrations" / f"{LATEST:04d}_zz.sql").write_text("select 1;\n")
    assert "has the number of" in refused(db.migrate(sql))


def test_what_editors_leave_is_not_read(db, sql):
    for name in [".0001_schema.sql", "0001_schema.sql~", "README"]:
        (sql / "migrations" / name).write_text("this is no sql")
    ok(db.migrate(sql))


# ---- errors name file and line


@pytest.mark.parametrize(
    "text, line, message",
    [
        ("select 1;\n-- Größe €\nselect nonsense;\n", 3, 'column "nonsense" does not exist'),
        ("select 1;\n\n\nselect ;; from;\n", 4, "syntax error"),
        # No position comes with these: the statement is counted.
        ("create table foloosi.a ();\n/* ; /* ; */ ; */\n\ncreate table\nfoloosi.a ();\n", 4, "already exists"),
        (
            "do $$ begin perform ';'; end $$;\nselect 'it''s; ', E'\\'; ', \"?column?\" from (select 1) as x(\"?column?\");\n"
            "do $x$ begin\n  perform '$$;'; raise exception 'own words';\nend $x$;\n",
            3,
            "own words",
        ),
        (";;\n;\nselect 1/0;\n", 3, "division by zero"),
        ("create rule r as on insert to foloosi.merchants do also (select 1; select 2);\nselect 1/0", 2, "division by zero"),
        ("copy foloosi.merchants from stdin;\n", 1, "COPY"),
        ("copy foloosi.merchants to stdout;\n", 1, "COPY"),
    ],
)
def test_errors_name_file_and_line(db, sql, text, line, message):
    ok(db.migrate(sql))
    before = db.dump()
    path = sql / "migrations" / f"{NEXT}_wrong.sql"
    path.write_text("select 0;\n" + text)
    err = refused(db.migrate(sql))
    assert f"{path}:{line + 1}: " in err and message in err
    assert db.dump() == before


def test_a_failure_on_an_empty_database_leaves_it_empty(db, sql):
    (sql / "views" / "zz.sql").write_text("create view foloosi.zz as select nonsense;\n")
    err = refused(db.migrate(sql))
    assert f"{sql}/views/zz.sql:1: " in err and "nothing was changed" in err
    assert "foloosi" not in db.dump("--schema-only")


def test_a_file_must_not_end_the_transaction(db, sql):
    ok(db.migrate(sql))
    (sql / "migrations" / f"{NEXT}_commit.sql").write_text("commit;\n")
    err = refused(db.migrate(sql))
    assert "ends the transaction" in err
    assert "nothing was changed" not in err  # that would be a guess


def test_rows_are_not_quoted(db, sql):
    ok(db.migrate(sql))
    path = sql / "migrations" / f"{NEXT}_unique.sql"
    path.write_text("create table foloosi.u (m text unique);\ninsert into foloosi.u values ('ann@example.org'), ('ann@example.org');\n")
    err = refused(db.migrate(sql))
    assert f"{path}:2: duplicate key" in err
    assert "ann@example.org" not in err


def test_a_held_table_is_not_waited_for_forever(db, sql):
    ok(db.migrate(sql))
    (sql / "migrations" / f"{NEXT}_alter.sql").write_text("alter table foloosi.merchants add column later int;\n")
    with db.connect() as holder:
        holder.execute("begin")
        holder.execute("select from foloosi.merchants")
        start = time.monotonic()
        err = refused(db.migrate(sql))
        assert 3 < time.monotonic() - start < 15
        assert "Another session holds that lock" in err
    assert "applied" in ok(db.migrate(sql))


def test_wrong_places(db, tmp_path):
    assert "roles.sql: No such file or directory; --sql DIR" in refused(db.migrate(tmp_path))
    run = subprocess.run([CTL, "migrate", "-d", f"host={tmp_path} dbname=x", "--sql", SQL], capture_output=True, text=True)
    assert "foloosictl: database: " in refused(run)
    run = subprocess.run([CTL, "migrate", "surplus"], capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("usage: foloosictl migrate ")


def test_encoding(cluster):
    latin = cluster.create_database_with("encoding 'LATIN1' locale 'C' template template0")
    err = refused(latin.migrate())
    assert "0000_ledger.sql:" in err and "the database's encoding is LATIN1" in err and "template0" in err


def test_somebody_elses_schema(db):
    with db.connect() as c:
        c.execute("create schema foloosi")
    assert "schema foloosi belongs to postgres" in refused(db.migrate())


# ---- psql alone


def test_psql_gives_the_same(db, cluster):
    run = db.psql(SQL / "install.sql")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"schema is at version {LATEST}\n"
    other = cluster.create_database_with()
    ok(other.migrate())
    assert db.dump("--schema-only") == other.dump("--schema-only")
    assert db.ledger() == expected_ledger()

    before = db.dump()
    assert db.psql(SQL / "install.sql").returncode == 0
    assert db.dump() == before

    # Either may follow the other.
    assert ok(db.migrate()) == f"functions, views and grants renewed\nschema is at version {LATEST}\n"
    assert "nothing to do" in ok(db.migrate())
    assert db.psql(SQL / "install.sql").returncode == 0
    assert db.dump() == before


def test_install_names_every_file():
    text = (SQL / "install.sql").read_text()
    named = re.findall(r"^\\ir (.+)$", text, flags=re.M)
    there = ["roles.sql"] + [f"{sub}/{n}" for sub in ("migrations", "functions", "views") for n in files(sub)] + ["grants.sql"]
    assert named == there, "sql/install.sql has one \\ir line a file, in the order of foloosictl migrate"
    recorded = [(int(v), n, d) for v, n, d in re.findall(r"^ +\((\d+), '(\w+)', '\\x([0-9a-f]{64})'\);$", text, flags=re.M)]
    assert recorded == expected_ledger(), "sql/install.sql records other digests than: sha256sum sql/migrations/*.sql"
    assert f"schema_migrations) > {LATEST} then" in text, "sql/install.sql refuses a schema newer than its own"


def test_psql_fails_whole(db, sql):
    (sql / "functions" / "write.sql").write_text("select nonsense;\n")
    run = db.psql(sql / "install.sql")
    assert run.returncode == 3 and 'column "nonsense" does not exist' in run.stderr
    assert "foloosi" not in db.dump("--schema-only")


# ---- roles


def test_an_owner_without_superuser(cluster):
    """Once the roles exist, membership and CREATE on the database are enough."""
    ok(cluster.create_database_with().migrate())
    with cluster.connect(dbname="postgres") as c:
        c.execute("create role plain login")
    db = cluster.create_database_with("owner plain")
    err = refused(db.migrate(user="plain"))
    assert "plain may not act as foloosi_owner" in err and "grant foloosi_owner to plain" in err
    with cluster.connect(dbname="postgres") as c:
        c.execute("grant foloosi_owner to plain")
    assert f"schema is at version {LATEST}\n" in ok(db.migrate(user="plain"))
    assert "nothing to do" in ok(db.migrate(user="plain"))
    by_psql = cluster.create_database_with("owner plain")
    assert by_psql.psql(SQL / "install.sql", "plain").returncode == 0
    assert by_psql.dump("--schema-only") == db.dump("--schema-only")


LOG_SETTINGS = [
    "log_error_verbosity=terse",
    "log_min_error_statement=panic",
    "log_min_messages=log",
    "log_parameter_max_length=0",
    "log_parameter_max_length_on_error=0",
]


def settings(cluster):
    with cluster.connect(dbname="postgres") as c:
        return {name: sorted(config or []) for name, config in c.execute("select rolname, rolconfig from pg_roles where rolname ~ '^foloosi_'")}


def test_settings_of_the_roles(fresh_cluster):
    """First by a role that may create roles and nothing else; the message says what to ask for."""
    with fresh_cluster.connect(dbname="postgres") as c:
        c.execute("create role maker login createrole")
    db = fresh_cluster.create_database_with("owner maker")
    run = db.migrate(user="maker")
    assert run.returncode == 0, run.stderr
    with fresh_cluster.connect(dbname="postgres") as c:
        (roles,) = c.execute("select count(*) from pg_roles where rolname like 'foloosi%' and rolcanlogin").fetchone()
    assert run.stderr.count("alter role ") == 4 * roles  # the fifth of the log settings is free for all
    found = settings(fresh_cluster)
    assert found["foloosi_handler"] == [
        "default_transaction_isolation=read committed",
        "idle_in_transaction_session_timeout=10s",
        "lock_timeout=300ms",
        "log_parameter_max_length_on_error=0",
        "statement_timeout=1500ms",
        "synchronous_commit=on",
    ]
    assert found["foloosi_operator"] == ["default_transaction_isolation=read committed", "log_parameter_max_length_on_error=0"]
    assert found["foloosi_owner"] == []

    # What the hint says is what a superuser has to do.
    with fresh_cluster.connect(dbname="postgres") as c:
        c.execute(re.search(r"Ask a superuser for: (.*)", run.stderr).group(1))
    assert "nothing to do" in ok(db.migrate(user="maker"))
    found = settings(fresh_cluster)
    for role in ("foloosi_handler", "foloosi_operator", "foloosi_consumer", "foloosi_worker", "foloosi_retention"):
        assert set(LOG_SETTINGS) <= set(found[role])

    # A DBA's own choice stays.
    with fresh_cluster.connect(dbname="postgres") as c:
        c.execute("alter role foloosi_handler set statement_timeout = '7s'")
    ok(db.migrate())
    assert "statement_timeout=7s" in settings(fresh_cluster)["foloosi_handler"]


def test_two_databases_of_one_cluster_at_once(fresh_cluster):
    """The lock is the database's, the roles are the cluster's."""
    dbs = [fresh_cluster.create_database_with() for _ in range(3)]
    runs = [subprocess.Popen(db.command(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for db in dbs]
    for run in runs:
        _, err = run.communicate()
        assert run.returncode == 0, err


SECRET = "ann@example.org"


def fail_in_every_way(connection):
    """Statements that fail with the secret in message, detail, context, statement or parameter."""
    connection.execute("set client_min_messages = warning")
    for statement, parameters in [
        (f"select '{SECRET}'::int", None),
        ("select %s::text::int", [SECRET]),
        (f"do $$ begin raise exception 'x' using detail = '{SECRET}', hint = '{SECRET}'; end $$", None),
        (f"do $$ begin raise warning '{SECRET}'; end $$", None),
        (f"do $$ begin execute 'select 1/0 /* {SECRET} */'; end $$", None),
        (f"select nonsense /* {SECRET} */", None),
    ]:
        try:
            connection.execute(statement, parameters)
        except psycopg.Error:
            connection.rollback()
    # A slow statement is logged with its text, but without its parameters.
    connection.execute("select length(%s::text)", [SECRET])


@pytest.mark.parametrize("role", ["foloosi_handler", "foloosi_operator", "foloosi_consumer", "postgres"])
def test_personal_data_stay_out_of_the_servers_log(db, cluster, role):
    ok(db.migrate())
    start = cluster.log.stat().st_size
    with db.connect(role) as c:
        fail_in_every_way(c)
        c.execute("select 'the end'")
    with db.connect() as c:
        c.execute("select 1")
    log = cluster.log.read_bytes()[start:].decode()
    if role == "postgres":
        assert log.count(SECRET) >= 6  # so that the other runs prove something
    else:
        assert "the end" in log
        leaks = [line for line in log.splitlines() if SECRET in line and "duration:" not in line]
        assert leaks == []
        assert "length($1::text)" in log and f"$1 = '{SECRET}'" not in log
