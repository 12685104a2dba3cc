# SPDX-License-Identifier: MIT
"""Events by pull: every consumer gets every event at least once, those of an order in their order.

Writers and consumers are sessions of their own, as in life: what is held open, rolled back or
crashed is really so.
"""
import pathlib
import random
import shutil
import subprocess
import threading
import time

import pytest

from support import stack
from support.site import scratch


@pytest.fixture(scope="module")
def pg():
    home = pathlib.Path(scratch())
    home.chmod(0o711)
    with stack.Postgres(home / "pg", home / "logs", {"fsync": "off"}) as pg:
        pg.create_database()
        pg.migrate()
        pg.query("select foloosi.set_merchant('shop')")
        yield pg
    shutil.rmtree(home)


names = iter(range(1, 1_000_000))


@pytest.fixture
def name(pg):
    """A consumer that begins now."""
    name = f"consumer-{next(names)}"
    pg.query("select foloosi.add_consumer(%s)", [name], user="foloosi_operator")
    return name


def deliver(c, order, status="failed", merchant="shop"):
    """One delivery of a new transaction, in the caller's transaction. Returns the order's number."""
    n = next(names)
    c.execute("select * from foloosi.record_delivery(%s, %s, %s, %s, amount => 100, currency => 'AED')",
              [merchant, status, order, f"NO-{n}"])
    return order


def fresh():
    return f"O-{next(names)}"


def take(c, name, n=100, lease="1 minute"):
    """[(id, attempt, type, order_ref)]"""
    return c.execute("select id, attempt, type, order_ref from foloosi.next_events(%s, %s, %s)", [name, n, lease]).fetchall()


def refs(events):
    return [e[3] for e in events]


def finish(c, name, events):
    return c.execute("select foloosi.finish_events(%s, %s)", [name, [e[0] for e in events]]).fetchone()[0]


def consumer(pg):
    return pg.connect("foloosi_consumer")


def gaps(pg, name):
    return pg.query("select g.first_id, g.last_id from foloosi.event_gaps g join foloosi.consumers c on c.id = g.consumer_id"
                    " where c.consumer = %s order by 1", [name])


def test_what_is_finished_is_not_handed_out_again(pg, name):
    with consumer(pg) as c, pg.connect() as w:
        assert take(c, name) == []
        orders = [deliver(w, fresh()) for _ in range(3)]
        got = take(c, name)
        assert refs(got) == orders and {e[1] for e in got} == {1} and {e[2] for e in got} == {"order.cancel"}
        assert take(c, name) == []  # claimed
        assert finish(c, name, got) == 3
        assert finish(c, name, got) == 0  # no error
        assert take(c, name) == []


def test_payload(pg, name):
    with consumer(pg) as c, pg.connect() as w:
        order = deliver(w, fresh(), "success")
        payload, = c.execute("select payload from foloosi.next_events(%s)", [name]).fetchone()
        assert payload["type"] == "order.success" and payload["data"]["version"] == 2
        assert payload["data"]["order"] == {"ref": order, "state": "paid", "amount": "100", "currency": "AED", "late": False, "money_left": "100"}


def test_payload_of_a_refund(pg, name):
    """A part, and the rest: order.state is what the event announces, and nothing that a provider wrote for people is in it."""
    with consumer(pg) as c, pg.connect() as w:
        order, number = fresh(), f"NO-{next(names)}"
        for status, amount in (("success", 100), ("refund", 30), ("refund", 100)):
            w.execute("select * from foloosi.record_delivery('shop', %s, %s, %s, amount => %s, currency => 'AED', transaction_message => 'to Ann')",
                      [status, order, number, amount])
        got = []
        while events := c.execute("select id, type, payload from foloosi.next_events(%s)", [name]).fetchall():
            got += [(type_, payload["data"]) for _, type_, payload in events]
            c.execute("select foloosi.finish_events(%s, %s)", [name, [e[0] for e in events]])
        assert [t for t, _ in got] == ["order.success", "order.refund", "order.refund"]
        assert [(d.get("reason"), d["order"]["state"]) for _, d in got] == [(None, "paid"), ("refunded_in_part", "refunded"), (None, "refunded")]
        assert {(d["transaction"]["refunded"], d["transaction"]["money_left"], d["order"]["refunded"]) for _, d in got} == {("100", "0", "100")}
        assert "Ann" not in str(got) and "transaction_message" not in str(got)


