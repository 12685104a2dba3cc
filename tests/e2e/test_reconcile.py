# SPDX-License-Identifier: MIT
"""foloosi-worker reconcile: the books of a stand-in for the provider (tests/support/provider.py) against ours."""
import datetime
import itertools
import json
import os
import pty
import signal
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

from support import stack
from support.provider import KEY, Provider, send
from support.worker_site import WorkerSite, until

numbers = itertools.count(1)
FROM, TO = "2026-11-20", "2026-11-21"
V2 = {"provider_path": "/v2/api/transaction-detail/{transaction_no}", "provider_amount": "data.request_amount",
      "provider_currency": "data.request_currency", "provider_order": "",
      "provider_list_path": '/v2/api/transaction-list?q={"fromDate":"{from}","toDate":"{to}","page":"{page}","limit":"{limit}"}',
      "provider_list_amount": "request_amount", "provider_list_currency": "request_currency"}


@pytest.fixture(scope="module")
def site():
    site = WorkerSite()
    try:
        yield site
    finally:
        site.close()


class Books:
    """A merchant, what the provider knows of it, and the command. said: the report's line as a dictionary."""

    def __init__(self, site, provider=None, worker=None, policy=None, **settings):
        self.site, self.provider = site, provider or Provider()
        self.name = site.merchant(**(policy or {}))
        home = site.home / f"reconcile-{next(numbers)}"
        home.mkdir()
        stack.give(home, "www-data", mode=0o700)
        self.program = stack.install("foloosi-worker", site.home / "bin")
        self.log = site.logs / f"worker-{home.name}.log"
        merchants = {self.name: {"token": stack.token(), "provider_url": self.provider.url, "provider_secret": KEY,
                                 "provider_per_minute": 6000, **settings}}
        self.config = stack.Config(home / "w.conf", "", None, merchants,
                                   worker={"database": site.pg.conninfo("foloosi_worker"), "reconcile_patience": "20s", **(worker or {})}).write()

    def know(self, count=1, arrived=True, created=FROM, **known):
        """Transactions of the provider's; arrived: by a webhook, too."""
        made = [self.provider.new(**{"order": f"R-{next(numbers)}", "created": created, **known}) for _ in range(count)]
        if arrived:
            k = [{"status": "success", "amount": 100, "currency": "AED", **self.provider.transactions[number]} for number in made]
            self.site.pg.query(
                "select count(r) from unnest(%s::text[], %s::text[], %s::text[], %s::numeric[], %s::text[]) as x (status, ref, no, amount, currency),"
                " foloosi.record_delivery(%s, x.status, x.ref, x.no, amount => x.amount, currency => x.currency) r",
                [[x["status"] for x in k], [x["order"] for x in k], made, [x["amount"] for x in k], [x["currency"] for x in k], self.name])
        return made if count > 1 else made[0]

    def start(self, *arguments, **more):
        env = {"PATH": stack.ENV_PATH, **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}
        with open(self.log, "ab") as log:
            return subprocess.Popen([self.program, "--config", self.config.path, "reconcile", *(arguments or ["--from", FROM, "--to", TO])],
                                    **{"stdout": subprocess.PIPE, "stderr": log, "text": True, "cwd": "/", "env": env, **stack.identity("www-data"), **more})

    def run(self, *arguments):
        """Returns (exit status, matched, missing, differed, other, unclear)."""
        process = self.start(*arguments)
        self.out = process.communicate(timeout=60)[0]
        return process.returncode, *self.counts(self.out)

    @staticmethod
    def counts(out):
        line = out.splitlines()[0]
        if ": no result" in line:
            return ()
        return tuple(int(word.split()[0]) for word in line.split(" transactions: ")[1].split(";")[0].split(", "))

    def query(self, sql, *more):
        return self.site.pg.query(sql, [self.name, *more])

    def orders(self):
        return dict(self.query("select order_ref, state::text from foloosi.orders where merchant = %s"))

    def events(self):
        return self.query("select order_ref, type::text from foloosi.events where merchant = %s order by id")

    def fed(self):
        return self.query("select count(*) from foloosi.deliveries where merchant = %s and source = 'reconcile'")[0][0]

    def reasons(self):
        """Of the last run: number, verdict, reason."""
        return self.query("select transaction_no, verdict::text, r.reason from foloosi.reconciled r where verdict <> 'matched' and reconciliation_id ="
                          " (select max(id) from foloosi.reconciliations where merchant = %s) order by 1")

    def snapshot(self):
        """All that reconciling again must not change."""
        return [self.query(f"select * from foloosi.{table} where merchant = %s order by id") for table in ("orders", "transactions", "events", "paybacks", "deliveries")]


