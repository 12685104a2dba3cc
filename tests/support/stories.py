# SPDX-License-Identifier: MIT
"""
Stories told to the reference model (model.py) and to PostgreSQL, and their rows side by side; ids and timestamps
aside.

A story is a list of steps (merchant, step): deliveries, and between them what persons, the provider and time do.
Each telling uses merchants of its own, so that many share one database.
"""

import hashlib
import itertools
import json
import random
import time
from decimal import Decimal

import psycopg
import pytest

from support.late import CLOCK
from support.model import Refused, Shop

BATCH_MAX = 256

# ---------------------------------------------------------------- a story's words

TRANSFER = ("status", "order_ref", "transaction_no", "payment_reference", "amount", "currency")
HUNDRED, SAME, OTHER = Decimal("100"), Decimal("100.00"), Decimal("99.5")


def says(status, order_ref=None, no=None, ref=None, amount=HUNDRED, currency="AED", copy=0):
    """A delivery. Equal arguments make equal bytes; copy makes other bytes that say the same."""
    amount = None if amount is None else Decimal(amount)
    fields = dict(zip(TRANSFER, (status, order_ref, no, ref, amount, currency)))
    body = json.dumps({"copy": copy, "data": {"transfer": {
        "transaction_status": status, "transaction_no": no, "payment_reference": ref, "transaction_amount": amount,
        "transaction_currency": currency, "api": {"optional1": order_ref}}}}, default=str).encode()
    return ("deliver", {**fields, "fault": None, "body": body, "digest": hashlib.sha256(body).digest()})


def garbage(n):
    body = UNDERSTOOD[n]()[1]["body"] + b" " if n in UNDERSTOOD else b"{" + str(n).encode()
    return ("deliver", {**dict.fromkeys(TRANSFER), "fault": "not JSON at byte 1", "body": body,
                        "digest": hashlib.sha256(body).digest()})


# what a later release reads in garbage(n)
UNDERSTOOD = {0: lambda: says("success", "A", "N1"), 1: lambda: says("failed", "B", None, "R1"), 2: lambda: says("refund", "A", "N1")}


def understood(n):
    """The bytes of garbage(n), after a release that can read them."""
    meaning = UNDERSTOOD[n]()[1]
    return ("deliver", {**meaning, **{k: garbage(n)[1][k] for k in ("body", "digest")}})


def rekeyed(step, order_ref):
    """The same bytes after the merchant's order key was configured anew."""
    return ("deliver", {**step[1], "order_ref": order_ref})

# ---------------------------------------------------------------- PostgreSQL

NUMBERED = {table: f"""(select id from foloosi.{table} where merchant = %(merchant)s and id > %(since)s
                        order by id offset %(number)s limit 1)""" for table in ("transactions", "paybacks")}

DELIVERED = "(select id from foloosi.deliveries where merchant = %(merchant)s and digest = substr(%(digest)s, 1, 16))"

ACTS = {
    "register": "select foloosi.register_order(%(merchant)s, %(order_ref)s, %(amount)s, %(currency)s)",
    "resolve": "select foloosi.resolve_order(%(merchant)s, %(order_ref)s, %(state)s, 'by test', %(without_transaction)s)",
    "assign": f"select foloosi.assign_transaction({NUMBERED['transactions']}, %(order_ref)s, %(create_order)s, 'by test')",
    "refund": f"select foloosi.record_refund({NUMBERED['transactions']}, %(amount)s, 'by test')",
    "settle": f"select foloosi.settle_payback({NUMBERED['paybacks']}, 'by test')",
    "withdraw": f"select foloosi.withdraw_payback({NUMBERED['paybacks']}, 'by test')",
    "reopen": f"select foloosi.reopen_payback({NUMBERED['paybacks']}, 'by test')",
    "unassign": f"select foloosi.unassign_transaction({NUMBERED['transactions']}, 'by test')",
    "dismiss": f"select foloosi.dismiss_attention({DELIVERED}, 'by test')",
    "replay": f"select foloosi.replay_delivery({DELIVERED})",
}