def test_consumers_have_positions_of_their_own(pg, name):
    with consumer(pg) as c, pg.connect() as w:
        first = deliver(w, fresh())
        late = f"{name}-late"
        pg.query("select foloosi.add_consumer(%s)", [late])
        beginning = f"{name}-all"
        pg.query("select foloosi.add_consumer(%s, after => 0)", [beginning])
        second = deliver(w, fresh())
        assert refs(take(c, late)) == [second]
        got = take(c, name)
        assert refs(got) == [first, second]
        finish(c, name, got)
        everything = []
        while events := take(c, beginning):
            everything += events
            finish(c, beginning, events)
        assert sorted(e[0] for e in everything) == [i for i, in pg.query("select id from foloosi.events order by id")]


def test_only_a_merchants_or_some_types(pg):
    pg.query("select foloosi.set_merchant('other')")
    pg.query("select foloosi.add_consumer('other', merchant => 'other')")
    pg.query("select foloosi.add_consumer('paid', types => array['order.success'])")
    with consumer(pg) as c, pg.connect() as w:
        deliver(w, fresh())
        paid = deliver(w, fresh(), "success")
        other = deliver(w, fresh(), merchant="other")
        assert refs(take(c, "other")) == [other]
        assert refs(take(c, "paid")) == [paid]


def test_an_order_is_handed_out_one_event_after_the_other(pg, name):
    with consumer(pg) as c, consumer(pg) as c2, pg.connect() as w:
        order = fresh()
        deliver(w, order)  # order.cancel
        deliver(w, order, "success")  # order.success
        deliver(w, order, "success")  # payback.due
        between = deliver(w, fresh())
        got = take(c, name)
        assert [(e[2], e[3]) for e in got] == [("order.cancel", order), ("order.cancel", between)]
        assert take(c2, name) == []  # the order's next waits while its first is claimed by another session
        finish(c, name, got)
        got = take(c2, name)
        assert [e[2] for e in got] == ["order.success"]
        finish(c2, name, got)
        assert [e[2] for e in take(c, name)] == ["payback.due"]


def test_several_sessions_share_a_consumer(pg, name):
    with consumer(pg) as a, consumer(pg) as b, pg.connect() as w:
        orders = [deliver(w, fresh()) for _ in range(6)]
        first, second = take(a, name, 3), take(b, name, 10)
        assert refs(first) + refs(second) == orders
        assert len(first) == 3


def test_a_session_that_holds_its_transaction_open_stops_nobody(pg, name):
    with consumer(pg) as a, consumer(pg) as b, pg.connect() as w:
        orders = [deliver(w, fresh()) for _ in range(4)]
        finish(a, name, take(a, name, 1))  # all four are dispatches now
        b.execute("set lock_timeout = '1s'")
        with a.transaction(force_rollback=True):
            assert refs(take(a, name, 1)) == orders[1:2]
            assert refs(take(b, name, 10)) == orders[2:]  # not waited for
        assert refs(take(b, name, 10)) == orders[1:2]  # rolled back: it was not handed out


def test_a_crashed_session_loses_nothing(pg, name):
    with pg.connect() as w, consumer(pg) as c:
        orders = [deliver(w, fresh()) for _ in range(2)]
        crashing = consumer(pg)
        got = take(crashing, name, 100, "1 second")
        assert refs(got) == orders
        pg.query("select pg_terminate_backend(%s)", [crashing.info.backend_pid])
        assert take(c, name) == []  # until the lease is over
        pg.query("update foloosi.dispatches set due_at = now() where event_id = any (%s)", [[e[0] for e in got]])
        again = take(c, name)
        assert refs(again) == orders and {e[1] for e in again} == {2}
        assert finish(c, name, again) == 2


