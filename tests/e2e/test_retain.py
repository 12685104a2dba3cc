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


@pytest.fixture(scope="module")
def house():
    """Servers of our own: no spool, so that what is not recorded shows."""
    site = Site(scratch())
    try:
        yield site.start()
    finally:
        site.close()


def ctl(house, command, *arguments, role, text=None):
    return subprocess.run([stack.built("foloosictl"), command, "--database", house.postgres.conninfo(role), *arguments],
                          input=text, capture_output=True, text=True, timeout=120)


def retain(house, *arguments):
    return ctl(house, "retain", *arguments, role="foloosi_retention")


def erase(house, *arguments, text=None):
    return ctl(house, "erase", *arguments, role="foloosi_operator", text=text)


def done(run):
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def post(house, body):
    return house.fronts["bare"].send(Request(house.path(), body=body))


def backdate(house, months=0):
    """All that is there arrived in January 2020; months of that year have a partition."""
    with house.postgres.connect() as c:
        c.execute(OLD.format(months=months))
        for table in ("transactions", "deliveries", "bodies"):
            c.execute(f"update foloosi.{table} set created_at = '2020-01-15' where created_at > '2020-12-31'")


def test_what_is_gone_is_still_known(house):
    body, rejected = encode(transfer()), b'{"data": {"transfer": 1}}'
    assert post(house, body).outcome == "recorded"
    assert post(house, rejected).status == 422
    backdate(house, months=1)
    would = done(retain(house, "--dry-run"))
    assert would.splitlines()[0].split()[:5] == ["would", "be:", "bytes", "dropped", "bodies_2020_01"]
    assert house.kept(body) == ("recorded", 0, body)

    said = json.loads(done(retain(house, "--json")))
    assert [(s["what"], s["subject"]) for s in said] == [("bytes dropped", "bodies_2020_01"), ("personal fields masked", "transactions")]
    assert said[0]["amount"] > 0 and said[0]["unit"] == "bytes" and said[1]["amount"] == 1
    assert house.query("select count(*) from foloosi.bodies") == [(0,)]
    assert house.query("select customer_email, customer_mobile, card_last_four, optional2, optional1 = order_ref from foloosi.transactions") \
        == [(None, None, None, None, True)]

    assert post(house, body).outcome == "duplicate"
    assert post(house, rejected).status == 422
    assert house.query("select outcome, repeats from foloosi.deliveries order by id") == [("recorded", 1), ("rejected", 1)]
    assert house.query("select count(*) from foloosi.bodies") == [(0,)]
    assert done(retain(house)) == "Nothing is old enough.\n"
    assert done(retain(house, "--json")) == "[]\n"


def test_zero_days(house):
    """Everything at once: fields go now, bytes when their month is over."""
    body = encode(transfer())
    assert post(house, body).outcome == "recorded"
    assert "personal fields masked" in done(retain(house, "--bodies-days", "0", "--personal-days", "0"))
    assert house.query("select count(*) from foloosi.transactions where masked_at is null or customer_email is not null") == [(0,)]
    assert post(house, body).outcome == "duplicate"
    assert house.kept(body) == ("recorded", 1, body)


@pytest.mark.parametrize("arguments", [["--bodies-days", "-1"], ["--personal-days", "ten"], ["--bodies-days", "99999"], ["--wait", ""], ["now"], ["--all"]])
def test_a_command_line_that_makes_no_sense(house, arguments):
    run = retain(house, *arguments)
    assert run.returncode == 2 and "usage: foloosictl retain" in run.stderr


def test_who_may(house):
    run = ctl(house, "retain", role="foloosi_operator")
    assert run.returncode == 1 and "permission denied for function retain_months" in run.stderr
    run = ctl(house, "erase", "--customer", "ann@example.com", role="foloosi_retention")
    assert run.returncode == 1 and "permission denied for function erase_customer" in run.stderr