# foloosi-worker's, who reads no table
VERIFY = "select foloosi.verify_transaction(%s, %s, %s, %s, %s, %s)"

RECORD = """
    select ordinal, outcome, order_ref, order_state, reason, delivery_id, merchant_known
    from foloosi.record_deliveries(
        %s::int[], %s::text[], %s::text[], %s::bytea[], %s::bytea[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
        %s::numeric[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])"""


def record(connection, deliveries):
    """Record (merchant, delivery) pairs in one call. Returns (outcome, reason, order_ref, order_state) of each."""
    n = len(deliveries)

    def field(name):
        return [d[name] for _, d in deliveries]

    def constant(text):
        return [None if d["fault"] else text for _, d in deliveries]

    ordinals = random.Random(n).sample(range(1, 10 * n + 1), n)  # the caller's own numbers, in no order
    rows = connection.execute(RECORD, (
        ordinals, [m for m, _ in deliveries], field("order_ref"), field("digest"), field("body"), field("fault"), [None] * n,
        field("status"), field("transaction_no"), field("payment_reference"), field("amount"), field("currency"),
        constant("a message"), field("order_ref"), constant("two"), constant("three"), constant("someone@example.com"),
        constant("555-0100"), constant("0042"))).fetchall()
    by_ordinal = {row[0]: row for row in rows}
    assert len(rows) == n and sorted(by_ordinal) == sorted(ordinals), "one result for each element"
    return [(o, reason, order_ref, state)
            for _, o, order_ref, state, reason, _, _ in (by_ordinal[i] for i in ordinals)]


# A merchant's own trigger, which refuses every event while its row is there.
HOOK = """
    create table if not exists public.broken (merchant text primary key);
    create or replace function public.hook() returns trigger language plpgsql security definer as
    $$begin if exists (select from public.broken b where b.merchant = new.merchant) then raise exception 'out of order'; end if; return new; end$$;
    drop trigger if exists hook on foloosi.events;
    create trigger hook before insert on foloosi.events for each row execute function public.hook()"""


