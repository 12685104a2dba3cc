# SPDX-License-Identifier: MIT
"""foloosictl retain and erase, beside deliveries through the handler, as the roles that may."""

import json
import subprocess
import threading
import time

import pytest

from support import stack
from support.site import Request, Site, encode, new_order, scratch, transfer

OLD = """
do $$
begin
    for k in 1 .. {months} loop
        execute format('create table foloosi.bodies_2020_%s partition of foloosi.bodies for values from (%L) to (%L)',
            lpad(k::text, 2, '0'), make_date(2020, k, 1)::text || ' 00:00+00', (make_date(2020, k, 1) + interval '1 month')::date::text || ' 00:00+00');
        execute format('alter table foloosi.bodies_2020_%s owner to foloosi_owner', lpad(k::text, 2, '0'));
    end loop;
end $$;
"""


@pytest.fixture  # a site for each test: they look at whole tables
def site():
    """Servers of our own: no spool, so that what is not recorded shows."""
    site = Site(scratch())
    try:
        yield site.start()
    finally:
        site.close()


def ctl(site, command, *arguments, role, text=None):
    return subprocess.run([stack.built("foloosictl"), command, "--database", site.postgres.conninfo(role), *arguments],
                          input=text, capture_output=True, text=True, timeout=120)


def retain(site, *arguments):
    return ctl(site, "retain", *arguments, role="foloosi_retention")


def erase(site, *arguments, text=None):
    return ctl(site, "erase", *arguments, role="foloosi_operator", text=text)


def done(run):
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def post(site, body):
    return site.fronts["bare"].send(Request(site.path(), body=body))


def backdate(site, months=0):
    """All that is there arrived in January 2020; months of that year have a partition."""
    with site.postgres.connect() as c:
        c.execute(OLD.format(months=months))
        for table in ("transactions", "deliveries", "bodies"):
            c.execute(f"update foloosi.{table} set created_at = '2020-01-15' where created_at > '2020-12-31'")


def test_what_is_gone_is_still_known(site):
    body, rejected = encode(transfer()), b'{"data": {"transfer": 1}}'
    assert post(site, body).outcome == "recorded"
    assert post(site, rejected).status == 422
    backdate(site, months=1)
    would = done(retain(site, "--dry-run"))
    assert would.splitlines()[0].split()[:5] == ["would", "be:", "bytes", "dropped", "bodies_2020_01"]
    assert site.kept(body) == ("recorded", 0, body)

    said = json.loads(done(retain(site, "--json")))
    assert [(s["what"], s["subject"]) for s in said] == [("bytes dropped", "bodies_2020_01"), ("personal fields masked", "transactions")]
    assert said[0]["amount"] > 0 and said[0]["unit"] == "bytes" and said[1]["amount"] == 1
    assert site.query("select count(*) from foloosi.bodies") == [(0,)]
    assert site.query("select customer_email, customer_mobile, card_last_four, optional2, optional1 = order_ref from foloosi.transactions") \
        == [(None, None, None, None, True)]

    assert post(site, body).outcome == "duplicate"
    assert post(site, rejected).status == 422
    assert site.query("select outcome, repeats from foloosi.deliveries order by id") == [("recorded", 1), ("rejected", 1)]
    assert site.query("select count(*) from foloosi.bodies") == [(0,)]
    assert done(retain(site)) == "Nothing is old enough.\n"
    assert done(retain(site, "--json")) == "[]\n"


def test_zero_days(site):
    """Everything at once: fields go now, bytes when their month is over."""
    body = encode(transfer())
    assert post(site, body).outcome == "recorded"
    assert "personal fields masked" in done(retain(site, "--bodies-days", "0", "--personal-days", "0"))
    assert site.query("select count(*) from foloosi.transactions where masked_at is null or customer_email is not null") == [(0,)]
    assert post(site, body).outcome == "duplicate"
    assert site.kept(body) == ("recorded", 1, body)


@pytest.mark.parametrize("arguments", [["--bodies-days", "-1"], ["--personal-days", "ten"], ["--bodies-days", "99999"], ["--wait", ""], ["now"], ["--all"]])
def test_a_command_line_that_makes_no_sense(site, arguments):
    run = retain(site, *arguments)
    assert run.returncode == 2 and "usage: foloosictl retain" in run.stderr


def test_who_may(site):
    run = ctl(site, "retain", role="foloosi_operator")
    assert run.returncode == 1 and "permission denied for function retain_months" in run.stderr
    assert "retain is for the role foloosi_retention" in run.stderr
    run = ctl(site, "erase", "--customer", "ann@example.com", role="foloosi_retention")
    assert run.returncode == 1 and "permission denied for function erase_customer" in run.stderr


