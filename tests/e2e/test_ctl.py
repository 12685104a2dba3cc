# SPDX-License-Identifier: MIT
"""foloosictl as an operator uses it: against a real database with some hundred orders, hostile texts among them.

Texts from outside must neither control a terminal nor be part of a command that an operator pastes; what is
said to change nothing must change nothing; what is listed must be all of it, once.
"""
import decimal
import json
import os
import pathlib
import pty
import re
import select
import shlex
import signal
import stat
import subprocess
import time

import pytest

from support import rules, stack
from support.processes import frozen
from support.site import HttpFront, Request, Site, encode, scratch, transfer

CTL = stack.build_dir() / "foloosictl"
ROOT = stack.ROOT
HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07", "'; drop table orders; --", "$(reboot)", "漢字の注文", "e\u0301clair", "\u202etxt.exe",
    "\u009b31mred", "tab\tand\nline", "a" * 255, "😀😀", "-rf", "--help", "%s%n", "\\x41", "100",
]
# what controls a terminal, or misleads a reader
HARMFUL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
BOOKS = ["deliveries", "transactions", "orders", "other_transactions", "refunds", "paybacks", "events", "bodies", "rejections",
         "decisions"]
PERSONAL = ["customer@example.com", "555534533", "1111"]


class Shop(Site):
    """Orders of all kinds, in numbers that are far apart, as after a busy year."""

    def start(self):
        super().start()
        self.env = {
            **{k: v for k, v in os.environ.items() if k not in ("WEBHOOK_URL", "NO_COLOR", "COLUMNS")},
            "PGHOST": str(self.postgres.socket_dir), "PGPORT": str(self.postgres.port), "PGUSER": "foloosi_operator",
            "PGDATABASE": stack.DATABASE, "FOLOOSI_WEBHOOK_CONFIG": str(self.handler.config.path),
        }
        self.query("""select count(*) from generate_series(1, 150) n, foloosi.record_delivery(case n % 3 when 0 then 'basic' else 'shop' end,
                      case n % 5 when 0 then 'failed' else 'success' end, 'ORDER-' || n, 'NO-' || n, amount => n, currency => 'AED')""")
        self.query("select setval('foloosi.id_seq', 500000)")
        self.query("select foloosi.record_delivery('shop', 'success', ref, left(ref, 128), amount => 1.5, currency => 'AED', transaction_message => ref,"
                   " customer_email => %s, customer_mobile => %s, card_last_four => %s) from unnest(%s::text[]) ref", [*PERSONAL, HOSTILE])
        self.query("select setval('foloosi.id_seq', 600000)")
        self.query("""select count(*) from generate_series(151, 300) n, foloosi.record_delivery('shop', 'success', 'ORDER-' || n,
                      'NO-' || n, amount => n, currency => 'AED')""")
        self.query("select foloosi.register_order('shop', 'EXPECTED', 10, 'AED'), foloosi.register_order('hushed', 'ORDER-1', 10, 'AED')")
        return self

    def ctl(self, *args, code=0, stdin="", **env):
        done = subprocess.run([CTL, *map(str, args)], capture_output=True, text=True, env={**self.env, **env}, input=stdin)
        assert done.returncode == code, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert not HARMFUL.search(done.stdout.replace("\t", " ") if "snippet" in args[0] else done.stdout), done.stdout
        assert not any(p in done.stdout for p in PERSONAL[:2])
        return done.stderr if code else done.stdout

    def json(self, command, *args, **more):
        return json.loads(self.ctl(command, "--json", *args, **more))

    def books(self):
        """Everything that a delivery can change."""
        union = " union all ".join(f"select '{t}', t::text from foloosi.{t} t" for t in BOOKS)
        rows = self.query(f"select * from ({union}) x order by 1, 2")
        return {t: [r for r in rows if r[0] == t] for t in BOOKS}


@pytest.fixture(scope="module")
def shop():
    s = Shop(scratch())
    try:
        yield s.start()
    finally:
        s.close()


