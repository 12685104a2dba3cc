# SPDX-License-Identifier: MIT
"""make bench-growth: what grown tables cost.

Two databases in one cluster, each with a handler of its own behind one nginx; one of them has
EVENTS deliveries (10 million by default). Measured in turns.

Each measurement begins with a checkpoint, after which PostgreSQL logs the whole of each page that is changed
for the first time. Full tables have so many index pages that in the first seconds nearly every event
meets some, and fewer with time, until the next checkpoint (after five minutes, by default). So
new deliveries as the provider numbers them are measured twice: over a minute, which is what full/empty
compares, and over the first ten seconds, the worst of it.

The rows are not sent, they are made by INSERT ... SELECT, table by table, without WAL and with
the indexes built afterwards. They are honest: one delivery is sent through the handler, and
every row is a copy of what it wrote but for the columns that name the delivery; the digest is
the digest of the body, which can be sent again, as post.lua's "known" does. Indexes that
random keys fill are built as full as those become (70 %).
"""
import os
import re
import subprocess
import threading
import time

from support import stack

TABLES = ("transactions", "orders", "events", "deliveries", "bodies")
ONE = {"n13": "0123456789abc", "uuid": "01234567-89ab-4cde-8f01-23456789abcd", "h16": "fedcba9876543210"}
ROWS = """
    from (select k, x.a || substr(x.b, 4) as n13, x.a || '-4496-4b4d-' || right(x.b, 4) || '-' || left(x.b, 4) || x.a as uuid, x.a || x.b as h16
          from generate_series(1, {n}::bigint) k,
               lateral (select lpad(to_hex(k * 2654435761 & 4294967295), 8, '0') as a, lpad(to_hex(k * 2246822519 & 4294967295), 8, '0') as b) x
         ) r"""
# A delivery draws its own id first, then its transaction's; its order's comes when that is written.
DELIVERY, TRANSACTION, ORDER = "3 * k - 2", "3 * k - 1", "3 * k"
KEYS = {
    "transaction_no": "'FLNIAREC' || n13", "payment_reference": "uuid", "order_ref": "'FLSSUB_' || h16", "optional1": "'FLSSUB_' || h16",
    "transaction_id": TRANSACTION, "delivery_id": DELIVERY,
}
IDS = {"transactions": TRANSACTION, "orders": ORDER, "events": "k", "deliveries": DELIVERY}