@pytest.fixture
def books(site):
    books = Books(site)
    yield books
    books.provider.close()
    text = books.log.read_text() if books.log.exists() else ""
    assert KEY not in text and "R-" not in text


def order(books, number):
    return books.provider.transactions[number]["order"]


# -- what it finds -------------------------------------------------------------------------------


def test_everything_arrived(books):
    books.know(3)
    books.know(2, status="failed", created=TO)
    before = books.snapshot()
    assert books.run() == (0, 5, 0, 0, 0, 0)
    assert books.snapshot() == before
    assert books.provider.asked("detail") == []  # the list is enough
    assert all(r.headers["secret_key"] == KEY for r in books.provider.requests)


def test_lost_webhooks(books):
    books.know(2)
    lost, failed = books.know(arrived=False, amount="12.50"), books.know(arrived=False, status="failed", created=TO)
    assert books.run() == (0, 2, 2, 0, 0, 0)
    assert (books.orders()[order(books, lost)], books.orders()[order(books, failed)]) == ("paid", "cancelled")
    assert sorted(books.events()[2:]) == sorted([(order(books, lost), "order.success"), (order(books, failed), "order.cancel")])
    assert "where reconciliation_id = " in books.out
    assert {(n, v) for n, v, _ in books.reasons()} == {(lost, "missing"), (failed, "missing")}
    before = books.snapshot()
    assert books.run() == (0, 4, 0, 0, 0, 0)
    assert books.snapshot() == before
    # the webhook that comes after all says nothing new
    (outcome,), = books.query("select outcome from foloosi.record_delivery(%s, 'success', %s, %s, amount => 12.5, currency => 'AED')", order(books, lost), lost)
    assert outcome == "duplicate" and len(books.events()) == 4


def test_a_registered_order_is_compared(books):
    books.query("select foloosi.register_order(%s, 'REG-1', 50, 'AED')")
    books.know(arrived=False, order="REG-1", amount=49)
    assert books.run() == (0, 0, 1, 0, 0, 0)
    assert books.orders() == {"REG-1": "review"}


def test_what_differs(books):
    """Rules 6, 7, 15 decide; the second time it is still a difference, and nothing moves any more."""
    amount, currency, status, late = books.know(4)
    books.provider.transactions[amount]["amount"] = 99
    books.provider.transactions[currency]["currency"] = "USD"
    books.provider.transactions[status]["status"] = "failed"
    late = books.know(status="failed")
    books.provider.transactions[late]["status"] = "success"
    assert books.run() == (0, 1, 0, 4, 0, 0)
    assert books.reasons() == sorted([(amount, "differed", "amount_contradiction"), (currency, "differed", "amount_contradiction"),
                                                   (status, "differed", "status_contradiction"), (late, "differed", "late")])
    assert books.orders()[order(books, late)] == "paid"
    assert sorted(e for _, e in books.events()[5:]) == ["order.success", "payback.check"]
    paid = books.orders()
    events = books.events()
    assert books.run() == (0, 2, 0, 3, 0, 0)
    assert (books.orders(), books.events()) == (paid, events)


def test_lies(books):
    """What only the list, or only the answer to the question, believes in is not fed."""
    up, down = books.know(arrived=False, status="failed", said={"status": "success"}), books.know(arrived=False, said={"status": "failed"})
    known = books.know(said={"amount": 1})
    assert books.run() == (3, 1, 0, 0, 0, 2)  # the amount of the list alone proves nothing either
    assert {(n, v) for n, v, _ in books.reasons()} == {(up, "unclear"), (down, "unclear")}
    assert all("contradict" in r for _, _, r in books.reasons())
    assert set(books.orders()) == {order(books, known)}


def test_other_statuses_and_test_numbers(books):
    books.know(arrived=False, status="pending")
    books.know(arrived=False, status="Expired")
    test = "TEST" + str(next(numbers))
    books.provider.new(test, order="R-test", created=FROM)
    assert books.run() == (0, 0, 1, 0, 2, 0)
    assert books.orders() == {} and books.events() == []
    (kind, reason), = [(k, r) for k, _, r, _, _ in books.site.attention(books.name)]
    assert (kind, reason) == ("delivery", "test_transaction")
    assert books.run() == (0, 1, 0, 0, 2, 0)