def on_terminal(shop, *args, keys=b"", columns=100, rows=40, until=None, **env):
    """Run it on a terminal of its own; returns what that saw, and the exit code."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(CTL, [str(CTL), *args], {**shop.env, "TERM": "xterm", "LC_ALL": "C.UTF-8", **env})
    import fcntl
    import struct
    import termios
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    seen, end = b"", time.monotonic() + 30
    while time.monotonic() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                got = os.read(fd, 65536)
            except OSError:
                break
            if not got:
                break
            seen += got
        if keys and until.encode() in seen:
            os.write(fd, keys)
            keys = b""
    status = os.waitpid(pid, 0)[1]
    os.close(fd)
    return seen.decode(), os.waitstatus_to_exitcode(status)


# -- lists -------------------------------------------------------------------------------------


LISTS = ["orders", "transactions", "deliveries", "attention", "paybacks", "merchant"]


@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_the_same_rows_as_a_table_and_in_json(shop, name):
    rows = shop.json(name, "--limit", 1000)
    lines = shop.ctl(name, "--limit", 1000).splitlines()
    if not rows:
        assert len(lines) == 1 and lines[0].endswith(".")
        return
    assert len(lines) == len(rows) + 1
    assert lines[0].split()[0] == next(k for k in rows[0] if any(r[k] is not None for r in rows))
    if "id" in rows[0] and name != "attention":
        assert [r["id"] for r in rows] == sorted((r["id"] for r in rows), reverse=True)


@pytest.mark.parametrize("name, table", [("orders", "orders"), ("transactions", "transactions"), ("deliveries", "deliveries")])
def test_paging_shows_everything_once(shop, name, table):
    seen, before = [], []
    while page := shop.json(name, "--limit", 70, *before):
        seen += [r["id"] for r in page]
        before = ["--before", page[-1]["id"]]
    assert seen == [i for i, in shop.query(f"select id from foloosi.{table} order by id desc")]


def test_filters(shop):
    assert {o["state"] for o in shop.json("orders", "--state", "cancelled", "--limit", 500)} == {"cancelled"}
    assert len(shop.json("orders", "--state", "cancelled", "--merchant", "basic", "--limit", 500)) == 10
    assert [o["order_ref"] for o in shop.json("orders", "--state", "pending", "--merchant", "shop")] == ["EXPECTED"]
    assert [t["order_ref"] for t in shop.json("transactions", "--number", "NO-7")] == ["ORDER-7"]
    assert [t["transaction_no"] for t in shop.json("transactions", "--order", "ORDER-8")] == ["NO-8"]
    assert [d["order_ref"] for d in shop.json("deliveries", "--order", "ORDER-9")] == ["ORDER-9"]
    assert shop.json("orders", "--since", "2100-01-01") == []
    everything = shop.query("select count(*) from foloosi.orders")[0][0]
    assert len(shop.json("orders", "--since", "1h", "--limit", 1000)) == everything
    assert len(shop.json("transactions", "--since", "2020-01-01T00:00Z", "--limit", 1000)) == everything - 2


def test_since_finds_the_first_of_its_time(shop):
    with shop.postgres.connect() as c:
        c.autocommit = False
        c.execute("update foloosi.transactions set created_at = now() - interval '3 days' where id < 500000")
        c.execute("update foloosi.deliveries set created_at = now() - interval '3 days' where id < 500000")
        c.commit()
        new = shop.query("select count(*) from foloosi.transactions where id > 500000")[0][0]
        assert len(shop.json("transactions", "--since", "2d", "--limit", 1000)) == new
        assert len(shop.json("deliveries", "--since", "2d", "--limit", 1000)) == new
        c.execute("update foloosi.transactions set created_at = now() where id < 500000")
        c.execute("update foloosi.deliveries set created_at = now() where id < 500000")
        c.commit()


NONSENSE = [
    ["orders", "--state", "lost"], ["orders", "--limit", "0"], ["orders", "--before", "x"], ["orders", "--number", "1"], ["orders", "A"],
    ["order"], ["order", "A", "B"], ["resolve", "A"], ["resolve", "A", "maybe"], ["assign", "x", "A"], ["attention", "dismiss"],
    ["paybacks", "settle"], ["paybacks", "reopen", "x"], ["refund", "1"], ["refund", "x", "1", "--note", "n"], ["unassign"], ["unassign", "1", "--new"], ["merchant", "add"], ["stats", "--state", "paid"], ["explain"], ["replay", "x"], ["secret", "new", "rope"],
    ["secret"], ["completion", "fish"], ["nginx-snippet", "--part", "tail"], ["check", "more"], ["top", "more"], ["nothing"],
]


def test_a_command_line_that_makes_no_sense(shop):
    before = shop.books()
    for args in NONSENSE:
        assert shop.ctl(*args, code=2) != ""
    assert shop.books() == before


def test_what_the_server_cannot_read_is_said(shop):
    assert "yesterdays" in shop.ctl("orders", "--since", "yesterdays", code=1)
    assert "database:" in shop.ctl("orders", "--database", "host=/nonexistent", code=1)
    assert "permission denied" in shop.ctl("orders", PGUSER="foloosi_consumer", code=1)


def test_hostile_orders_are_shown_and_found(shop):
    lines = shop.ctl("orders", "--limit", 1000)
    assert r"\u001b[2J\u001b]0;owned\u0007" in lines and r"\u202etxt.exe" in lines and "漢字の注文" in lines
    for ref in [*HOSTILE[:2], *HOSTILE[5:7], "--help"]:
        assert shop.json("order", "--merchant", "shop", "--", ref)["order"]["order_ref"] == ref
    rows = [line for line in lines.splitlines() if re.search(r" ORDER-2\d\d ", line)]
    assert len(rows) == 100 and len({line.index(" paid ") for line in rows}) == 1


# -- one order ---------------------------------------------------------------------------------


def test_an_orders_timeline(shop):
    shop.query("select foloosi.record_delivery('shop', 'failed', 'LATE', 'LATE-1', amount => 5, currency => 'AED')")
    shop.query("select foloosi.record_delivery('shop', 'success', 'LATE', 'LATE-2', amount => 5, currency => 'AED')")
    shop.query("select foloosi.record_delivery('shop', 'success', 'LATE', 'LATE-3', amount => 5, currency => 'AED')")
    o = shop.json("order", "LATE")
    assert o["order"]["state"] == "paid" and o["order"]["amount"] == "5"
    assert [t["transaction_no"] for t in o["transactions"]] == ["LATE-1", "LATE-2", "LATE-3"]
    assert [p["reason"] for p in o["paybacks"]] == ["double_payment"]
    assert [(x["what"], x["said"]) for x in o["timeline"]] == [
        ("delivery", "recorded"), ("transaction", "failed"), ("event", "order.cancel"),
        ("delivery", "recorded"), ("transaction", "captured"), ("event", "order.success"),
        ("delivery", "recorded"), ("transaction", "captured"), ("event", "payback.due")]
    assert [x["change"] for x in o["timeline"] if x["what"] == "delivery"] == ["cancelled", "cancelled to paid", None]
    text = shop.ctl("order", "LATE")
    assert "cancelled to paid" in text and "rule 17, double_payment" in text
    shop.ctl("paybacks", "settle", o["paybacks"][0]["id"], "--note", "sent back")
    done = shop.json("order", "LATE")["timeline"][-1]
    assert (done["what"], done["detail"], done["person"]) == ("settle", "sent back", "foloosi_operator")
    assert shop.json("order", "--id", o["order"]["id"]) == shop.json("order", "LATE")


def test_whose_order(shop):
    said = shop.ctl("order", "ORDER-1", code=1)
    assert "--merchant hushed or shop" in said
    assert shop.json("order", "ORDER-1", "--merchant", "hushed")["order"]["state"] == "pending"
    assert "no order NONE" in shop.ctl("order", "NONE", code=1)
    assert r"\u001b" in shop.ctl("order", "\x1b[2J", code=1)


def test_a_name_with_white_space_around_it(shop):
    """It is the order's without it, unless an order of the first version is called so."""
    shop.query("insert into foloosi.orders (merchant, order_ref, state, amount, currency, reason) values ('shop', 'BLANK ', 'review', 1, 'AED', 'unknown_order'),"
               " ('shop', 'BLANK', 'pending', 1, 'AED', null), ('shop', 'undefined', 'review', 1, 'AED', 'unknown_order')")
    for name, order in (("BLANK ", "BLANK "), ("BLANK", "BLANK"), (" BLANK\n", "BLANK"), ("undefined", "undefined")):
        assert shop.json("order", name)["order"]["order_ref"] == order
    number, = shop.query("select id from foloosi.orders where order_ref = 'BLANK '")[0]
    shop.ctl("resolve", "--id", number, "cancelled")
    shop.ctl("resolve", "undefined", "cancelled")
    assert [shop.order(name)[0] for name in ("BLANK ", "BLANK", "undefined")] == ["cancelled", "pending", "cancelled"]


# -- acts --------------------------------------------------------------------------------------