class Loader:
    """Fills a database whose tables are empty."""

    def __init__(self, bench, module, database, handler):
        self.bench, self.module, self.database, self.handler = bench, module, database, handler
        self.body = module.body_expression()

    def connect(self):
        return self.bench.postgres.connect(dbname=self.database)

    def send_one(self):
        body = self.module.PAYLOAD.replace("@NO@", ONE["n13"]).replace("@REFERENCE@", ONE["uuid"]).replace("@ORDER@", ONE["h16"])
        done = subprocess.run([stack.program("curl"), "-sS", "-H", "Content-Type: application/json", "--data-binary", "@-",
                               self.bench.nginx.url_of(self.handler)], input=body, stdout=subprocess.PIPE, text=True)
        if '"recorded"' not in done.stdout:
            raise self.module.Failure(f"the first delivery was not recorded: {done.stdout}")

    def insert(self, connection, table, n):
        """INSERT ... SELECT for n rows like the one that is there."""
        cursor = connection.execute(f"select * from foloosi.{table}")
        row = dict(zip([c.name for c in cursor.description], cursor.fetchone()))
        text = connection.execute(f"select to_jsonb(t) from foloosi.{table} t").fetchone()[0]
        types = dict(connection.execute(
            "select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped"
            " and attgenerated = ''",
            [f"foloosi.{table}"]).fetchall())
        columns, values = [], []
        for name in [n for n in row if n in types]:  # what is generated is not written
            columns.append(name)
            if name == "id":
                values.append(IDS[table])
            elif name == "body":
                values.append(self.body)
            elif name == "digest":
                values.append(f"substr(sha256({self.body}), 1, 16)")
            elif name in KEYS and row[name] is not None:
                values.append(KEYS[name])
            elif any(mark in str(text[name]) for mark in ONE.values()):
                raise self.module.Failure(f"growth.py does not know what {table}.{name} is made of")
            elif text[name] is None:
                values.append(f"null::{types[name]}")
            else:
                values.append(f"{self.module.quote(str(text[name]))}::{types[name]}")
        return f"insert into foloosi.{table} ({', '.join(columns)}) overriding system value select {', '.join(values)}" + ROWS.format(n=n)

    def indexes(self, connection):
        """(statements that drop, statements that make) what the load can do without, in order; bodies keep theirs (BRIN)."""
        keys = connection.execute("""
            select conrelid::regclass::text, conname, pg_get_constraintdef(oid), contype from pg_constraint
            where connamespace = 'foloosi'::regnamespace
              and (contype in ('p', 'u') and conrelid::regclass::text = any (%s) or contype = 'f' and confrelid::regclass::text = any (%s))
            order by contype <> 'f'""", [[f"foloosi.{t}" for t in TABLES if t != "bodies"]] * 2).fetchall()
        others = connection.execute("""
            select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index
            where indrelid::regclass::text = any (%s) and not exists (select from pg_constraint where conindid = indexrelid and contype in ('p', 'u'))""",
            [[f"foloosi.{t}" for t in TABLES if t != "bodies"]]).fetchall()
        drop = [f"alter table {t} drop constraint {n}" for t, n, _, _ in keys] + [f"drop index {n}" for n, _ in others]
        make = [(t, f"alter table {t} add constraint {n} {self.loosely(d)}", n) for t, n, d, kind in keys if kind != "f"]
        make += [(re.search(r" ON (\S+) ", d).group(1), self.loosely(d), n.split(".")[-1]) for n, d in others]
        last = [f"alter table {t} add constraint {n} {d}" for t, n, d, kind in keys if kind == "f"]
        return drop, make, last

    @staticmethod
    def loosely(definition):
        """A B-tree of random keys, as full as insertions leave it."""
        if not re.search(r"btree|PRIMARY KEY|UNIQUE \(", definition) or re.search(r"\((id|delivery_id|transaction_id)\)", definition):
            return definition
        before, where, after = definition.partition(" WHERE ")
        return f"{before} WITH (fillfactor='70'){where}{after}"

    def load(self, n):
        self.send_one()
        with self.connect() as c:
            statements = {t: self.insert(c, t, n) for t in TABLES}
            drop, make, last = self.indexes(c)
            for statement in drop:
                c.execute(statement)
        errors = []

        def work(tables):
            try:
                with self.connect() as c:
                    c.execute("set maintenance_work_mem = '1GB'")
                    c.execute("set max_parallel_maintenance_workers = 0")
                    for t in tables:
                        # into a table that was emptied in the same transaction: with wal_level minimal that writes no WAL
                        with c.transaction():
                            c.execute(f"truncate foloosi.{t}" + (", foloosi.paybacks, foloosi.refunds" if t == "transactions" and not drop else ""))
                            c.execute(statements[t])
                        for table, statement, name in make:
                            if table == f"foloosi.{t}":
                                c.execute(statement)
                                if "fillfactor='70'" in statement:
                                    c.execute(f"alter index foloosi.{name} reset (fillfactor)")
            except Exception as error:  # noqa: BLE001 - a thread hands it over
                errors.append(error)

        threads = [threading.Thread(target=work, args=(tables,)) for tables in (("transactions", "orders", "events"), ("deliveries", "bodies"))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if errors:
            raise self.module.Failure(f"loading failed: {errors[0]}")
        with self.connect() as c:
            for statement in last:
                c.execute(statement)
            c.execute("select setval('foloosi.id_seq', %s)", [3 * n + 1])
            c.execute("select setval(pg_get_serial_sequence('foloosi.events', 'id'), %s)", [n + 1])
            c.execute("select foloosi.open_last_ranges()")
            c.execute("vacuum (analyze)")
            counts = {t: c.execute(f"select count(*) from foloosi.{t}").fetchone()[0] for t in TABLES}
        if any(count != n for count in counts.values()):
            raise self.module.Failure(f"loaded {counts}")


def configure(bench, **settings):
    with bench.postgres.connect(dbname="postgres") as c:
        for name, value in settings.items():
            c.execute(f"alter system reset {name}" if value is None else f"alter system set {name} = '{value}'")
    bench.stop_peers()
    bench.postgres.stop()
    bench.postgres.start()
    bench.start_peers()


def run(bench, report, module):
    begin = time.monotonic()
    n = int(os.environ.get("EVENTS") or 10_000_000)
    databases = {"empty": stack.DATABASE, "full": "foloosi_full"}
    bench.create_database(databases["full"])
    bench.names = list(databases)
    for name, database in databases.items():
        bench.peers[name] = stack.Handler(bench.home / name, bench.logs, bench.postgres.conninfo("foloosi_handler", database),
                                          {"bench": {"token": module.TOKEN}}, name=f"handler-{name}")
    bench.start_peers()

    small = min(n, 500_000)  # so many that a batch seldom has the same one twice
    configure(bench, wal_level="minimal", max_wal_senders="0")
    module.say(f"loading {n:,} deliveries")
    Loader(bench, module, databases["full"], "full").load(n)
    loaded = time.monotonic() - begin
    configure(bench, wal_level=None, max_wal_senders=None)
    module.say(f"loaded in {loaded:.0f} s")
    bench.database = databases["full"]
    _, sizes = bench.bytes_per_event()

    series = {}

    def measure(key, name, run, seconds, counted=True):
        bench.database = databases[name]
        series.setdefault((key, name), module.Series()).add(bench.measure(name, run, seconds, empty=name == "empty" and counted, counted=counted))
        print(".", end="", flush=True)

    rounds, seconds = module.ROUNDS, module.SECONDS or 10
    for _ in range(rounds):
        for key, mode, length in (("minute", "ascending", 6 * seconds), ("ascending", "ascending", seconds), ("random", "random", seconds)):
            for name in databases:
                measure(key, name, bench.warmed(lambda s, name=name, mode=mode: bench.wrk(name, 64, s, mode)), length)
    half = min(s.median("rate") for s in series.values()) / 2
    for _ in range(rounds):
        for name in databases:
            measure("half", name, bench.warmed(lambda s, name=name: bench.pace(name, half, s)), seconds)
    print(flush=True)

    # repeats: of all that was loaded, and of few
    bench.database = databases["empty"]
    bench.reset()
    Loader(bench, module, databases["empty"], "empty").load(small)

    def kept(database):
        with bench.postgres.connect(dbname=database) as c:
            return c.execute("select count(*) from foloosi.deliveries").fetchone()[0]

    before = {name: kept(database) for name, database in databases.items()}
    for _ in range(rounds):
        for name in databases:
            measure("repeats", name, bench.warmed(lambda s, name=name: bench.wrk(name, 64, s, "known", n if name == "full" else small)), seconds, counted=False)
    after = {name: kept(database) for name, database in databases.items()}
    if after != before:
        raise module.Failure(f"repeats were taken for new: {before} deliveries became {after}")
    print(flush=True)

    titles = {"minute": "new, numbered as the provider does, a minute", "ascending": "the same, 10 s after a checkpoint",
              "random": "new, all ids random, 10 s", "half": f"new, random, at {half:,.0f} a second, 10 s", "repeats": "repeats of recorded ones, 10 s"}
    table = module.Table(f"**{n:,} deliveries against none** (64 connections)", "", "tables", "rate", "p99 ms", "WAL bytes/event", "page images/event", "CPU µs/event: PostgreSQL")
    for (key, name), s in sorted(series.items(), key=lambda x: list(titles).index(x[0][0])):
        table.row(titles[key], name, s.rates(), f"{s.median('p99'):.1f}", f"{s.median('wal'):.0f}", f"{s.median('fpi'):.2f}", f"{s.cpu()['postgres']:.0f}")
    report.table(table)
    table = module.Table("**Bytes on disk of a loaded event**", "", "table", "indexes")
    for name, (t, i) in sizes.items():
        table.row(name, f"{t:.0f}", f"{i:.0f}")
    table.row("all", f"{sum(t for t, _ in sizes.values()):.0f}", f"{sum(i for _, i in sizes.values()):.0f}")
    report.table(table)

    def ratio(key, what):
        return series[key, "full"].median(what) / series[key, "empty"].median(what)

    report.ratio("full/empty", ratio("minute", "rate"))
    report.ratio("full/empty-10-s-after-a-checkpoint", ratio("ascending", "rate"))
    report.ratio("full/empty-random-ids", ratio("random", "rate"))
    report.ratio("full/empty-repeats", ratio("repeats", "rate"))
    report.ratio("full/empty-p99", ratio("half", "p99"))
    seconds_total = time.monotonic() - begin
    report.figure("load-seconds", loaded)
    report.figure("minutes", seconds_total / 60)
    if n == 10_000_000 and not module.SECONDS:
        report.write("growth", "make bench-growth", module.facts([], seconds_total, module.GROWN))