def test_a_success_without_an_order_key(books):
    books.know(arrived=False, order=None)
    assert books.run() == (0, 0, 1, 0, 0, 0)
    assert books.events() == [(None, "order.review")]


def test_v2_and_an_order_key_that_is_the_number(site):
    books = Books(site, order_key="transaction_no", **V2)
    number = books.know(arrived=False)
    assert books.run() == (0, 0, 1, 0, 0, 0)
    assert books.orders() == {number: "paid"}
    assert [r.path[:4] for r in books.provider.requests] == ["/v2/"] * len(books.provider.requests)
    books.provider.close()


def test_the_order_s_prefix(site):
    books = Books(site, order_prefix="SHOP-")
    books.know(arrived=False, order="SHOP-7")
    assert books.run() == (0, 0, 1, 0, 0, 0)
    assert books.orders() == {"7": "paid"}
    books.provider.close()


def refunded(books, number):
    return books.query("select refunded, money_left from foloosi.transactions where merchant = %s and transaction_no = %s", number)


def test_refunds_whose_webhooks_were_lost(site):
    """Where the answer says how much it was."""
    books = Books(site, provider_refunded="data.refunded_amount")
    whole, part = books.know(2)
    books.provider.refund(whole)
    books.provider.refund(part, 30)
    assert books.run() == (0, 0, 0, 0, 2, 0)
    assert (refunded(books, whole), refunded(books, part)) == ([(100, 0)], [(30, 70)])
    assert books.orders() == {order(books, whole): "refunded", order(books, part): "paid"}
    assert sorted(books.events()[2:]) == sorted([(order(books, whole), "order.refund"), (order(books, part), "order.refund")])
    events = books.events()
    assert books.run() == (0, 1, 0, 0, 1, 0) and books.events() == events  # the rest may still go back
    books.provider.refund(part, 70)
    assert books.run()[0] == 0 and set(books.orders().values()) == {"refunded"} and len(books.events()) == len(events) + 1
    books.provider.close()


def test_a_refund_without_an_amount_is_a_doubt(books):
    number = books.know()
    books.provider.refund(number)
    assert books.run() == (0, 0, 0, 0, 1, 0)
    assert refunded(books, number) == [(None, 100)] and books.orders() == {order(books, number): "paid"} and len(books.events()) == 1
    assert [row[:3] for row in books.site.attention(books.name)] == [("refund", order(books, number), "refund_doubted")]
    assert books.run() == (0, 0, 0, 0, 1, 0)
    assert len(books.site.attention(books.name)) == 1 and books.fed() == 1
    books.query("select foloosi.record_refund(t.id, 100, 'all of it, says the panel') from foloosi.transactions t where t.merchant = %s")
    assert books.site.attention(books.name) == [] and books.orders() == {order(books, number): "refunded"}
    assert books.run() == (0, 1, 0, 0, 0, 0)


def test_a_refund_of_what_never_arrived(books):
    """No order is made of it; the success that comes later finds the doubt."""
    number = books.know(arrived=False)
    books.provider.refund(number)
    assert books.run() == (0, 0, 0, 0, 1, 0)
    assert books.orders() == {} and books.events() == []
    books.query("select * from foloosi.record_delivery(%s, 'success', %s, %s, amount => 100, currency => 'AED')", order(books, number), number)
    assert books.orders() == {order(books, number): "review"} and books.events() == [(order(books, number), "order.review")]


def test_keys_without_the_prefix(site):
    """They name no order, but for subscriptions."""
    books = Books(site, order_prefix="SHOP-")
    books.know(arrived=False, order="77")
    books.know(arrived=False, order="FLSSUB_7")
    assert books.run() == (0, 0, 2, 0, 0, 0)
    assert books.orders() == {"FLSSUB_7": "paid"} and sorted(books.events(), key=str) == [("FLSSUB_7", "order.success"), (None, "order.review")]
    books.provider.close()


def test_with_verification_it_waits_for_the_worker(site):
    books = Books(site, policy={"verify": "callback"})
    number = books.know(arrived=False)
    assert books.run() == (0, 0, 1, 0, 0, 0)
    assert books.orders() == {order(books, number): "verifying"} and books.events() == []
    worker = site.worker({books.name: {"provider_url": books.provider.url, "provider_secret": KEY}})
    until("the order", lambda: books.orders() == {order(books, number): "paid"})
    assert worker.stop() == 0 and books.events() == [(order(books, number), "order.success")]
    assert books.run() == (0, 1, 0, 0, 0, 0)
    books.provider.close()