def test_every_remedy_that_attention_names_works(shop):
    """Row by row, the first remedy, as it stands, until nothing waits."""
    shop.query("select foloosi.register_order('shop', 'DIFFERS', 10, 'AED')")
    shop.query("select foloosi.record_delivery('shop', 'success', 'DIFFERS', 'D-1', amount => 11, currency => 'AED')")
    shop.query("select foloosi.record_delivery('shop', 'success', null, 'KEYLESS', amount => 11, currency => 'AED')")
    shop.query("select foloosi.record_delivery('shop', 'success', 'T', 'TEST-1', amount => 11, currency => 'AED')")
    shop.query("select foloosi.record_delivery('shop', 'chargeback', 'C', 'C-1', amount => 11, currency => 'AED')")
    shop.query("select foloosi.record_delivery('shop', status, 'MORE', 'M-1', amount => amount, currency => 'AED') from (values ('success', 11), ('refund', 12)) v (status, amount)")
    shop.query("select foloosi.record_delivery('shop', 'success', 'DOUBLE', 'DO-' || n, amount => 11, currency => 'AED') from generate_series(1, 2) n")
    shop.query("select foloosi.add_consumer('erp', 'shop'), foloosi.disable_consumer('erp', 'gone')")
    waiting = shop.json("attention")
    assert {w["kind"] for w in waiting} == {"order", "payback", "delivery", "consumer"}
    for w in waiting:
        first, *rest = w["remedy"].split(", or ")
        argv = shlex.split(first)
        assert argv[0] == "foloosictl"
        if rest:  # pasted whole, without a choice, it does nothing
            pasted = subprocess.run(["sh", "-c", "foloosictl() { \"$CTL\" \"$@\"; }; " + w["remedy"]], capture_output=True, text=True,
                                    env={**shop.env, "CTL": str(CTL)})
            assert pasted.returncode == 2 and pasted.stdout == "" and "usage: foloosictl" in pasted.stderr, pasted
        argv = ["ASSIGNED-" + str(w["id"]) if a == "ORDER" else "11" if a == "AMOUNT" else a for a in argv[1:]]
        argv += {"assign": ["--new"], "refund": [], "events": []}.get(argv[0], ["--note", "seen"])
        shop.ctl(*argv)
        left = [(x["kind"], x["id"]) for x in shop.json("attention")]
        if w["kind"] == "delivery" and rest and (w["kind"], w["id"]) in left:
            shop.ctl(*shlex.split(rest[-1])[1:], "--note", "seen")
    assert shop.json("attention") == []
    assert shop.order("DIFFERS")[0] == "paid"
    assert ("foloosi_operator", "seen") in shop.query("select decided_by, note from foloosi.decisions where action = 'dismiss'")


def test_resolve(shop):
    shop.query("select foloosi.register_order('shop', 'DECIDE', 10, 'AED')")
    assert shop.json("resolve", "DECIDE", "cancelled", "--note", "'quoted'")["state"] == "cancelled"
    assert shop.order("DECIDE")[0] == "cancelled"
    assert shop.query("select note from foloosi.decisions where order_ref = 'DECIDE' and action = 'resolve'") == [("'quoted'",)]
    assert "no order" in shop.ctl("resolve", "NOBODY", "paid", code=1)
    assert "no transaction" in shop.ctl("assign", 999999999, "X", code=1)
    assert "no payback" in shop.ctl("paybacks", "settle", 999999999, code=1)
    assert "belongs to order" in shop.ctl("assign", shop.json("transactions", "--number", "NO-1")[0]["id"], "X", code=1)


def one(shop, order, *numbers, status="success", amount=100):
    """A delivery for each number; the ids of their transactions."""
    for number in numbers:
        shop.query("select foloosi.record_delivery('shop', %s, %s, %s, amount => %s, currency => 'AED')", [status, order, number, amount])
    return [shop.query("select id from foloosi.transactions where transaction_no = %s", [number])[0][0] for number in numbers]


def test_refunded_money_and_what_is_left(shop):
    transaction, = one(shop, "MONEY", "MO-1")
    assert [(o["refunded"], o["money_left"]) for o in shop.json("orders", "--limit", 1)] == [(None, "100")]
    one(shop, "MONEY", "MO-1", status="refund", amount=30)
    assert [(o["order_ref"], o["state"], o["refunded"], o["money_left"]) for o in shop.json("orders", "--limit", 1)] == [("MONEY", "paid", "30", "70")]
    assert [(t["refunded"], t["money_left"]) for t in shop.json("transactions", "--number", "MO-1")] == [("30", "70")]
    assert re.search(r"100\.00 +30\.00 +70\.00 +AED", shop.ctl("orders", "--limit", 1))
    assert "amount and note are required" in shop.ctl("refund", transaction, 100, code=1)
    assert "cannot have gone back" in shop.ctl("refund", transaction, 101, "--note", "n", code=1)
    assert "numeric" in shop.ctl("refund", transaction, "AMOUNT", "--note", "n", code=1)
    done = shop.json("refund", transaction, 100, "--note", "in the panel")
    assert (done["id"], done["state"], done["refunded"], done["money_left"]) == (transaction, "captured", "100", "0")
    assert shop.json("orders", "--state", "refunded")[0]["order_ref"] == "MONEY"
    o = shop.json("order", "MONEY")
    assert (o["order"]["state"], o["order"]["refunded"], o["order"]["money_left"]) == ("refunded", "100", "0")
    assert [(r["transaction_id"], r["amount"], r["source"], r["said_by"], r["note"]) for r in o["refunds"]] == [
        (transaction, "30", "delivery", None, None), (transaction, "100", "person", "foloosi_operator", "in the panel")]
    assert [(x["what"], x["change"], x["person"]) for x in o["timeline"] if x["what"] == "refund"] == [("refund", "paid to refunded", "foloosi_operator")]
    assert [x["said"] for x in o["timeline"] if x["what"] == "event"] == ["order.success", "order.refund", "order.refund"]
    assert "100.00" in shop.ctl("order", "MONEY")
    shop.ctl("refund", transaction, 0, "--note", "the chargeback was won")
    assert shop.order("MONEY")[0] == "review"
    assert ("AED", "1") in [(x["currency"], str(x["orders"])) for x in shop.json("stats")["orders"] if x["state"] == "review" and x["money_left"] == "100"]
    shop.ctl("resolve", "MONEY", "paid")
    assert shop.order("MONEY")[0] == "paid"


def test_a_refund_that_found_nothing_is_shown_with_the_order_that_it_names(shop):
    one(shop, "STRAY", "ST-1")
    one(shop, "STRAY", "ST-2", status="refund")
    o = shop.json("order", "STRAY")
    assert [t["transaction_no"] for t in o["transactions"]] == ["ST-1"] and [r["amount"] for r in o["refunds"]] == ["100"]
    for w in shop.json("attention"):
        if w["order_ref"] == "STRAY" or w["reason"] == "refund_unknown":
            shop.ctl("attention", "dismiss", w["id"])


def test_paybacks_are_settled_withdrawn_and_reopened(shop):
    _, second = one(shop, "BACK", "BA-1", "BA-2")
    p, = [x for x in shop.json("paybacks") if x["order_ref"] == "BACK"]
    assert (p["state"], p["amount"], p["transaction_id"]) == ("due", "100", second)
    done = shop.json("paybacks", "withdraw", p["id"], "--note", "a gift")
    assert (done["state"], done["reason"], done["settled_by"], done["note"]) == ("settled", "withdrawn", "foloosi_operator", "a gift")
    assert re.search("was withdrawn by foloosi_operator at", shop.ctl("paybacks", "settle", p["id"], code=1))
    assert shop.json("paybacks", "reopen", p["id"], "--note", "no gift")["state"] == "check"
    assert "is open: reopen by foloosi_operator at 2" in shop.ctl("paybacks", "reopen", p["id"], code=1)
    assert shop.json("paybacks", "settle", p["id"])["state"] == "settled"
    assert [t["money_left"] for t in shop.json("order", "BACK")["transactions"]] == ["100", "0"]
    assert shop.json("paybacks", "reopen", p["id"])["amount"] == "100"
    assert [t["money_left"] for t in shop.json("order", "BACK")["transactions"]] == ["100", "100"]
    shop.ctl("paybacks", "settle", p["id"])
    acts = [x["what"] for x in shop.json("order", "BACK")["timeline"] if x["person"]]
    assert acts == ["withdraw", "reopen", "settle", "reopen", "settle"]