class Database:
    """Connections of the roles that a story needs. conninfo: a function of the role."""

    def __init__(self, conninfo):
        self.conninfo = conninfo
        self.handler = self.connect("foloosi_handler")
        self.operator = self.connect("foloosi_operator")
        self.worker = self.connect("foloosi_worker")
        self.owner = self.connect("postgres")
        self.names = itertools.count()
        self.clock = None
        self.hooked = False
        self.prefix = f"m{time.time_ns():x}"

    def connect(self, user):
        return psycopg.connect(self.conninfo(user), autocommit=True, options="-c statement_timeout=60s")

    def merchant(self, shop):
        """A fresh merchant with a shop's policy."""
        name = f"{self.prefix}.{next(self.names)}"
        if shop.known:
            self.operator.execute(
                """select foloosi.set_merchant(%(name)s, %(mode)s, %(unknown_orders)s, %(late_success)s, %(verify)s, '3 days',
                   %(second_payment)s, make_interval(secs => %(cancel_after)s), make_interval(secs => %(expire_after)s),
                   %(recurring)s::text[], make_interval(secs => %(renewal_gap)s))""", {"name": name, **shop.policy})
        return name

    def since(self):
        """The latest ids: of what the common sequence numbers, and of events."""
        return self.operator.execute(
            """select greatest((select max(id) from foloosi.deliveries), (select max(id) from foloosi.transactions),
                               (select max(id) from foloosi.paybacks), 0),
                      (select coalesce(max(id), 0) from foloosi.events)""").fetchone()

    def act(self, merchant, since, name, arguments):
        """What a person does, or foloosi-worker. True if the database refused it."""
        if name == "hook":
            if not self.hooked:
                self.owner.execute(HOOK)
                self.hooked = True
            if arguments["broken"]:
                self.owner.execute("insert into public.broken values (%s) on conflict do nothing", [merchant])
            else:
                self.owner.execute("delete from public.broken where merchant = %s", [merchant])
            return False
        if name == "wait":
            self.set_clock(arguments["clock"])
            self.owner.execute("update foloosi.cancellation set ran_at = foloosi.clock(), held_until = null, spooled_at = null")
            self.worker.execute("select foloosi.cancel_due(1000)")
            return False
        try:
            if name == "verify":
                id_, = self.operator.execute("select id from foloosi.transactions where merchant = %s and id > %s order by id offset %s limit 1",
                                             (merchant, since[0], arguments["number"])).fetchone()
                self.worker.execute(VERIFY, (id_, *(arguments[k] for k in ("status", "amount", "currency", "order_ref", "refunded"))))
            else:
                self.operator.execute(ACTS[name], {"merchant": merchant, "since": since[0], **arguments})
        except (psycopg.errors.NoDataFound, psycopg.errors.ObjectNotInPrerequisiteState,
                psycopg.errors.InvalidParameterValue, psycopg.errors.RaiseException):
            return True
        return False

    def set_clock(self, seconds):
        """So much later than it is, for all merchants of this database."""
        if self.clock is None:
            self.owner.execute(CLOCK)
        if seconds != self.clock:
            self.owner.execute("update public.ahead set seconds = %s", [seconds])
            self.clock = seconds

    def forget(self, merchants):
        """Their story is over: time has nothing to do with them any more."""
        self.owner.execute("update foloosi.orders set cancel_at = null where cancel_at is not null and merchant = any(%s)", [merchants])

    def rows(self, merchants, since):
        """All rows of these merchants: {merchant: {table: rows}}, ids replaced by the order of creation."""
        found = {m: {"orders": {}, "transactions": [], "paybacks": [], "events": [], "deliveries": {}} for m in merchants}
        place = {None: None}

        def select(columns, table, start, order="id"):
            return self.operator.execute(
                f"select merchant, id, {columns} from foloosi.{table} where merchant = any(%s) and id > %s order by {order}",
                (merchants, start)).fetchall()

        for m, id_, *row in select("transaction_no, payment_reference, order_ref, state, transaction_status, amount, currency, refunded, money_left",
                                   "transactions", since[0]):
            place[id_] = len(found[m]["transactions"])
            found[m]["transactions"].append(tuple(row))
        for m, id_, transaction, *row in select("transaction_id, order_ref, state, reason, amount", "paybacks", since[0], "order_ref, id"):
            place[id_] = len(found[m]["paybacks"])
            found[m]["paybacks"].append((place[transaction], *row))
        for m, _, transaction, payback, *row in select("transaction_id, payback_id, type, order_ref, reason", "events", since[1], "order_ref, id"):
            found[m]["events"].append((*row, place[transaction], place[payback]))
        for m, _, digest, *row in select("digest, outcome, reason, order_ref, repeats, rule, attention", "deliveries", since[0]):
            found[m]["deliveries"][digest] = tuple(row)
        for m, ref, transaction, *row in self.operator.execute(
                """select merchant, order_ref, transaction_id, state, amount, currency, reason, late,
                          registered_at is not null, decided_by is not null, refunded, money_left
                   from foloosi.orders where order_ref = any(%s) and merchant = any(%s)""",
                (["A", "B", "C", "D", "FLSSUB_1"], merchants)).fetchall():
            found[m]["orders"][ref] = (*row, place[transaction])
        return found