def test_beside_deliveries(house):
    """Months are dropped and fields masked while payments come, and while somebody holds one of the months."""
    for _ in range(40):
        assert post(house, encode(transfer())).outcome == "recorded"
    backdate(house, months=12)
    with house.postgres.connect() as c:
        c.execute("insert into foloosi.transactions (merchant, transaction_no, state, transaction_status, customer_email, created_at)"
                  " select 'shop', 'OLD-' || n, 'failed', 'failed', 'x@example.com', '2020-01-15' from generate_series(1, 5000) n")
    answers, stop = [], threading.Event()

    def deliver():
        while not stop.is_set():
            answer = post(house, encode(transfer()))
            answers.append((answer.status, answer.json.get("outcome"), answer.seconds))

    clients = [threading.Thread(target=deliver) for _ in range(4)]
    for c in clients:
        c.start()
    try:
        with house.postgres.connect() as holder:
            holder.execute("begin")
            holder.execute("select count(*) from foloosi.bodies_2020_06")
            run = retain(house, "--wait", "2")
            assert run.returncode == 1
            assert run.stderr == "foloosictl: bodies_2020_06: another session holds a lock on it: left for the next run\n"
            assert "bodies_2020_05" in run.stdout and "bodies_2020_07" not in run.stdout
            assert [line.split()[-2:] for line in run.stdout.splitlines() if "masked" in line] == [["5040", "rows"]]
        assert "bodies_2020_12" in done(retain(house))
        time.sleep(0.5)
    finally:
        stop.set()
        for c in clients:
            c.join()
    print(f"{len(answers)} deliveries, the slowest {max(s for _, _, s in answers):.3f} s")
    assert {(status, outcome) for status, outcome, _ in answers} == {(200, "recorded")}
    assert house.query("select count(*) from pg_class where relname like 'bodies_2020%'") == [(0,)]


def test_erase(house):
    ann = {"customer_email": "Ann.Other@Example.com", "customer_mobile": "+971 50 7654321"}
    order, body = new_order(), encode(transfer(**ann))
    other = encode(transfer(customer_email="joann.other@example.com"))
    late = transfer("failed", order=order, **ann)
    for b in (body, other, encode(late)):
        assert post(house, b).outcome == "recorded"
    assert post(house, b'{"customer": "ann.other@example.com"').status == 400
    before = house.query("select id, state, amount, currency, transaction_id from foloosi.orders order by id")

    would = json.loads(done(erase(house, "--customer", "ann.other@example.com", "--dry-run", "--json")))
    assert would == {"erasure": None, "dry_run": True, "transactions": 2, "bodies": 3, "texts": 0}
    assert house.kept(body)[2] == body
    # the address from standard input
    said = done(erase(house, "--customer", "-", "--note", "request 17", text="ann.other@example.com\n\n+971 50 7654321\n"))
    assert said.splitlines()[:3] == ["2 transactions masked", "3 raw bodies deleted", "0 notes, details and messages blanked"]
    number = int(said.splitlines()[3].removeprefix("noted as erasure "))
    assert house.query("select id, erased_by, note, transactions, bodies, texts from foloosi.erasures") == [(number, "foloosi_operator", "request 17", 2, 3, 0)]
    dump = subprocess.run([stack.pg_program("pg_dump"), "--data-only", "--inserts", "-d", house.postgres.conninfo("postgres")], check=True, capture_output=True).stdout
    bodies = [bytes(b) for b, in house.query("select body from foloosi.bodies")]
    assert b"7654321" not in dump and b"Ann.Other" not in dump and not any(b"Ann.Other" in b or b'"ann.other' in b for b in bodies)
    assert house.kept(other)[2] == other
    assert house.query("select id, state, amount, currency, transaction_id from foloosi.orders order by id") == before

    assert post(house, body).outcome == "duplicate"
    late["data"]["transfer"]["transaction_status"] = "success"
    assert post(house, encode(late)).outcome == "recorded"
    assert house.query("select state, customer_email, customer_mobile, masked_at is not null from foloosi.transactions where order_ref = %s", [order]) \
        == [("captured", None, None, True)]


@pytest.mark.parametrize("customer", ["nobody@example.com", "' or true --@example.com", '{"a"}@example.com', "%@example.com", "x" * 300 + "@example.com"])
def test_erase_finds_nobody(house, customer):
    run = erase(house, "--customer", customer)
    assert (run.returncode, run.stdout) == (1, "")
    assert ("nothing here names this customer: nothing was changed" if " " not in customer else "not an e-mail address") in run.stderr
    assert customer not in run.stderr


def test_erase_needs_a_customer(house):
    for arguments in ([], ["--customer", "-"], ["ann@example.com"]):
        run = erase(house, *arguments, text="\n")
        assert run.returncode == 2 and "usage: foloosictl erase" in run.stderr
    for customer in ("100", "ann", ""):
        run = erase(house, "--customer", customer)
        assert run.returncode == 1 and "not an e-mail address" in run.stderr