def test_assign_and_unassign(shop):
    for number in ("AS-1", "AS-2"):
        shop.query("select foloosi.record_delivery('shop', 'success', null, %s, amount => 7, currency => 'AED')", [number])
    new, taken = [shop.json("transactions", "--number", n)[0]["id"] for n in ("AS-1", "AS-2")]
    assert "has no order" in shop.ctl("assign", new, "FRESH", code=1)
    assert shop.order("FRESH") is None
    done = shop.json("assign", new, "FRESH", "--new", "--note", "by phone")
    assert (done["order_ref"], done["state"], done["money_left"], done["transaction_id"]) == ("FRESH", "paid", "7", new)
    assert shop.json("assign", taken, "FRESH")["state"] == "paid"
    assert 'belongs to order "FRESH" already: assign by foloosi_operator at 2' in shop.ctl("assign", taken, "OTHER", code=1)
    assert "has moved on" in shop.ctl("unassign", new, code=1)
    assert shop.json("unassign", taken, "--note", "not this one")["state"] == "paid"
    assert "was not assigned" in shop.ctl("unassign", taken, code=1)
    assert [x["what"] for x in shop.json("order", "FRESH")["timeline"] if x["person"]] == ["assign", "assign", "unassign"]
    shop.query("update foloosi.deliveries set attention = false where attention")


def test_a_refunded_payment_makes_no_order(shop):
    shop.query("select foloosi.record_delivery('shop', status, null, 'GONE-1', amount => 7, currency => 'AED') from unnest(array['success', 'refund']) status")
    transaction = shop.json("transactions", "--number", "GONE-1")[0]["id"]
    done = shop.json("assign", transaction, "NEVER", "--new")
    assert (done["id"], done["order_ref"], done["state"]) == (None, "NEVER", "not created: the payment was refunded")
    assert shop.order("NEVER") is None
    shop.query("update foloosi.deliveries set attention = false where attention")


def test_resolve_without_transaction(shop):
    shop.query("select foloosi.register_order('shop', 'CASH', 100, 'AED')")
    wrong, = one(shop, "CASH", "CA-1", amount=50)
    assert "a note is required" in shop.ctl("resolve", "CASH", "paid", code=1)
    done = shop.json("resolve", "CASH", "paid", "--without-transaction", "--note", "cash")
    assert (done["state"], done["transaction_id"]) == ("paid", None)
    p, = [x for x in shop.json("paybacks") if x["order_ref"] == "CASH"]
    assert p["transaction_id"] == wrong
    shop.ctl("paybacks", "settle", p["id"])
    assert shop.order("CASH")[0] == "paid"


def test_what_is_overdue_or_in_doubt_waits(shop):
    before = [(w["kind"], w["id"]) for w in shop.json("attention")]
    shop.query("select foloosi.set_merchant('asks', verify => 'callback')")
    shop.query("select foloosi.register_order('shop', 'OVERDUE', 10, 'AED', now() - interval '61 minutes'),"
               " foloosi.register_order('shop', 'SOON', 10, 'AED', now() - interval '9 minutes')")
    shop.query("select foloosi.record_delivery('asks', 'success', 'ASKED', 'ASK-' || n, amount => 11, currency => 'AED') from generate_series(1, 2) n")
    doubted, = one(shop, "DOUBTED", "DOU-1")
    shop.query("insert into foloosi.refunds (merchant, transaction_id, amount, currency, source, believed) values ('shop', %s, 100, 'AED', 'provider', false)", [doubted])
    late = "update foloosi.{} set created_at = now() - interval '2 hours', updated_at = now() - interval '2 hours' where merchant = 'asks'"
    shop.query(late.format("orders")), shop.query(late.format("transactions"))
    waiting = [w for w in shop.json("attention") if (w["kind"], w["id"]) not in before]
    assert sorted((w["kind"], w["order_ref"], w["reason"]) for w in waiting) == [
        ("order", "ASKED", "verifying"), ("order", "OVERDUE", "not_cancelled"), ("refund", "DOUBTED", "refund_doubted"),
        ("transaction", "ASKED", "verification_overdue")]
    remedy = {(w["kind"], w["reason"]): w["remedy"] for w in waiting}
    assert remedy["transaction", "verification_overdue"] is None
    assert remedy["refund", "refund_doubted"] == f"foloosictl refund {doubted} AMOUNT --note WHY"
    overdue = shop.query("select id from foloosi.orders where order_ref = 'OVERDUE'")[0][0]
    assert remedy["order", "not_cancelled"] == f"foloosictl resolve --id {overdue} paid, or cancelled"
    said = shop.ctl("attention", "dismiss", [w["id"] for w in waiting if w["kind"] == "refund"][0], code=1)
    assert "is a refund" in said
    shop.ctl("refund", doubted, 0, "--note", "nothing did")
    shop.ctl("resolve", "OVERDUE", "cancelled")
    shop.ctl("resolve", "SOON", "cancelled")
    shop.ctl("resolve", "ASKED", "paid")
    left = [(w["kind"], w["order_ref"]) for w in shop.json("attention") if (w["kind"], w["id"]) not in before]
    assert left == [("transaction", "ASKED"), ("transaction", "ASKED")]  # a person's word is not the provider's
    shop.query("update foloosi.transactions set state = 'denied' where state = 'verifying'")
    denied, = [w for w in shop.json("attention") if (w["kind"], w["id"]) not in before]
    assert (denied["order_ref"], denied["reason"]) == ("ASKED", "payer_denied")
    shop.ctl("resolve", "ASKED", "cancelled")
    assert [(w["kind"], w["id"]) for w in shop.json("attention")] == before


def test_what_was_done_before_is_an_error(shop):
    """An outdated remedy does nothing, and says by whom and when the case was closed."""
    shop.query("select foloosi.record_delivery('shop', 'success', 'TWICE', 'TW-' || n, amount => 11, currency => 'AED') from generate_series(1, 2) n")
    shop.query("select foloosi.record_delivery('shop', 'chargeback', 'TWICE', 'TW-1', amount => 11, currency => 'AED')")
    waiting = {w["kind"]: w["id"] for w in shop.json("attention") if w["order_ref"] == "TWICE"}
    at = r"at 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    shop.ctl("paybacks", "settle", waiting["payback"])
    assert re.search(f"payback {waiting['payback']} was settled by foloosi_operator {at}", shop.ctl("paybacks", "settle", waiting["payback"], code=1))
    shop.ctl("attention", "dismiss", waiting["delivery"])
    said = shop.ctl("attention", "dismiss", waiting["delivery"], code=1)
    assert re.search(f"delivery {waiting['delivery']} does not wait for a person: foloosi_operator dismissed it {at}", said)
    recorded = shop.json("deliveries", "--order", "TWICE", "--outcome", "recorded")[0]["id"]
    assert "does not wait for a person" in shop.ctl("attention", "dismiss", recorded, code=1)
    assert "nothing with the id" in shop.ctl("attention", "dismiss", 999999999, code=1)
    shop.query("select foloosi.add_consumer('idle', 'shop')")
    assert "none of these events waits" in shop.ctl("events", "discard", "idle", 999999999, code=1)
    assert "none of these events waits" in shop.ctl("events", "retry", "idle", 999999999, code=1)
    assert shop.ctl("events", "retry", "idle") == "0 events will be handed out again\n"
    shop.ctl("events", "drop", "idle")