def test_beside_deliveries(site):
    """Months are dropped and fields masked while payments come, and while another session holds one of the months."""
    for _ in range(40):
        assert post(site, encode(transfer())).outcome == "recorded"
    backdate(site, months=12)
    with site.postgres.connect() as c:
        c.execute("insert into foloosi.transactions (merchant, transaction_no, state, transaction_status, customer_email, created_at)"
                  " select 'shop', 'OLD-' || n, 'failed', 'failed', 'x@example.com', '2020-01-15' from generate_series(1, 5000) n")
    answers, stop = [], threading.Event()

    def deliver():
        while not stop.is_set():
            answer = post(site, encode(transfer()))
            answers.append((answer.status, answer.json.get("outcome"), answer.seconds))

    clients = [threading.Thread(target=deliver) for _ in range(4)]
    for c in clients:
        c.start()
    try:
        with site.postgres.connect() as holder:
            holder.execute("begin")
            holder.execute("select count(*) from foloosi.bodies_2020_06")
            run = retain(site, "--wait", "2")
            assert run.returncode == 1
            assert run.stderr == "foloosictl: bodies_2020_06: another session holds a lock on it: left for the next run\n"
            assert "bodies_2020_05" in run.stdout and "bodies_2020_07" not in run.stdout
            assert [line.split()[-2:] for line in run.stdout.splitlines() if "masked" in line] == [["5040", "rows"]]
        assert "bodies_2020_12" in done(retain(site))
        time.sleep(0.5)
    finally:
        stop.set()
        for c in clients:
            c.join()
    print(f"{len(answers)} deliveries, the slowest {max(s for _, _, s in answers):.3f} s")
    assert {(status, outcome) for status, outcome, _ in answers} == {(200, "recorded")}
    assert site.query("select count(*) from pg_class where relname like 'bodies_2020%'") == [(0,)]


def test_erase(site):
    ann = {"customer_email": "Ann.Other@Example.com", "customer_mobile": "+971 50 7654321"}
    order, body = new_order(), encode(transfer(**ann))
    other = encode(transfer(customer_email="joann.other@example.com"))
    late = transfer("failed", order=order, **ann)
    for b in (body, other, encode(late)):
        assert post(site, b).outcome == "recorded"
    assert post(site, b'{"customer": "ann.other@example.com"').status == 400
    before = site.query("select id, state, amount, currency, transaction_id from foloosi.orders order by id")

    would = json.loads(done(erase(site, "--customer", "ann.other@example.com", "--dry-run", "--json")))
    assert would == {"erasure": None, "dry_run": True, "transactions": 2, "bodies": 3, "texts": 0}
    assert site.kept(body)[2] == body
    # the address from standard input
    said = done(erase(site, "--customer", "-", "--note", "request 17", text="ann.other@example.com\n\n+971 50 7654321\n"))
    assert said.splitlines()[:3] == ["2 transactions masked", "3 raw bodies deleted", "0 notes, details and messages blanked"]
    number = int(said.splitlines()[3].removeprefix("noted as erasure "))
    assert site.query("select id, erased_by, note, transactions, bodies, texts from foloosi.erasures") == [(number, "foloosi_operator", "request 17", 2, 3, 0)]
    dump = subprocess.run([stack.pg_program("pg_dump"), "--data-only", "--inserts", "-d", site.postgres.conninfo("postgres")], check=True, capture_output=True).stdout
    bodies = [bytes(b) for b, in site.query("select body from foloosi.bodies")]
    assert b"7654321" not in dump and b"Ann.Other" not in dump and not any(b"Ann.Other" in b or b'"ann.other' in b for b in bodies)
    assert site.kept(other)[2] == other
    assert site.query("select id, state, amount, currency, transaction_id from foloosi.orders order by id") == before

    assert post(site, body).outcome == "duplicate"
    late["data"]["transfer"]["transaction_status"] = "success"
    assert post(site, encode(late)).outcome == "recorded"
    assert site.query("select state, customer_email, customer_mobile, masked_at is not null from foloosi.transactions where order_ref = %s", [order]) \
        == [("captured", None, None, True)]


@pytest.mark.parametrize("customer", ["nobody@example.com", "' or true --@example.com", '{"a"}@example.com', "%@example.com", "x" * 300 + "@example.com"])
def test_erase_finds_nobody(site, customer):
    run = erase(site, "--customer", customer)
    assert (run.returncode, run.stdout) == (1, "")
    assert ("nothing here names this customer: nothing was changed" if " " not in customer else "not an e-mail address") in run.stderr
    assert customer not in run.stderr


def test_erase_needs_a_customer(site):
    for arguments in ([], ["--customer", "-"], ["ann@example.com"]):
        run = erase(site, *arguments, text="\n")
        assert run.returncode == 2 and "usage: foloosictl erase" in run.stderr
    for customer in ("100", "ann", ""):
        run = erase(site, "--customer", customer)
        assert run.returncode == 1 and "not an e-mail address" in run.stderr