def rows_of(shop):
    """The same of a model's shop. What concerns different orders may be written in any order."""
    def by_order(row):
        return row["order_ref"] is None, row["order_ref"] or ""

    paybacks = sorted(shop.paybacks, key=by_order)
    place = {p["number"]: n for n, p in enumerate(paybacks)} | {None: None}
    return {
        "orders": {ref: (o["state"], o["amount"], o["currency"], o["reason"], o["late"], o["registered"], o["decided"],
                         *shop.money_of(ref), o["transaction"]) for ref, o in shop.orders.items()},
        "transactions": [(t["transaction_no"], t["payment_reference"], t["order_ref"], t["state"], t["status"], t["amount"],
                          t["currency"], shop.refunded(t), shop.left(t)) for t in shop.transactions],
        "paybacks": [(p["transaction"], p["order_ref"], p["state"], p["reason"], p["amount"]) for p in paybacks],
        "events": [(e["type"], e["order_ref"], e["reason"], e["transaction"], place[e["payback"]])
                   for e in sorted(shop.events, key=by_order)],
        "deliveries": {digest[:16]: (d["outcome"], d["reason"], d["order_ref"], d["repeats"], d["rule"], d["attention"])
                       for digest, d in shop.deliveries.items()},
    }


# ---------------------------------------------------------------- telling a story


def told_to_model(policies, steps):
    """Returns the shops, the steps with numbers that exist (others left out), and what each answered."""
    shops = [Shop(**policy) for policy in policies]
    possible, answers = [], []
    for who, (name, arguments) in steps:
        shop = shops[who]
        if name == "deliver":
            v = shop.deliver(arguments)
            answer = (v["outcome"], v["reason"], v["order_ref"], v["order_state"])
        else:
            if "number" in arguments:
                things = {"settle": shop.paybacks, "withdraw": shop.paybacks, "reopen": shop.paybacks, "dismiss": list(shop.deliveries),
                          "replay": list(shop.deliveries)}.get(name, shop.transactions)
                if not things:
                    continue
                number = arguments["number"] % len(things)
                arguments = {"digest": things[number]} if name in ("dismiss", "replay") else {**arguments, "number": number}
            method = {"register": "register_order", "resolve": "resolve_order", "assign": "assign_transaction",
                      "unassign": "unassign_transaction", "settle": "settle_payback", "withdraw": "withdraw_payback",
                      "reopen": "reopen_payback", "refund": "record_refund"}.get(name, name)
            try:
                shop.act(method, **arguments)
                answer = False
            except Refused:
                answer = True
        possible.append((who, (name, arguments)))
        answers.append(answer)
    return shops, possible, answers


def read_otherwise(who, delivery, batch):
    """The same bytes were rejected and are now understood, or the reverse: not within one batch, as one
    handler reads the same bytes in the same way."""
    return any(other == who and d["digest"] == delivery["digest"] and d["fault"] != delivery["fault"] for other, d in batch)


def told_to_database(db, shops, steps, sizes):
    """The same steps; consecutive deliveries go in batches of these sizes."""
    merchants = [db.merchant(shop) for shop in shops]
    since = db.since()
    db.set_clock(0)
    sizes = itertools.cycle(sizes)
    answers, batch, room = [], [], next(sizes)

    def flush():
        nonlocal batch, room
        if batch:
            answers.extend(record(db.handler, batch))
        batch, room = [], next(sizes)

    for who, (name, arguments) in steps:
        if name == "deliver":
            if read_otherwise(merchants[who], arguments, batch):
                flush()
            batch.append((merchants[who], arguments))
            if len(batch) == min(room, BATCH_MAX):
                flush()
        else:
            flush()
            answers.append(db.act(merchants[who], since, name, arguments))
    flush()
    found = db.rows(merchants, since)
    db.forget(merchants)
    return answers, [found[m] for m in merchants]


def agree(steps, how, answers, expected, found, rows):
    """Fail with the story and the first difference."""
    if answers == expected and found == rows:
        return
    lines = [how]
    wrong = {who for n, (who, _) in enumerate(steps) if answers[n] != expected[n]}
    wrong |= {who for who in range(len(rows)) if found[who] != rows[who]}
    for n, (who, (name, a)) in enumerate(steps):
        if who not in wrong:
            continue
        if name == "deliver":
            a = [a["fault"] or a["status"], *(a[x] for x in TRANSFER[1:]), a["digest"].hex()[:6]]
        lines.append(f"{n:4} shop {who} {name} {a}")
        if answers[n] != expected[n]:
            lines.append(f"     answer {answers[n]}\n     model  {expected[n]}")
            break
    for who, (database, model) in enumerate(zip(found, rows)):
        lines += [f"shop {who} {table}:\n     rows  {database[table]}\n     model {model[table]}"
                  for table in model if database[table] != model[table]]
    pytest.fail("\n".join(lines), pytrace=False)