def test_a_wrong_word_is_said(shop):
    assert shop.ctl("merchant", "add", "wrong", "--mode", "prod", code=2) == 'foloosictl: --mode is live or test, not "prod"\n'
    assert shop.ctl("merchant", "set", "shop", "--verify", "", code=2) == 'foloosictl: --verify is off or callback, not ""\n'
    assert "--state is pending, verifying, paid, refunded, cancelled or review" in shop.ctl("orders", "--state", "paid pending", code=2)
    assert shop.query("select count(*) from foloosi.merchants where merchant = 'wrong'") == [(0,)]


def test_options_may_stand_before_the_command(shop):
    elsewhere = {"PGHOST": "/nonexistent"}
    conninfo = shop.postgres.conninfo("foloosi_operator")
    rows = shop.json("orders", "--limit", 3)
    for args in (["--database", conninfo, "--json", "orders", "--limit", 3], ["-d", conninfo, "-j", "orders", "--limit", 3],
                 [f"--database={conninfo}", "--limit", 3, "orders", "-j"], [f"-d{conninfo}", "--limit=3", "--json", "orders"]):
        assert json.loads(shop.ctl(*args, **elsewhere)) == rows
    assert "database:" in shop.ctl("orders", code=1, **elsewhere)
    assert "unrecognized option '--url'" in shop.ctl("--url", "http://localhost", "orders", code=2)
    assert "usage: foloosictl [OPTIONS] COMMAND" in shop.ctl("--json", code=2)
    assert shop.ctl("--json", "--help") == shop.ctl("help")
    assert shop.ctl("--json", "orders", "--help") == shop.ctl("help", "orders")


def test_merchants(shop):
    assert shop.json("merchant", "add", "new", "--mode", "test")["mode"] == "test"
    assert "known already" in shop.ctl("merchant", "add", "new", code=1)
    assert shop.json("merchant", "set", "new", "--remind-after", "36 hours")["remind_after"] == "36:00:00"
    policy = {"merchant": "new", "mode": "test", "unknown_orders": "accept", "late_success": "review", "verify": "off", "second_payment": "due",
              "cancel_after": "00:00:00", "expire_after": "never", "recurring": "FLSSUB_", "renewal_gap": "1 day", "time_zone": "UTC",
              "remind_after": "36:00:00"}
    assert shop.json("merchant", "set", "new", "--late-success", "review") == policy
    assert shop.json("merchant", "set", "new", "--second-payment", "check", "--cancel-after", "10 min", "--expire-after", "2 days",
                     "--recurring", "SUB-, FLSSUB_", "--renewal-gap", "6 hours", "--time-zone", "Asia/Dubai") == policy | {
        "second_payment": "check", "cancel_after": "00:10:00", "expire_after": "2 days", "recurring": "SUB-,FLSSUB_",
        "renewal_gap": "06:00:00", "time_zone": "Asia/Dubai"}
    assert shop.query("select recurring from foloosi.merchants where merchant = 'new'") == [(["SUB-", "FLSSUB_"],)]
    assert shop.json("merchant", "set", "new", "--mode", "live")["expire_after"] == "2 days"
    changed = shop.json("merchant", "set", "new", "--recurring", "", "--expire-after", "never")
    assert (changed["recurring"], changed["expire_after"], changed["second_payment"]) == ("", "never", "check")
    assert "merchants_recurring_ck" in shop.ctl("merchant", "set", "new", "--recurring", "A,,B", code=1)
    assert "merchants_cancel_after_ck" in shop.ctl("merchant", "set", "new", "--cancel-after", "-1 s", code=1)
    assert "Mars/Olympus" in shop.ctl("merchant", "set", "new", "--time-zone", "Mars/Olympus", code=1)
    assert "--second-payment is due or check" in shop.ctl("merchant", "add", "other", "--second-payment", "never", code=2)
    assert "invalid input syntax" in shop.ctl("merchant", "set", "new", "--remind-after", "soon", code=1)
    assert "merchants_remind_after_ck" in shop.ctl("merchant", "set", "new", "--remind-after", "-1 day", code=1)
    assert shop.json("merchant", "add", "other") == policy | {"merchant": "other", "mode": "live", "late_success": "pay", "remind_after": "3 days"}
    assert shop.json("merchant", "add", "another", "--expire-after", "1 day", "--recurring", "")["expire_after"] == "1 day"
    assert "--verify is off or callback" in shop.ctl("merchant", "set", "new", "--verify", "never", code=2)
    assert "unknown" in shop.ctl("merchant", "set", "nobody", code=1)
    assert ("new", "36:00:00") in [(m["merchant"], m["remind_after"]) for m in shop.json("merchant")]


# -- explain and replay ------------------------------------------------------------------------


def test_explain_tells_what_then_happens_and_changes_nothing(shop, tmp_path):
    front = shop.front("bare")
    bodies = [encode(transfer(order="EX-1")), encode(transfer(order="EX-1")), encode(transfer("failed", order="EX-2")),
              encode(transfer("weird", order="EX-2")), b'{"data":{"transfer":{"transaction_status":1}}}', b"{", encode(transfer(order="ORDER-5"))]
    bodies.append(bodies[0])
    for status, order, amount in (("success", "EX-3", "100"), ("refund", "EX-3", "30"), ("refund", "EX-3", None), ("success", "EX-3", "100"),
                                  ("success", "EX-4", "100"), ("failed", "EX-4", "100")):
        bodies.append(encode(transfer(status, order, "NO-" + order, amount)))  # of one transaction each
    bodies += [encode(transfer(order="EX-5")), encode(transfer(order="EX-5")), encode(transfer("refund", order="EX-5"))]  # the last finds none
    for body in bodies:
        path = tmp_path / "body"
        path.write_bytes(body)
        before = shop.books()
        rows = shop.json("explain", "--merchant", "shop", path)
        text = shop.ctl("explain", "--merchant", "shop", "-", stdin=body.decode())
        assert shop.books() == before
        answer = rows[0]["after"]
        given = front.send(Request(shop.path(), body=body))
        if given.status == 200:
            order = given.json["order"] or {}
            assert (answer["outcome"], answer["order_state"]) == (given.outcome, order.get("state"))
            assert answer["order_ref"] == order.get("ref") or not order
        else:
            assert answer["outcome"] == "rejected"
        (outcome, rule), = shop.query("select d.outcome::text, d.rule from foloosi.deliveries d where d.id = %s", [given.json["id"]]) \
            if given.status == 200 and given.outcome != "duplicate" else [(answer["outcome"], 1 if given.status == 200 else 0)]
        assert text.startswith(f"rule {rule}: ") and outcome == answer["outcome"]
        changed = {r["relation"] for r in rows}
        assert changed >= {"answer", "deliveries"}
        after = shop.books()
        really = {t for t in BOOKS if before[t] != after[t]}
        assert changed - {"answer"} == really