# -- the walk ------------------------------------------------------------------------------------


def queries(books):
    return [json.loads(urllib.parse.parse_qs(urllib.parse.urlsplit(r.path).query)["q"][0]) for r in books.provider.asked("list")]


@pytest.mark.parametrize("shape", [{"most": 100}, {"most": 30}, {"midnight": True}])
def test_more_than_a_page(books, shape):
    """Full pages, short ones that are not the last, and dates that end with a day's beginning."""
    for name, value in shape.items():
        setattr(books.provider, name, value)
    books.know(105)
    lost = [books.know(arrived=False), *books.know(2, arrived=False, created=TO)]
    books.know(100, created=TO)
    assert books.run() == (0, 205, 3, 0, 0, 0)
    assert all(books.orders()[order(books, n)] == "paid" for n in lost)
    assert {(q["fromDate"], q["toDate"], q["limit"]) for q in queries(books)} == {("11/20/2026", "11/21/2026", "100"), ("11/21/2026", "11/22/2026", "100")}


def test_pages_that_shift(books):
    """While page 2 is asked for, others are added at the top: rows come twice, and the new ones are found."""
    books.know(120)
    added = []

    def before(page):
        if page == 2 and len(added) < 2:
            added.append(books.know(arrived=False, created=FROM))

    books.provider.before = before
    assert books.run() == (0, 120, 2, 0, 0, 0)
    assert len(added) == 2 and books.fed() == 2


def test_a_list_that_does_not_page(books):
    books.know(100)
    books.provider.fault = lambda handler, request: (books.provider.list(handler, "v1", {**queries(books)[-1], "page": "1"})
                                                     if "list" in request.path else NotImplemented)
    assert books.run() == (4, 100, 0, 0, 0, 0)
    assert "page after page" in books.out
    del books.provider.transactions[next(iter(books.provider.transactions))]  # a page that is not full may come again as the last
    assert books.run() == (0, 100, 0, 0, 0, 0)


def test_the_last_days_by_default(books):
    today = datetime.date.today()
    books.know(arrived=False, created=today.isoformat())
    books.know(arrived=False, created=(today - datetime.timedelta(days=3)).isoformat())
    books.know(arrived=False, created=(today - datetime.timedelta(days=9)).isoformat())
    assert books.run("--merchant", books.name) == (0, 0, 2, 0, 0, 0)
    assert books.run("--from", (today - datetime.timedelta(days=9)).isoformat()) == (0, 2, 1, 0, 0, 0)


# -- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [500, 429, (503, {"Retry-After": "1"}), lambda h, _: send(h, "<html>busy</html>"), lambda h, _: send(h, ""),
                                   lambda h, _: send(h, '{"data":{"message":"later"}}'), lambda h, _: setattr(h, "close_connection", True)],
                         ids=["500", "429", "retry after", "HTML", "empty", "JSON of another shape", "broken"])
def test_answers_that_say_nothing_are_asked_for_again(books, fault):
    lost, times = books.know(arrived=False), itertools.count()
    books.provider.fault = lambda handler, request: NotImplemented if next(times) not in (0, 2) else fault(handler, request) if callable(fault) else fault
    assert books.run() == (0, 0, 1, 0, 0, 0)
    assert books.orders() == {order(books, lost): "paid"}
    assert "reconcile_retry" in books.log.read_text()


@pytest.mark.parametrize("answer", [404, lambda h, _: send(h, '{"data":{"status":"success"}}')], ids=["404", "no amount"])
def test_an_answer_that_cannot_be_read_holds_back_no_other(books, answer):
    bad, good = books.know(2, arrived=False)
    books.provider.fault = lambda handler, request: NotImplemented if bad not in request.path else answer(handler, request) if callable(answer) else answer
    assert books.run() == (3, 0, 1, 0, 0, 1)
    assert [(n, v) for n, v, _ in books.reasons()] == sorted([(bad, "unclear"), (good, "missing")])
    assert books.orders() == {order(books, good): "paid"}
    books.provider.fault = None
    assert books.run() == (0, 1, 1, 0, 0, 0)  # next time, it is asked about again