def compare(db, policies, steps, *ways):
    """Told in several ways; all must be alike, and like the model."""
    shops, steps, expected = told_to_model(policies, steps)
    rows = [rows_of(shop) for shop in shops]
    for sizes in ways:
        answers, found = told_to_database(db, shops, steps, sizes)
        agree(steps, f"told in batches of {sizes}", answers, expected, found, rows)


def told_side_by_side(db, tales, width, pauses=()):
    """Many stories, each with its own merchant, that share calls of at most so many deliveries. Where a pause is, after
    so many steps, all stories are told so far before one goes on: what is known then is known from the tables."""
    merchants = [db.merchant(shops[0]) for shops, _, _ in tales]
    since = db.since()
    answers = [[] for _ in tales]
    batch = []

    def flush():
        if batch:
            for (n, _), answer in zip(batch, record(db.handler, [(merchants[n], d) for n, d in batch])):
                answers[n].append(answer)
            batch.clear()

    for start, end in itertools.pairwise([0, *pauses, None]):
        for n, (_, steps, _) in enumerate(tales):
            for _, (name, arguments) in steps[start:end]:
                if name == "deliver":
                    if read_otherwise(n, arguments, batch):
                        flush()
                    batch.append((n, arguments))
                    if len(batch) == width:
                        flush()
                else:
                    if any(other == n for other, _ in batch):
                        flush()
                    answers[n].append(db.act(merchants[n], since, name, arguments))
        flush()
    found = db.rows(merchants, since)
    return answers, [found[m] for m in merchants]


# ---------------------------------------------------------------- what must hold whatever came


def broken(found):
    """Which of the properties (ii) to (iv) of the order rules the rows of a merchant break."""
    wrong = []
    transactions, orders = found["transactions"], found["orders"]
    left_of = [left or 0 for *_, left in transactions]
    owed, answered = {}, set()
    for place, ref, state, reason, amount in found["paybacks"]:
        answered.add(place)
        if state == "due":
            owed[ref] = owed.get(ref, 0) + amount
            if amount > left_of[place] or left_of[place] == 0:
                wrong.append(f"(ii) {amount} is due of transaction {place}, which has {left_of[place]} left")
    for ref, (state, amount, currency, _, _, _, decided, _, _, payer) in orders.items():
        mine = [n for n, t in enumerate(transactions) if t[2] == ref and t[3] == "captured"]
        pays = payer if state == "paid" else None
        if owed.get(ref, 0) > sum(left_of[n] for n in mine if n != pays):
            wrong.append(f"(ii) {owed[ref]} are due of order {ref}")
        if state in ("cancelled", "refunded") and not decided and any(left_of[n] for n in mine):
            wrong.append(f"(iii) order {ref} is {state}, and money is left")
        if state == "paid" and not decided:
            *_, t_state, _, t_amount, t_currency, refunded, left = transactions[payer]
            if t_state != "captured" or (t_amount, t_currency) != (amount, currency) or not (left or t_amount == 0 and refunded is None):
                wrong.append(f"(iv) order {ref} is paid by {transactions[payer]}")
        if state == "paid" and not ref.startswith("FLSSUB_"):
            wrong += [f"transaction {n} does not pay order {ref}, and has no payback"
                      for n in mine if n != payer and left_of[n] and n not in answered]
    return wrong


def money(found):
    """Property (i): what is captured and refunded of each transaction."""
    return sorted((no or "", str(amount) if state == "captured" else "", str(refunded))
                  for no, _, _, state, _, amount, _, refunded, _ in found["transactions"])