def test_explain_shows_what_a_trigger_writes(shop):
    shop.query("""create schema books; create table books.sales (order_ref text);
        create function books.sold() returns trigger language plpgsql security definer as
        $$ begin insert into books.sales values (new.order_ref); return new; end $$;
        create trigger sold after insert on foloosi.orders for each row execute function books.sold()""")
    try:
        rows = shop.json("explain", "--merchant", "shop", "-", stdin=json.dumps(transfer(order="SOLD")))
        assert [r["after"] for r in rows if r["relation"] == "books.sales"] == [{"rows written": 1}]
        assert shop.query("select * from books.sales") == []
    finally:
        shop.query("drop schema books cascade")


def test_replay_what_was_rejected(shop):
    """An older program did not understand it; or the order key was another one."""
    body = encode(transfer(order="REPLAYED", number="RE-1"))
    record = ("select r.delivery_id from foloosi.record_deliveries(array[1], array['shop'], array[null], array[sha256(%(b)s)], array[%(b)s],"
              " array[%(f)s], array[null], array[null], array[null], array[null], array[null]::numeric[], array[null], array[null], array[null],"
              " array[null], array[null], array[null], array[null], array[null]) r")
    (number,), = shop.query(record, {"b": body, "f": "not understood"})
    assert "rule 0" in shop.ctl("explain", number) and "rule 12" in shop.ctl("explain", number)
    assert shop.order("REPLAYED") is None
    assert shop.json("replay", number) == {"delivery": number, "outcome": "recorded", "reason": None, "order_ref": "REPLAYED", "order_state": "paid"}
    assert shop.order("REPLAYED")[0] == "paid"
    assert shop.kept(body)[:2] == ("recorded", 0)
    assert "was not rejected" in shop.ctl("replay", number, code=1)
    assert "rule 1:" in shop.ctl("explain", number)

    (number,), = shop.query(record, {"b": b"{", "f": "not JSON"})
    before = shop.books()
    assert "not JSON: line 1 column 2" in shop.ctl("replay", number, code=1)
    assert shop.books() == before
    assert "no delivery" in shop.ctl("replay", 999999999, code=1)
    shop.query("delete from foloosi.bodies where delivery_id = %s", [number])
    assert "are gone" in shop.ctl("replay", number, code=1)
    shop.query("update foloosi.deliveries set attention = false where id = %s", [number])


def test_replay_what_a_trigger_refused(shop):
    shop.query("""create schema broken; create function broken.no() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
        grant usage on schema broken to foloosi_owner;
        create trigger no after insert on foloosi.orders for each row execute function broken.no()""")
    body = encode(transfer(order="REFUSED"))
    try:
        given = shop.front("bare").send(Request(shop.path(), body=body))
        assert given.outcome == "review"
        number = given.json["id"]
        remedy, = [w["remedy"] for w in shop.json("attention") if w["id"] == number]
        assert remedy.startswith(f"foloosictl replay {number}, or ")
        assert "refused again" in shop.ctl("replay", number, code=1)
    finally:
        shop.query("drop schema broken cascade")
    assert shop.json("replay", number)["outcome"] == "recorded"
    assert shop.order("REFUSED")[0] == "paid" and number not in [w["id"] for w in shop.json("attention")]


def test_a_locked_order_is_busy(shop):
    shop.query("select foloosi.register_order('shop', 'LOCKED', 100, 'AED')")
    with shop.postgres.connect() as c:
        c.autocommit = False
        c.execute("select 1 from foloosi.orders where order_ref = 'LOCKED' for update")
        rows = shop.json("explain", "--merchant", "shop", "-", stdin=json.dumps(transfer(order="LOCKED")))
        assert rows[0]["after"]["outcome"] == "busy" and len(rows) == 1


def test_readme_and_manual_page_have_the_rules(shop):
    with shop.postgres.connect() as c:
        for path, text in rules.with_rules(rules.rules_of(c)):
            assert path.read_text() == text, "make schema writes it"


# -- counts ------------------------------------------------------------------------------------


def test_stats(shop):
    s = shop.json("stats")
    count = dict(shop.query("select merchant, count(*) from foloosi.deliveries group by 1"))
    assert {m["merchant"]: m["deliveries"] for m in s["merchants"]} == count
    assert sum(h["deliveries"] for h in s["hours"]) == sum(count.values())
    assert sum(m[o] for m in s["merchants"] for o in ("recorded", "duplicate", "ignored", "review", "rejected")) == sum(count.values())
    assert {(o["merchant"], o["state"], o["currency"], o["orders"]) for o in s["orders"]} == set(
        shop.query("select merchant, state::text, currency::text, count(*) from foloosi.orders group by 1, 2, 3"))
    assert shop.json("stats", "--since", "2100-01-01")["merchants"] == []
    assert "deliveries" in shop.ctl("stats", "--merchant", "shop", "--since", "1h")


# -- the terminal ------------------------------------------------------------------------------


def test_colour_and_width_only_on_a_terminal(shop):
    seen, code = on_terminal(shop, "orders", "--limit", "200", columns=130)
    assert code == 0 and "\x1b[32mpaid\x1b[0m" in seen and "\x1b[33mpending\x1b[0m" in seen
    seen, _ = on_terminal(shop, "orders", "--limit", "200", columns=100)
    plain = re.sub(r"\x1b\[\d+m", "", seen)
    assert all(len(line) <= 100 for line in plain.replace("\r", "").split("\n") if "ORDER" in line or "aaa" in line)
    assert "…" in plain
    seen, _ = on_terminal(shop, "orders", NO_COLOR="1")
    assert "\x1b" not in seen
    seen, _ = on_terminal(shop, "orders", TERM="dumb", LC_ALL="C")
    assert "\x1b" not in seen and seen.isascii()
    assert "\x1b" not in shop.ctl("orders")
    assert "a" * 255 in shop.ctl("orders", "--limit", 1000)