def test_the_lease_runs_out_by_itself(pg, name):
    with pg.connect() as w, consumer(pg) as c:
        order = deliver(w, fresh())
        assert refs(take(c, name, 1, "1 second")) == [order]
        stack.wait_for("the lease", lambda: take(c, name) != [], 10)


def test_a_lower_id_that_commits_later_is_not_skipped(pg, name):
    with consumer(pg) as c, pg.connect() as slow, pg.connect() as quick:
        with slow.transaction():
            early = deliver(slow, fresh())
            late = deliver(quick, fresh())
            got = take(c, name)
            assert refs(got) == [late]
            finish(c, name, got)
            for _ in range(3):
                assert take(c, name) == []
            assert gaps(pg, name) == [(got[0][0] - 1,) * 2]
        assert refs(take(c, name)) == [early]
        assert gaps(pg, name) == []


def test_some_of_a_gap_comes_and_the_rest_later(pg, name):
    with consumer(pg) as c, pg.connect() as a, pg.connect() as b, pg.connect() as w:
        with a.transaction():
            orders = [deliver(a, fresh())]
            with b.transaction():
                deliver(b, orders[0] + "b")
                orders.append(deliver(a, fresh()))
                deliver(w, fresh())
                assert len(take(c, name)) == 1
                (first, last), = gaps(pg, name)
                assert last - first == 2
            assert refs(take(c, name)) == [orders[0] + "b"]
            assert gaps(pg, name) == [(first, first), (last, last)]
        assert refs(take(c, name)) == orders
        assert gaps(pg, name) == []


def test_ids_that_were_rolled_back_block_nobody_and_are_forgotten(pg, name):
    with consumer(pg) as c, pg.connect() as w:
        with w.transaction(force_rollback=True):
            deliver(w, fresh())
            deliver(w, fresh())
        order = deliver(w, fresh())
        assert refs(take(c, name)) == [order]
        assert len(gaps(pg, name)) == 1
        assert take(c, name) == []
        assert gaps(pg, name) == []


def test_a_gap_is_kept_while_anybody_runs_who_may_fill_it(pg, name):
    """An idle transaction with a number that is older than the gap: what it drew is not known."""
    with consumer(pg) as c, pg.connect() as idle, pg.connect() as w:
        with idle.transaction():
            idle.execute("select pg_current_xact_id()")
            with w.transaction(force_rollback=True):
                deliver(w, fresh())
            deliver(w, fresh())
            assert len(take(c, name)) == 1
            take(c, name)
            assert len(gaps(pg, name)) == 1
        take(c, name)
        assert gaps(pg, name) == []


def test_the_gap_s_bound_is_newer_than_the_consumer_s_own_transaction(pg, name):
    """The consumer had its number before the gap's ids were drawn: its own is no bound."""
    with consumer(pg) as c, pg.connect() as slow, pg.connect() as quick:
        with c.transaction():
            c.execute("select pg_current_xact_id()")
            quick.execute("select pg_current_xact_id()")
            slow.execute("begin")
            early = deliver(slow, fresh())
            late = deliver(quick, fresh())
            assert refs(take(c, name)) == [late]
        take(c, name)
        assert len(gaps(pg, name)) == 1
        slow.execute("commit")
        assert refs(take(c, name)) == [early]