def test_rows_that_cannot_be_read(books):
    good = books.know(arrived=False)
    rows = [{"status": "success"}, None, {"transaction_no": "N-x"}, {"transaction_no": good, "status": "success"}]
    books.provider.fault = lambda handler, request: (NotImplemented if "detail" in request.path else
                                                     send(handler, json.dumps({"data": {"transactions": rows if queries(books)[-1]["page"] == "1" else []}})))
    assert books.run("--from", FROM, "--to", FROM) == (3, 0, 1, 0, 0, 3)


def test_the_key_is_refused(site):
    books = Books(site)
    secret = books.config.path.parent / "shop.provider"
    secret.write_text("wrong\n")
    stack.give(secret, "www-data", mode=0o600)
    del books.config.merchants[books.name]["provider_secret"]
    books.config.merchants[books.name]["provider_secret_file"] = "shop.provider"
    books.config.write()
    books.know(arrived=False)
    assert books.run() == (4, 0, 0, 0, 0, 0)
    assert f"refuses the key (HTTP 401): look at {secret}" in books.out
    assert len(books.provider.requests) == 1 and "wrong" not in books.out
    books.provider.close()


def test_nobody_answers(site):
    books = Books(site, worker={"reconcile_patience": "1s"})
    books.know(arrived=False)
    books.provider.close()
    assert books.run() == (4, 0, 0, 0, 0, 0)
    assert "stopped at 2026-11-20, page 1: nobody listens there" in books.out


def test_the_database_is_away(site):
    books = Books(site, worker={"reconcile_patience": "500ms", "database": f"host={site.home} user=foloosi_worker"})
    assert books.run() == (4,)
    assert "the database does not answer" in books.out and "database_away" in books.log.read_text()
    books.provider.close()


def test_questions_are_rate_limited(site):
    books = Books(site, provider_per_minute=1)
    books.know(arrived=False)
    process = books.start()
    until("the first", lambda: books.provider.requests)
    time.sleep(1.5)  # the others wait for the minute to pass
    assert len(books.provider.requests) == 1 and process.poll() is None
    process.send_signal(signal.SIGINT)
    assert "it was told to stop" in process.communicate(timeout=20)[0] and process.returncode == 4
    books.provider.close()


def test_somebody_holds_the_order(books):
    number = books.know(arrived=False)
    ref = order(books, number)
    with books.site.pg.connect() as c, c.transaction():
        c.execute("select foloosi.lock_order(%s, %s)", [books.name, ref])
        process = books.start()
        until("the question", lambda: books.provider.asked("detail"))
        time.sleep(0.5)
        assert books.orders() == {} and process.poll() is None
    out = process.communicate(timeout=30)[0]
    assert (process.returncode, *books.counts(out)) == (0, 0, 1, 0, 0, 0) and books.orders() == {ref: "paid"}


# -- interrupted ---------------------------------------------------------------------------------


def test_killed_and_resumed(books):
    """kill -9 in the middle, twice; then all is there once, and counted once."""
    books.know(150)
    books.know(30, arrived=False, created=TO)
    books.know(30, arrived=False)
    for kills in range(2):
        asked = len(books.provider.asked("detail"))
        process = books.start()
        until("some questions", lambda: len(books.provider.asked("detail")) >= asked + 12)
        process.kill()
        process.communicate()
    assert 0 < len(books.orders()) < 210
    assert books.run() == (0, 150, 60, 0, 0, 0)
    assert len(books.orders()) == 210 and set(books.orders().values()) == {"paid"}
    assert sorted(books.events()) == sorted((o, "order.success") for o in books.orders())
    assert books.fed() == 60


def test_a_signal_stops_it_and_it_goes_on_there(books):
    books.know(120)
    books.know(5, arrived=False, created=TO)
    books.provider.before = lambda page: time.sleep(0.3)
    process = books.start()
    until("page 2", lambda: len(books.provider.asked("list")) >= 2)
    process.send_signal(signal.SIGTERM)
    out = process.communicate(timeout=20)[0]
    assert process.returncode == 4 and "it was told to stop; the same command goes on there" in out
    read = len(books.provider.asked("list"))
    assert books.run() == (0, 120, 5, 0, 0, 0)
    assert queries(books)[read]["page"] == "2"