def plain(seen):
    return re.sub(r"\x1b\[\d*m", "", seen).replace("\r", "").splitlines()


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_a_narrow_terminal_cuts_no_key_and_no_remedy(shop, columns):
    shop.query("select foloosi.register_order('shop', 'NARROW', 10, 'AED')")
    shop.query("select foloosi.record_delivery('shop', 'success', 'NARROW', 'FLNIAREC' || n, gen_random_uuid()::text, amount => n, currency => 'AED')"
               " from generate_series(1234567890123, 1234567890126) n")
    shop.query("select foloosi.record_delivery('shop', 'success', null, 'FLNIARECkeyless123456', amount => 11, currency => 'AED')")
    for name in ("orders", "transactions", "deliveries", "paybacks", "attention"):
        rows = shop.json(name, "--limit", 20)
        seen, code = on_terminal(shop, name, "--limit", "20", columns=columns)
        lines = plain(seen)
        text = " ".join(lines)
        assert code == 0
        remedies = [r["remedy"] for r in rows if r.get("remedy")]
        assert [line.strip() for line in lines if line.startswith("    foloosictl")] == remedies
        assert all(len(line) <= columns for line in lines if line.strip() not in remedies), lines
        names = lines[0].split()
        assert len(names) == len(set(names))
        for row in rows:
            if row.get("amount") is not None:
                row["amount"] = f"{decimal.Decimal(row['amount']):.2f}"  # JSON has the number as it is, people get AED's decimals
            for key in ("id", "order_ref", "transaction_no", "payment_reference", "transaction_id", "state", "outcome", "kind", "reason", "amount"):
                assert row.get(key) is None or re.search(rf"(^|\s){re.escape(str(row[key]))}(\s|$)", text), (key, row)
            for time_ in ("created_at", "changed_at", "since"):
                if row.get(time_):
                    assert row[time_] in text or f"{row[time_][5:10]} {row[time_][11:16]}Z" in text
    for w in shop.json("attention"):
        if w["order_ref"] == "NARROW" and w["kind"] == "payback":
            shop.ctl("paybacks", "settle", w["id"])
    shop.query("update foloosi.deliveries set attention = false where attention and reason = 'no_order_key'")
    shop.query("update foloosi.orders set state = 'paid', decided_by = 'test', decided_at = now() where order_ref = 'NARROW' and state = 'review'")


class Screen:
    """What a terminal shows of the few things that "top" sends: no line wraps, \\x1b[K erases from the cursor on."""

    def __init__(self, columns, rows):
        self.lines = [[" "] * columns for _ in range(rows)]
        self.columns, self.rows, self.x, self.y = columns, rows, 0, 0

    def feed(self, text):
        for escape, letter in re.findall(r"\x1b\[([0-9;?]*[A-Za-z])|([^\x1b])", text):
            x = min(self.x, self.columns - 1)
            if escape == "H":
                self.x = self.y = 0
            elif escape in ("K", "J"):
                self.lines[self.y][x:] = [" "] * (self.columns - x)
                if escape == "J":
                    self.lines[self.y + 1:] = [[" "] * self.columns for _ in self.lines[self.y + 1:]]
            elif letter == "\r":
                self.x = 0
            elif letter == "\n":
                self.y = min(self.y + 1, self.rows - 1)
            elif letter:
                self.lines[self.y][x] = letter
                self.x = min(x + 1, self.columns)
        return ["".join(line).rstrip() for line in self.lines]


def test_top_shows_a_line_as_wide_as_the_screen(shop):
    def shown(columns):
        seen, code = on_terminal(shop, "top", keys=b"q", until="the latest", columns=columns)
        assert code == 0
        lines = Screen(columns, 40).feed(seen)
        return lines[lines.index("the latest") + 1:]

    wide = shown(200)
    widest = max(map(len, wide))
    assert shown(widest) == wide


def test_top(shop):
    seen, code = on_terminal(shop, "top", keys=b"q", until="q ends")
    assert code == 0
    assert seen.startswith("\x1b[?1049h") and seen.rstrip().endswith("\x1b[?1049l")
    assert "10 s" in seen and "attention" in seen and "deliveries" in seen
    assert not HARMFUL.search(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen).replace("\r", ""))
    assert on_terminal(shop, "top", keys=b"\x03", until="q ends")[1] == 0
    assert "needs a terminal" in shop.ctl("top", code=1)


def test_top_ends_well_though_a_signal_comes_while_it_writes(shop):
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(CTL, [str(CTL), "top"], {**shop.env, "TERM": "xterm", "LC_ALL": "C.UTF-8"})
    seen = b""
    while b"q ends" not in seen:
        seen += os.read(fd, 65536)
    for _ in range(400):  # each draws the screen anew; nobody reads it, so that soon a write waits
        os.kill(pid, signal.SIGWINCH)
        time.sleep(0.005)
    os.kill(pid, signal.SIGINT)
    while True:
        try:
            if not os.read(fd, 65536):
                break
        except OSError:
            break
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(fd)


# -- this machine ------------------------------------------------------------------------------


def test_check(shop):
    nginx = shop.front("nginx")
    done = subprocess.run([CTL, "check", "--json", "--url", f"http://127.0.0.1:{nginx.port}"], capture_output=True, env=shop.env)
    lines = {(x["what"], x["state"]) for x in json.loads(done.stdout)}
    assert done.returncode == 1 and {w for w, s in lines if s == "red"} == {"durability"}  # these tests run with fsync off
    assert {w for w, s in lines if s == "ok"} >= {"configuration", "database", "roles", "roles' settings", "handler's connection", "handler",
                                                  "web server", "spool", "partitions"}

    def red(**env):
        done = subprocess.run([CTL, "check", "--json"], capture_output=True, env={**shop.env, **env})
        assert done.returncode == 1
        return {x["what"]: x for x in json.loads(done.stdout) if x["state"] == "red"}

    url = f"http://127.0.0.1:{nginx.port}{shop.path()}"
    assert "web server" not in red(WEBHOOK_URL=url)
    wrong = red(WEBHOOK_URL=url[:-1] + "x")["web server"]
    assert "404" in wrong["said"] and shop.tokens["shop"][:-1] not in json.dumps(wrong)
    assert "no http" in red(WEBHOOK_URL="gopher://x")["web server"]["said"]
    assert "in the handler's words" in red(WEBHOOK_URL=f"http://127.0.0.1:{nginx.port}/elsewhere")["web server"]["said"]
    assert "is PostgreSQL running?" in red(PGHOST="/nonexistent")["database"]["remedy"]
    assert "configuration" in red(FOLOOSI_WEBHOOK_CONFIG="/nonexistent")
    # the roles of /metrics and of the retention are looked at like the others
    shop.query("alter role foloosi_retention rename to hidden_retention")
    shop.query("alter role foloosi_monitor reset log_min_messages")
    try:
        assert "missing: foloosi_retention" in red()["roles"]["said"]
        assert "missing: foloosi_monitor log_min_messages" in subprocess.run([CTL, "check"], capture_output=True, text=True, env=shop.env).stdout
    finally:
        shop.query("alter role hidden_retention rename to foloosi_retention")
        shop.query("alter role foloosi_monitor set log_min_messages = log")
    # each connection that the configuration names is tried, the worker's where there are mails only
    config = pathlib.Path(shop.env["FOLOOSI_WEBHOOK_CONFIG"])
    more = config.with_name("more.conf")
    config.with_name("paid.txt").write_text("Subject: Paid\n\nThank you.\n")
    more.touch(0o600)
    more.write_text(config.read_text().replace("[foloosi-webhook]", f"[foloosi-worker]\ndatabase = {shop.postgres.conninfo('foloosi_worker')}\n"
                                               "smtp_url = smtp://mail.example\n[foloosi-webhook]\n"
                                               f"monitor = {shop.postgres.conninfo('foloosi_monitor')}")
                    + f"\n[merchant mailing]\ntoken = {stack.token()}\nmail_from = orders@shop.example\nmail_success = paid.txt\n")
    done = subprocess.run([CTL, "check", "--json", "--config", more], capture_output=True, env=shop.env)
    said = {x["what"]: x["said"] for x in json.loads(done.stdout)}
    assert said["worker's connection"] == "connects as foloosi_worker"
    assert said["monitor's connection"] == "connects as foloosi_monitor"
    with frozen(shop.handler.pid):
        text = subprocess.run([CTL, "check"], capture_output=True, text=True, env={**shop.env, "WEBHOOK_URL": "http://127.0.0.1:1/"}).stdout
        assert "red      web server: http://127.0.0.1:1" in text and "is it running?" in text