@pytest.mark.parametrize("gaps_of_order", [1, 2])
def test_what_commits_while_gaps_are_looked_into_does_not_overtake(pg, name, gaps_of_order):
    """Between the look at an order's gap and the end of the look, its event commits, and so does the order's next:
    a new one, or one that was a gap, too."""
    with consumer(pg) as c, pg.connect() as one, pg.connect() as two, pg.connect() as w:
        one.execute("begin")
        order = deliver(one, fresh())  # a gap …
        deliver(w, fresh())
        two.execute("begin")
        other = deliver(two, fresh())  # … and another, which is filled
        deliver(w, fresh())
        if gaps_of_order == 2:
            deliver(one, order, "success")
            deliver(w, fresh())
        finish(c, name, take(c, name))
        assert len(gaps(pg, name)) == 1 + gaps_of_order
        two.execute("commit")

        w.execute("alter function foloosi.offer rename to offer_at_once")
        w.execute("""create function foloosi.offer(c foloosi.consumers, ids bigint[]) returns int language plpgsql as $$
            begin perform pg_advisory_xact_lock(1), pg_sleep(0.1); return foloosi.offer_at_once(c, ids); end $$""")
        try:
            w.execute("select pg_advisory_lock(1)")
            got = []
            looking = threading.Thread(target=lambda: got.extend(take(c, name)))
            looking.start()
            stack.wait_for("the look", lambda: pg.query("select 1 from pg_locks where locktype = 'advisory' and not granted and objid = 1"))
            one.execute("commit")
            if gaps_of_order == 1:
                deliver(w, order, "success")
            w.execute("select pg_advisory_unlock(1)")
            looking.join()
        finally:
            w.execute("drop function foloosi.offer")
            w.execute("alter function foloosi.offer_at_once rename to offer")
        finish(c, name, got)
        while events := take(c, name):
            got += events
            finish(c, name, events)
        assert sorted(refs(got)) == sorted([order, order, other])
        assert [e[2] for e in got if e[3] == order] == ["order.cancel", "order.success"]


def test_an_event_that_was_put_off_holds_back_its_order_only(pg, name):
    with consumer(pg) as c, pg.connect() as w:
        order = fresh()
        deliver(w, order)
        deliver(w, order, "success")
        got = take(c, name)
        assert c.execute("select foloosi.retry_events(%s, %s, '1 hour', 'not now')", [name, [got[0][0]]]).fetchone() == (1,)
        other = deliver(w, fresh())
        deliver(w, order, "success")
        assert refs(take(c, name)) == [other]
        c.execute("select foloosi.retry_events(%s, %s)", [name, [got[0][0]]])
        assert [(e[1], e[3]) for e in take(c, name)] == [(2, order)]


def test_unknown_consumers_and_wrong_numbers_are_refused(pg, name):
    import psycopg

    with consumer(pg) as c:
        with pytest.raises(psycopg.errors.NoDataFound):
            take(c, "nobody")
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            take(c, name, 0)
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            c.execute("select foloosi.next_events(%s, 1, '0')", [name])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            c.execute("select foloosi.add_consumer('mine')")


def test_a_quiet_poll_writes_nothing(pg, name):
    with consumer(pg) as c:
        take(c, name)
        before = pg.query("select pg_current_wal_insert_lsn()")
        for _ in range(20):
            take(c, name)
        assert c.execute("select pg_current_xact_id_if_assigned()").fetchone() == (None,)
        written = pg.query("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", before[0])
        assert written[0][0] < 2000  # others may write: a snapshot of running transactions, for one


