# SPDX-License-Identifier: MIT
"""record_deliveries() spreads over several databases by PL/Proxy, with the same call."""
import hashlib
import shutil
import tempfile
from pathlib import Path

import psycopg
import pytest

from support import stack

SHARDS = 2
ARGUMENTS = """ordinals int[], merchants text[], order_refs text[], digests bytea[], bodies bytea[], faults text[],
    sources text[], transaction_statuses text[], transaction_nos text[], payment_references text[], amounts numeric[],
    currencies text[], transaction_messages text[], optional1s text[], optional2s text[], optional3s text[],
    customer_emails text[], customer_mobiles text[], card_last_fours text[], unprefixed text[]"""
NAMES = ", ".join(a.split()[0] for a in ARGUMENTS.split(","))


@pytest.fixture  # for each test: they look at whole tables
def shards():
    home = Path(tempfile.mkdtemp(prefix="fp"))
    stack.give(home, None, mode=0o711)
    with stack.Postgres(home / "pg", home / "logs") as pg:
        for n in range(SHARDS):
            pg.create_database(f"shard{n}")
            pg.migrate(f"shard{n}")
        pg.create_database("front")
        with pg.connect(dbname="front") as c:
            c.execute("create extension plproxy")
            options = ", ".join(f"p{n} 'host={pg.socket_dir} dbname=shard{n}'" for n in range(SHARDS))
            c.execute(f"create server shards foreign data wrapper plproxy options ({options})")
            c.execute("create user mapping for public server shards options (user 'foloosi_handler')")
            c.execute("create schema foloosi")
            c.execute(f"""create function foloosi.record_deliveries({ARGUMENTS})
                returns table (ordinal int, outcome text, order_ref text, order_state text, reason text,
                    delivery_id bigint, merchant_known boolean)
                language plproxy as $$
                    cluster 'shards';
                    split {NAMES};
                    run on hashtext(coalesce(order_refs, encode(digests, 'hex')));
                $$""")
        yield pg
    shutil.rmtree(home)


def record(connection, deliveries):
    """deliveries: (order_ref, status, transaction_no)"""
    n = len(deliveries)
    bodies = [repr(d).encode() for d in deliveries]
    nothing = [None] * n
    with connection.cursor() as cursor:
        return cursor.execute(
            "select * from foloosi.record_deliveries(%s::int[], %s::text[], %s::text[], %s::bytea[], %s::bytea[],"
            " %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::numeric[]" + ", %s::text[]" * 9 + ")",
            [list(range(1, n + 1)), ["shop"] * n, [d[0] for d in deliveries],
             [hashlib.sha256(b).digest() for b in bodies], bodies, nothing, nothing, [d[1] for d in deliveries],
             [d[2] for d in deliveries], nothing, [100] * n, ["AED"] * n] + [nothing] * 8,
        ).fetchall()


def test_one_call_many_databases(shards):
    deliveries = [(f"ORDER-{i}", "success", f"NO-{i}") for i in range(40)] + [(None, "failed", f"NO-X{i}") for i in range(10)]
    with shards.connect(dbname="front") as front:
        first = record(front, deliveries)
        again = record(front, deliveries)
    assert sorted(row[0] for row in first) == list(range(1, 51))
    assert {row[1] for row in first} == {"recorded"}
    assert {row[1] for row in again} == {"duplicate"}
    kept = []
    for n in range(SHARDS):
        with shards.connect(dbname=f"shard{n}") as c:
            kept.append(c.execute("select count(*), count(*) filter (where state = 'paid') from foloosi.orders").fetchone())
            assert c.execute("select count(*) from foloosi.deliveries where repeats <> 1").fetchone() == (0,)
    assert all(orders > 0 for orders, _ in kept), "a shard got nothing"
    assert sum(orders for orders, _ in kept) == sum(paid for _, paid in kept) == 40


def test_order_stays_in_its_shard(shards):
    with shards.connect(dbname="front") as front:
        rows = record(front, [("ORDER-HOT", "failed", f"NO-H{i}") for i in range(20)] + [("ORDER-HOT", "success", "NO-HS")])
    assert {row[1] for row in rows} == {"recorded"}
    states = []
    for n in range(SHARDS):
        with shards.connect(dbname=f"shard{n}") as c:
            states += c.execute("select state, late from foloosi.orders where order_ref = 'ORDER-HOT'").fetchall()
    assert states == [("paid", True)]


def test_null_elements_and_bytes_survive(shards):
    with shards.connect(dbname="front") as front:
        try:
            rows = record(front, [("ORDER-\u20ac,{}\"\\", "success", None)])
        except psycopg.Error as e:
            pytest.fail(str(e))
    assert rows[0][1:4] == ("recorded", "ORDER-\u20ac,{}\"\\", "paid")