def test_secrets(shop, tmp_path):
    token = shop.ctl("secret", "new", "token").strip()
    assert re.fullmatch("[0-9a-f]{48}", token) and token != shop.ctl("secret", "new", "token").strip()
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", shop.ctl("secret", "new", "whsec").strip())
    os.umask(0)
    path = tmp_path / "shop.token"
    shop.ctl("secret", "new", "token", "--file", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = path.read_text()
    assert "not overwritten" in shop.ctl("secret", "new", "token", "--file", path, code=1)
    assert path.read_text() == kept
    config = tmp_path / "c.conf"
    shop.ctl("secret", "new", "whsec", "--file", tmp_path / "shop.key")
    config.write_text("[foloosi-webhook]\nlisten = /tmp/x\n[merchant shop]\ntoken_file = shop.token\nsignature_secret_file = shop.key\n")
    config.chmod(0o600)
    done = subprocess.run([stack.build_dir() / "foloosi-webhook", "--check-config", "--config", config], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("merchant", [None, "shop"])
def test_the_nginx_snippet_works_as_it_is(shop, merchant):
    args = [merchant] if merchant else []
    texts = {file: shop.ctl("nginx-snippet", "--templates", ROOT, "--part", part, *args)
             for part, file in (("http", "foloosi-webhook.conf"), ("server", "foloosi-webhook-location.conf"))}
    both = shop.ctl("nginx-snippet", "--templates", ROOT, *args)
    assert all(t in both for t in texts.values()) and str(shop.handler.socket) in both
    texts["foloosi-webhook-operations.conf"] = ""
    with stack.Nginx(shop.home / f"snippet-{merchant}", shop.logs, "unused", texts=texts) as nginx:
        assert subprocess.run([stack.program("nginx"), "-t", "-q", "-p", nginx.home, "-c", nginx.home / "nginx.conf"]).returncode == 0
        front = HttpFront("nginx", nginx.port)
        body = encode(transfer())
        assert front.send(Request(shop.path(), body=body)).outcome == "recorded"
        assert shop.kept(body)
        other = front.send(Request(shop.path("hushed"), body=encode(transfer())))
        assert (other.status == 200) == (merchant is None)


@pytest.mark.parametrize("merchant", [None, "shop"])
def test_the_apache_snippet_works_as_it_is(shop, merchant):
    args = [merchant] if merchant else []
    file = pathlib.Path(shop.home) / f"apache-{merchant}.conf"
    file.write_text(shop.ctl("apache-snippet", "--templates", ROOT, *args))
    with stack.Apache(shop.home / f"asnippet-{merchant}", shop.logs, "proxy", include=file) as apache:
        assert subprocess.run([stack.program("apache2"), "-t", "-f", apache.home / "apache.conf"], capture_output=True).returncode == 0
        body = encode(transfer())
        front = HttpFront("apache", apache.port)
        assert front.send(Request(shop.path(), body=body)).outcome == "recorded"
        assert shop.kept(body)
        other = front.send(Request(shop.path("hushed"), body=encode(transfer())))
        assert (other.status == 200) == (merchant is None)


def test_snippets_need_what_they_are_made_of(shop, tmp_path):
    assert "no [merchant nobody]" in shop.ctl("nginx-snippet", "--templates", ROOT, "nobody", code=1)
    assert "No such file or directory; --templates DIR" in shop.ctl("nginx-snippet", "--templates", tmp_path, code=1)
    (tmp_path / "nginx").mkdir()
    (tmp_path / "nginx" / "foloosi-webhook.conf").write_text("# something else\n")
    assert "is not in it" in shop.ctl("nginx-snippet", "--templates", tmp_path, "--part", "http", code=1)


# -- the frame ---------------------------------------------------------------------------------


def subcommands(shop):
    return re.findall(r"^  (\S+)  ", shop.ctl("help"), re.M)


def test_completion(shop, tmp_path):
    script = tmp_path / "c"
    script.write_text(shop.ctl("completion", "bash"))

    def complete(*words):
        quoted = " ".join(shlex.quote(w) for w in words)
        done = subprocess.run(["bash", "-c", f"set -eu; source {script}; complete -p foloosictl >&2; COMP_WORDS=({quoted});"
                               f" COMP_CWORD={len(words) - 1}; _foloosictl; printf '%s\\n' \"${{COMPREPLY[@]:-}}\""], capture_output=True, text=True)
        assert done.returncode == 0 and "-F _foloosictl foloosictl" in done.stderr
        return done.stdout.split()

    assert complete("foloosictl", "") == sorted(subcommands(shop))
    assert complete("foloosictl", "orde") == ["order", "orders"]
    assert complete("foloosictl", "events", "re") == ["retry"]
    assert complete("foloosictl", "orders", "--s") == ["--since", "--state"]
    assert complete("foloosictl", "resolve", "A", "p") == ["paid"]
    assert complete("foloosictl", "spool", "") == ["--config", "--json", "drain", "list"]
    assert complete("foloosictl", "orders", "--state", "p") == ["paid", "pending"]
    assert complete("foloosictl", "paybacks", "--state", "") == ["all", "check", "due", "settled"]
    assert set(subcommands(shop)) == set(complete("foloosictl", "help", ""))


def test_the_manual_and_the_help_know_every_subcommand_and_option(shop):
    manual = (ROOT / "cgi-src" / "man" / "foloosictl.1").read_text()
    for name in subcommands(shop):
        assert re.search(rf"^\.It Cm {re.escape(name)}\b", manual, re.M), name
        text = shop.ctl("help", name)
        assert text.startswith(f"usage: foloosictl {name}")
        for option in set(re.findall(r"--([a-z-]+)", text.split("\n\n", 1)[1])):
            assert re.search(rf"Fl -{option}\b", manual), f"{name} --{option}"
        usage, rest = text.split("\n\n", 1)
        assert set(re.findall(r"--([a-z-]+)", usage)) == set(re.findall(r"^ {2}.{3} --([a-z-]+)", rest, re.M)), text
        assert all(len(line) <= 80 for line in text.splitlines()), text
    assert all(len(line) <= 80 for line in shop.ctl("help").splitlines())