@pytest.mark.parametrize("seed", range(3))
def test_writers_and_crashing_consumers_at_random(pg, seed):
    """Four writers commit late, early or never; two consumers of three sessions each finish, roll back or crash."""
    stop, failures = threading.Event(), []
    consumers = [f"random-{seed}-{n}" for n in range(2)]
    for n in consumers:
        pg.query("select foloosi.add_consumer(%s)", [n])
    seen = {n: {} for n in consumers}  # order: [ids in the order of finishing]
    handed = {n: set() for n in consumers}
    lock = threading.Lock()
    start = pg.query("select coalesce(max(id), 0) from foloosi.events")[0][0]

    def guarded(function):
        def run(*arguments):
            try:
                function(*arguments)
            except Exception as e:  # noqa: BLE001 - a thread's failure is the test's
                failures.append(repr(e))
        return run

    @guarded
    def write(number):
        r = random.Random(f"{seed} w {number}")
        with pg.connect() as w:
            for _ in range(40):
                with w.transaction(force_rollback=r.random() < 0.2):
                    for _ in range(r.randint(1, 3)):
                        deliver(w, f"R{seed}-{number}-{r.randint(1, 5)}", r.choice(["failed", "success"]))
                    time.sleep(r.random() * 0.02)

    @guarded
    def consume(who, number):
        r = random.Random(f"{seed} c {who} {number}")
        c = consumer(pg)
        while not stop.is_set():
            within = r.random() < 0.3
            if within:
                c.execute("begin")
            got = take(c, who, r.randint(1, 8), "1 second")
            with lock:
                handed[who].update(e[0] for e in got)
            dice = r.random()
            if dice < 0.1:  # a crash
                pg.query("select pg_terminate_backend(%s)", [c.info.backend_pid])
                c.close()
                c = consumer(pg)
                continue
            if dice < 0.2 and within:
                c.execute("rollback")
                continue
            time.sleep(r.random() * 0.005)
            with lock:  # the work; noted before it is finished, as the next of its order may be handed out then
                for e in got:
                    seen[who].setdefault(e[3], []).append(e[0])
            c.execute("select foloosi.finish_events(%s, %s)", [who, [e[0] for e in got]])
            if within:
                c.execute("commit")
        c.close()

    writers = [threading.Thread(target=write, args=[n]) for n in range(4)]
    readers = [threading.Thread(target=consume, args=[w, n]) for w in consumers for n in range(3)]
    for t in writers + readers:
        t.start()
    for t in writers:
        t.join()
    expected = {i for i, in pg.query("select id from foloosi.events where id > %s", [start])}
    assert len(expected) > 50

    def all_done():
        left = pg.query("select count(*) from foloosi.dispatches d join foloosi.consumers c on c.id = d.consumer_id where c.consumer = any (%s)", [consumers])
        return left[0][0] == 0 and all({i for ids in seen[w].values() for i in ids} == expected for w in consumers)

    try:
        stack.wait_for("every event", all_done, 60, lambda: not failures)
    finally:
        stop.set()
        for t in readers:
            t.join()
    assert failures == []
    for who in consumers:
        assert handed[who] == expected
        for order, ids in seen[who].items():
            firsts = list(dict.fromkeys(ids))  # an event may come again, but the first times are in order
            assert firsts == sorted(firsts), (who, order)
        with consumer(pg) as c:  # what was rolled back last may not have been looked into once more
            stack.wait_for("the gaps' end", lambda: take(c, who) == [] and gaps(pg, who) == [])


def test_the_manual_s_psql_example(pg):
    with pg.connect() as w:
        pg.query("select foloosi.add_consumer('erp')")
        order = deliver(w, fresh(), "success")
    done = subprocess.run(["psql", "-X", "-v", "ON_ERROR_STOP=1", pg.conninfo("foloosi_consumer")], input=stack.manual_example("pull.sql"),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert order in done.stdout and "order.success" in done.stdout
    with consumer(pg) as c:
        assert take(c, "erp") == []
    assert pg.query("select count(*) from foloosi.dispatches d join foloosi.consumers c on c.id = d.consumer_id where consumer = 'erp'") == [(0,)]


def test_the_manual_s_php_example(pg, tmp_path):
    pg.query("select foloosi.add_consumer('erp-php')")
    with pg.connect() as w:
        orders = [deliver(w, fresh(), "success"), deliver(w, fresh())]
    code = stack.manual_example("pull.php").replace("'erp'", "'erp-php'").replace("host=/run/postgresql dbname=foloosi user=foloosi_consumer", pg.conninfo("foloosi_consumer"))
    (tmp_path / "pull.php").write_text(code)
    done = subprocess.run([stack.program("php"), tmp_path / "pull.php"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line] == [f"order.success {orders[0]}", f"order.cancel {orders[1]}"]
    with consumer(pg) as c:
        assert take(c, "erp-php") == []