def test_two_at_once(books):
    """The same days, and others that overlap: each transaction is fed once."""
    books.know(20)
    books.know(40, arrived=False)
    processes = [books.start(), books.start(), books.start("--from", FROM, "--to", FROM)]
    results = [(p.communicate(timeout=60)[0], p.returncode) for p in processes]
    assert [code for _, code in results] == [0, 0, 0]
    one, same, other = (books.counts(out) for out, _ in results)
    assert [sum(c) for c in (one, same, other)] == [60, 60, 60] and one == same
    assert one[1] + other[1] == 40 and one[2:] == other[2:] == (0, 0, 0)
    assert len(books.orders()) == 60 and sorted(books.events()) == sorted((o, "order.success") for o in books.orders())
    assert books.fed() == 40


# -- after a restore -----------------------------------------------------------------------------


def test_after_a_restore_to_a_point_in_time(books):
    """A copy of the database as it was stands for the restored one: what came later is refilled, and its events come."""
    pg = books.site.pg
    books.query("select foloosi.add_consumer('erp:' || %s, %s)", books.name)
    books.know(3)
    pg.create_database("yesterday")
    subprocess.run([f"{stack.pg_program('pg_dump')} -h {pg.socket_dir} -U postgres {stack.DATABASE} | {stack.pg_program('psql')} -q -h {pg.socket_dir} -U postgres yesterday"],
                   shell=True, check=True, stdout=subprocess.DEVNULL)
    later = books.know(4, created=TO)
    cancelled = books.know(status="failed", created=TO)
    books.site.pg.query("select foloosi.finish_events('erp:' || %s, array(select id from foloosi.next_events('erp:' || %s, 100)))", [books.name] * 2)
    newest, = books.query("select max(id) from foloosi.events where merchant = %s")[0]

    books.config.worker["database"] = pg.conninfo("foloosi_worker", "yesterday")
    books.config.write()
    with pg.connect(dbname="yesterday") as c:
        # numbers of events that consumers have seen are not given out again
        c.execute("select * from foloosi.after_restore()")
        assert books.run() == (0, 3, 5, 0, 0, 0)
        states = dict(c.execute("select order_ref, state::text from foloosi.orders where merchant = %s", [books.name]).fetchall())
        assert states == books.orders()
        got = c.execute("select id, order_ref, type from foloosi.next_events(%s, 100)", [f"erp:{books.name}"]).fetchall()
    # the copy's position is of yesterday, too: what was not finished then, and all that is refilled
    assert {(o, t) for _, o, t in got} >= {*((order(books, n), "order.success") for n in later), (order(books, cancelled), "order.cancel")}
    assert all(i > newest for i, o, _ in got if o in {order(books, n) for n in [*later, cancelled]})


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, said", [
    (["--to", "2026-11-20"], "--to needs --from"), (["--from", "2026-11-31", "--to", "2026-12-01"], "YYYY-MM-DD"),
    (["--from", "20.11.2026", "--to", "2026-12-01"], "YYYY-MM-DD"), (["--from", "2026-11-21", "--to", "2026-11-20"], "--from is after --to"),
    (["everything"], "usage: ")])
def test_a_wrong_command_line(books, arguments, said):
    process = books.start(*arguments, stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2 and said in err and books.provider.requests == []


def test_nobody_to_reconcile(books):
    assert books.start("--from", "2999-01-01").wait(20) == 1
    assert "--from is after today" in books.log.read_text()
    assert books.start("--merchant", "nobody").wait(20) == 1
    assert "the configuration has no merchant nobody" in books.log.read_text()
    del books.config.merchants[books.name]["provider_url"]
    books.config.write()
    assert books.start().wait(20) == 1
    assert "no merchant to reconcile has a provider_url" in books.log.read_text()


def test_a_progress_line_on_a_terminal(books):
    books.know(3)
    ours, theirs = pty.openpty()
    process = books.start(stderr=theirs)
    os.close(theirs)
    assert process.communicate(timeout=30)[0].startswith(f"{books.name}: {FROM} to {TO}: 3 transactions: 3 matched")
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert f"{books.name}: 2026-11-20, page 1: 3 transactions, 0 of them fed" in shown
    assert "page" not in (books.log.read_text() if books.log.exists() else "")


def test_the_stand_in_runs_on_its_own():
    process = subprocess.Popen(["/usr/bin/python3", stack.ROOT / "tests" / "support" / "provider.py", "--key", "k"], stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(url + "/pay", json.dumps({"order": "A-1", "amount": 5, "lost": True}).encode(), timeout=10) as answer:
            number = json.load(answer)["transaction_no"]
        request = urllib.request.Request(f"{url}/v1/api/transaction-detail/{number}", headers={"secret_key": "k"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["data"]["send_amount"] == 5
    finally:
        process.kill()
        process.communicate()
