# SPDX-License-Identifier: MIT
"""
PostgreSQL against the reference model (model.py): the same story is told to both, and every
row and every verdict is compared; ids and timestamps aside.

A story is a list of steps: deliveries, and between them what persons do. Each telling uses
merchants of its own, so that many share one database. A story is told one delivery at
a time and in batches; the promise is that nobody can tell the difference afterwards.

    HYPOTHESIS_PROFILE=long   hunts for longer, with another seed each time
    MODEL_DATABASE=...        a conninfo of a running database with the schema, to be used
                              instead of a private one
"""

import hashlib
import itertools
import os
import pathlib
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import stack
from support.model import Refused, Shop

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
settings.register_profile("quick", max_examples=400, derandomize=True)
settings.register_profile("long", max_examples=5000)
STORIES = settings(settings.get_profile(PROFILE if PROFILE == "long" else "quick"), deadline=None,
                   database=None, suppress_health_check=list(HealthCheck))
LONG = PROFILE == "long"
pytestmark = pytest.mark.timeout(4 * 3600 if LONG else 600)

BATCH_MAX = 256

# ---------------------------------------------------------------- a story's words

TRANSFER = ("status", "order_ref", "transaction_no", "payment_reference", "amount", "currency")
HUNDRED, SAME, OTHER = Decimal("100"), Decimal("100.00"), Decimal("99.5")


def says(status, order_ref=None, no=None, ref=None, amount=HUNDRED, currency="AED", copy=0):
    """A delivery. Equal arguments make equal bytes; copy makes other bytes that say the same."""
    fields = dict(zip(TRANSFER, (status, order_ref, no, ref, amount, currency)))
    body = repr((copy, status, order_ref, no, ref, str(amount), currency)).encode()
    return ("deliver", {**fields, "fault": None, "body": body, "digest": hashlib.sha256(body).digest()})


def garbage(n):
    body = b"{" + str(n).encode()
    return ("deliver", {**dict.fromkeys(TRANSFER), "fault": "not JSON at byte 1", "body": body,
                        "digest": hashlib.sha256(body).digest()})


def understood(n):
    """The bytes of garbage(n), after a release that can read them."""
    meaning = [says("success", "A", "N1"), says("failed", "B", None, "R1"), says("refund", "A", "N1")][n][1]
    return ("deliver", {**meaning, **{k: garbage(n)[1][k] for k in ("body", "digest")}})


def rekeyed(step, order_ref):
    """The same bytes after the merchant's order key was configured anew."""
    return ("deliver", {**step[1], "order_ref": order_ref})


# ---------------------------------------------------------------- PostgreSQL

ACTS = {
    "register": "select foloosi.register_order(%(merchant)s, %(order_ref)s, %(amount)s, %(currency)s)",
    "resolve": "select foloosi.resolve_order(%(merchant)s, %(order_ref)s, %(state)s, 'by test')",
    "assign": """select foloosi.assign_transaction((select id from foloosi.transactions
                 where merchant = %(merchant)s and id > %(since)s order by id offset %(number)s limit 1), %(order_ref)s)""",
    "settle": """select foloosi.settle_payback((select id from foloosi.paybacks
                 where merchant = %(merchant)s and id > %(since)s order by id offset %(number)s limit 1), 'by test')""",
}

# foloosi-worker's, which reads no table
VERIFY = "select foloosi.verify_transaction(%s, %s, %s, %s, %s)"

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


class Database:
    """Connections of the roles that a story needs. conninfo: a function of the role."""

    def __init__(self, conninfo):
        self.conninfo = conninfo
        self.handler = self.connect("foloosi_handler")
        self.operator = self.connect("foloosi_operator")
        self.worker = self.connect("foloosi_worker")
        self.names = itertools.count()
        self.prefix = f"m{time.time_ns():x}"

    def connect(self, user):
        return psycopg.connect(self.conninfo(user), autocommit=True)

    def merchant(self, shop):
        """A fresh merchant with a shop's policy."""
        name = f"{self.prefix}.{next(self.names)}"
        if shop.known:
            self.operator.execute(
                "select foloosi.set_merchant(%(name)s, %(mode)s, %(unknown_orders)s, %(late_success)s, %(verify)s)",
                {"name": name, **shop.policy})
        return name

    def since(self):
        """The latest ids: of what the common sequence numbers, and of events."""
        return self.operator.execute(
            """select greatest((select max(id) from foloosi.deliveries), (select max(id) from foloosi.transactions),
                               (select max(id) from foloosi.paybacks), 0),
                      (select coalesce(max(id), 0) from foloosi.events)""").fetchone()

    def act(self, merchant, since, name, arguments):
        """What a person does, or foloosi-worker. True if the database refused it."""
        if name == "verify":
            id_, = self.operator.execute("select id from foloosi.transactions where merchant = %s and id > %s order by id offset %s limit 1",
                                         (merchant, since[0], arguments["number"])).fetchone()
            self.worker.execute(VERIFY, (id_, *(arguments[k] for k in ("status", "amount", "currency", "order_ref"))))
            return False
        try:
            self.operator.execute(ACTS[name], {"merchant": merchant, "since": since[0], **arguments})
        except (psycopg.errors.NoDataFound, psycopg.errors.ObjectNotInPrerequisiteState,
                psycopg.errors.InvalidParameterValue):
            return True
        return False

    def rows(self, merchants, since):
        """All rows of these merchants: {merchant: {table: rows}}, ids replaced by the order of creation."""
        found = {m: {"orders": {}, "transactions": [], "paybacks": [], "events": [], "deliveries": {}} for m in merchants}
        place = {None: None}

        def select(columns, table, start, order="id"):
            return self.operator.execute(
                f"select merchant, id, {columns} from foloosi.{table} where merchant = any(%s) and id > %s order by {order}",
                (merchants, start)).fetchall()

        for m, id_, *row in select("transaction_no, payment_reference, order_ref, state, transaction_status, amount, currency",
                                   "transactions", since[0]):
            place[id_] = len(found[m]["transactions"])
            found[m]["transactions"].append(tuple(row))
        for m, id_, transaction, *row in select("transaction_id, order_ref, state, reason", "paybacks", since[0]):
            place[id_] = len(found[m]["paybacks"])
            found[m]["paybacks"].append((place[transaction], *row))
        for m, _, transaction, payback, *row in select("transaction_id, payback_id, type, order_ref, reason", "events", since[1]):
            found[m]["events"].append((*row, place[transaction], place[payback]))
        for m, _, digest, *row in select("digest, outcome, reason, order_ref, repeats", "deliveries", since[0]):
            found[m]["deliveries"][digest] = tuple(row)
        for m, ref, transaction, *row in self.operator.execute(
                """select merchant, order_ref, transaction_id, state, amount, currency, reason, late,
                          registered_at is not null, decided_by is not null
                   from foloosi.orders where order_ref = any(%s) and merchant = any(%s)""",
                (["A", "B", "C", "D"], merchants)).fetchall():
            found[m]["orders"][ref] = (*row, place[transaction])
        return found


def rows_of(shop):
    """The same of a model's shop."""
    return {
        "orders": {ref: (o["state"], o["amount"], o["currency"], o["reason"], o["late"], o["registered"], o["decided"],
                         o["transaction"]) for ref, o in shop.orders.items()},
        "transactions": [(t["transaction_no"], t["payment_reference"], t["order_ref"], t["state"], t["status"], t["amount"],
                          t["currency"]) for t in shop.transactions],
        "paybacks": [(p["transaction"], p["order_ref"], p["state"], p["reason"]) for p in shop.paybacks],
        "events": [(e["type"], e["order_ref"], e["reason"], e["transaction"], e["payback"]) for e in shop.events],
        "deliveries": {digest[:16]: (d["outcome"], d["reason"], d["order_ref"], d["repeats"])
                       for digest, d in shop.deliveries.items()},
    }


@pytest.fixture(scope="module")
def db():
    if "MODEL_DATABASE" in os.environ:
        yield Database(lambda user: f"{os.environ['MODEL_DATABASE']} user={user}")
        return
    home = pathlib.Path(tempfile.mkdtemp(prefix="fm"))
    home.chmod(0o711)
    try:
        with stack.Postgres(home / "pg", home / "logs", {"fsync": "off", "shared_buffers": "128MB"}) as postgres:
            postgres.create_database()
            postgres.migrate()
            yield Database(postgres.conninfo)
    finally:
        shutil.rmtree(home)


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
                things = shop.paybacks if name == "settle" else shop.transactions
                if not things:
                    continue
                arguments = {**arguments, "number": arguments["number"] % len(things)}
            method = {"register": shop.register_order, "resolve": shop.resolve_order,
                      "assign": shop.assign_transaction, "settle": shop.settle_payback, "verify": shop.verify}[name]
            try:
                method(**arguments)
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
    shops, steps, expected = told_to_model(policies, steps)
    rows = [rows_of(shop) for shop in shops]
    for sizes in ways:
        answers, found = told_to_database(db, shops, steps, sizes)
        agree(steps, f"told in batches of {sizes}", answers, expected, found, rows)


# ---------------------------------------------------------------- 1. random stories

ORDER_REFS = st.sampled_from(["A", "A", "A", "B", "B", "C", None, None, ""])
NUMBERS = st.sampled_from(["N1", "N1", "N2", "N2", "N3", "TEST1", None, None, ""])
REFERENCES = st.sampled_from(["R1", "R1", "R2", "R3", None, None, None, None, ""])
AMOUNTS = st.sampled_from([HUNDRED, HUNDRED, HUNDRED, SAME, OTHER])
CURRENCIES = st.sampled_from(["AED", "AED", "AED", "AED", "USD"])
COPIES = st.integers(0, 3)

successes = st.builds(says, st.just("success"), ORDER_REFS, NUMBERS, REFERENCES, AMOUNTS, CURRENCIES, COPIES)
failures = st.builds(says, st.just("failed"), ORDER_REFS, NUMBERS, REFERENCES, AMOUNTS | st.none(), CURRENCIES | st.none(), COPIES)
others = st.builds(says, st.sampled_from(["refund", "refund", "pending", "expired"]), ORDER_REFS, NUMBERS, REFERENCES,
                   AMOUNTS | st.none(), CURRENCIES | st.none(), COPIES)
rejects = st.one_of(st.builds(garbage, st.integers(0, 2)), st.builds(understood, st.integers(0, 2)),
                    st.builds(says, st.sampled_from(["success", "", None]), st.none(), NUMBERS, REFERENCES, st.none() | AMOUNTS,
                              st.none()))
named = st.sampled_from(["A", "B", "C"])
acts = st.one_of(
    st.builds(lambda **a: ("register", a), order_ref=named, amount=AMOUNTS, currency=CURRENCIES),
    st.builds(lambda **a: ("resolve", a), order_ref=named,
              state=st.sampled_from(["paid", "paid", "cancelled", "cancelled", "review"])),
    st.builds(lambda **a: ("assign", a), number=st.integers(0, 7), order_ref=named),
    st.builds(lambda **a: ("settle", a), number=st.integers(0, 3)),
)
DEFAULTS = {}
policies_ = st.lists(st.one_of(
    st.just({"known": False}), st.just(DEFAULTS),
    st.fixed_dictionaries({
        "mode": st.sampled_from(["live", "test"]), "unknown_orders": st.sampled_from(["accept", "review"]),
        "late_success": st.sampled_from(["pay", "review"]), "verify": st.sampled_from(["off", "off", "callback"]),
    })), min_size=1, max_size=2)
deliveries_ = st.one_of(successes, successes, successes, failures, failures, others, rejects,
                        st.builds(rekeyed, successes | failures | others, ORDER_REFS))


def stories(steps, max_size):
    """Steps of two merchants (the second may not exist: then the first)."""
    return st.lists(st.tuples(st.sampled_from([0, 0, 1]), steps), min_size=1, max_size=max_size)


def within(policies, steps):
    """Steps of shops that exist; and what could be read once can be read ever after."""
    read, kept = set(), []
    for who, (name, arguments) in steps:
        who %= len(policies)
        if name == "deliver":
            if arguments["fault"] and (who, arguments["digest"]) in read:
                continue
            if not arguments["fault"]:
                read.add((who, arguments["digest"]))
        kept.append((who, (name, arguments)))
    return kept


@STORIES
@given(policies=policies_, steps=stories(deliveries_, 24), sizes=st.lists(st.integers(2, 64), min_size=1, max_size=4))
def test_random_deliveries(db, policies, steps, sizes):
    compare(db, policies, within(policies, steps), [1], sizes, [BATCH_MAX])


@STORIES
@given(policies=policies_, steps=stories(st.one_of(deliveries_, deliveries_, acts), 24),
       sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_random_deliveries_and_persons(db, policies, steps, sizes):
    compare(db, policies, within(policies, steps), [1], sizes)


words = st.builds(lambda **a: ("verify", a), number=st.integers(0, 7),
                  status=st.sampled_from(["success", "success", "success", "failed", "refund", None]), amount=AMOUNTS,
                  currency=CURRENCIES, order_ref=st.sampled_from([None, None, None, "A", "B"]))


@settings(STORIES, max_examples=STORIES.max_examples // 4)
@given(policy=st.fixed_dictionaries({"mode": st.sampled_from(["live", "test"]), "unknown_orders": st.sampled_from(["accept", "accept", "review"]),
                                     "late_success": st.sampled_from(["pay", "pay", "review"]), "verify": st.just("callback")}),
       steps=stories(st.one_of(successes, successes, failures, others, words, words, words, acts), 24),
       sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_random_deliveries_and_the_provider_s_word(db, policy, steps, sizes):
    compare(db, [policy], within([policy], steps), [1], sizes)


@pytest.mark.parametrize("seed", range(40 if LONG else 6))
def test_long_crowded_batches(db, seed):
    """Batches of 256 with 16 merchants, whose orders and transactions have the same names."""
    chance = random.Random(seed)

    def pick(*values):
        return chance.choice(values)

    policies = [pick(DEFAULTS, {"known": False}, {"unknown_orders": "review"}, {"verify": "callback"}, {"mode": "test"},
                     {"late_success": "review"}) for _ in range(16)]
    steps = [(chance.randrange(16), says(
        pick("success", "success", "failed", "failed", "refund", "pending"), pick("A", "B", "C", "D", None),
        pick("N1", "N2", "N3", "N4", "N5", "TEST1", None), pick("R1", "R2", "R3", None, None, None), pick(HUNDRED, HUNDRED, OTHER),
        "AED", copy=chance.randrange(4))) for _ in range(1024)]
    compare(db, policies, steps, [BATCH_MAX], [64], [chance.randrange(1, 65) for _ in range(8)])


# ---------------------------------------------------------------- 2. every order of arrival

REGISTER = ("register", {"order_ref": "A", "amount": HUNDRED, "currency": "AED"})
REGISTER_OTHER = ("register", {"order_ref": "A", "amount": OTHER, "currency": "AED"})
PAID = ("resolve", {"order_ref": "A", "state": "paid"})
CLOSED = ("resolve", {"order_ref": "A", "state": "cancelled"})

CASTS = {
    "two transactions of one order": [
        says("success", "A", "N1"), says("failed", "A", "N1"), says("success", "A", "N2"), says("failed", "A", "N2"),
        says("success", "A", "N1", amount=OTHER), says("success", "A", "N2", copy=1)],
    "a reference brings two together": [
        says("failed", "A", None, "R1"), says("success", "A", "N1", "R1"), says("success", None, "N1"),
        says("success", "A", None, "R1"), says("success", "A", "N2"), says("success", "B", None, "R1")],
    "one reference, two numbers": [
        says("success", "A", "N1", "R1"), says("success", "A", "N2", "R1"), says("failed", "A", "N2"),
        says("failed", None, None, "R1"), says("failed", "A", "N1", "R1"), says("success", "B", "N2", "R2")],
    "a number learned late": [
        says("failed", "A", None, "R1"), says("failed", "A", "N1"), says("success", "A", "N1", "R1"),
        says("success", "A", "N1", "R2"), says("failed", "A", None, "R2"), says("success", None, "N2", "R1")],
    "the number's order, not the reference's": [
        says("failed", "B", None, "R2"), says("failed", "C", "N3"), says("success", None, "N3", "R2"),
        says("success", "C", "N9", "R9"), says("success", None, None, "R2"), says("success", "B", "N8")],
    "the first owner's order": [
        says("failed", "C", "N1", "R1"), says("failed", "B", "N2", "R1"), ("assign", {"number": 1, "order_ref": "B"}),
        says("success", None, None, "R1"), says("success", "C", "N9"), says("success", "B", "N8")],
    "without an order key": [
        says("success", None, "N1"), says("failed", None, "N1"), says("failed", "A", "N1"), says("success", "A", "N1"),
        says("success", None, None, None), says("failed", None, None, None)],
    "the key comes later": [
        says("failed", None, "N1"), says("success", None, "N1"), says("success", "A", "N1"), says("success", "A", "N2"),
        says("failed", "B", "N1"), says("failed", "B", "N2")],
    "two orders, one transaction": [
        says("success", "A", "N1"), says("success", "B", "N1"), says("failed", "B", "N2"), says("success", "B", "N2"),
        says("failed", "A", "N1"), says("success", "A", "N3")],
    "refunds": [
        says("success", "A", "N1", "R1"), says("success", "A", "N2"), says("refund", "B", "N1"),
        says("refund", "C", None, "R1"), says("failed", "A", None, "R1"), says("refund", "A", "N2")],
    "repeats": [
        says("success", "A", "N1"), says("success", "A", "N1"), says("failed", "A", "N1"), says("failed", "A", "N1"),
        says("pending", "A", "N1"), says("pending", "A", "N1")],
    "rejected and understood": [
        garbage(0), garbage(0), understood(0), garbage(2), understood(2), says("failed", "A", "N1")],
    "another order key": [
        says("success", "A", "N1"), rekeyed(says("success", "A", "N1"), "B"), rekeyed(says("success", "A", "N1"), None),
        says("refund", "A"), rekeyed(says("refund", "A"), "B"), says("failed", "B", "N1")],
    "test numbers": [
        says("success", "A", "TEST1", "R1"), says("failed", "A", "TEST1"), says("failed", "A", None, "R1"),
        says("success", "A", None, "R1"), says("success", "A", "N1"), says("success", "B", "TEST1", amount=OTHER)],
    "a person registers": [
        REGISTER, REGISTER_OTHER, says("success", "A", "N1"), says("failed", "A", "N2"), says("success", "A", "N2", amount=OTHER),
        says("success", "A", "N3", currency="USD")],
    "a person decides": [
        PAID, CLOSED, says("success", "A", "N1"), says("success", "A", "N2"), says("failed", "A", "N1"), REGISTER],
    "a person assigns": [
        ("assign", {"number": 0, "order_ref": "A"}), ("assign", {"number": 1, "order_ref": "A"}), says("success", None, "N1"),
        says("success", "A", "N2"), says("failed", None, "N1"), ("settle", {"number": 0})],
}

POLICIES = {
    "defaults": DEFAULTS,
    "a test account": {"mode": "test"},
    "unknown orders go to review": {"unknown_orders": "review"},
    "late successes go to review": {"late_success": "review"},
    "verified by call-back": {"verify": "callback"},
    "no merchant row": {"known": False},
}


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


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("cast", CASTS)
def test_every_order_of_arrival(db, cast, policy):
    """Each choice of five of six (four with other policies than the defaults; one less in the short run), in each
    order: many stories in one call, whole and with pauses."""
    length = 3 + LONG + (policy == "defaults")
    orders = sorted(set(itertools.permutations(range(6), length)))
    sequences = list({repr(sequence): sequence for sequence in ([CASTS[cast][i] for i in order] for order in orders)}.values())
    tales = [told_to_model([POLICIES[policy]], [(0, step) for step in sequence]) for sequence in sequences]
    everywhere = tuple(range(1, length))
    ways = [(BATCH_MAX, everywhere), (BATCH_MAX, ()), (BATCH_MAX, (length - 2,)), (BATCH_MAX, (1,)), (7, ()), (1, ())]
    if policy != "defaults":
        ways = ways[1:4] if LONG else ways[3:4]
    elif not LONG:
        ways = ways[1:3]
    for width, pauses in ways:
        answers, found = told_side_by_side(db, tales, width, pauses)
        for n, (shops, steps, expected) in enumerate(tales):
            agree(steps, f"{width} a call, pauses after {pauses}", answers[n], expected, [found[n]], [rows_of(shops[0])])


@pytest.mark.parametrize("cast", CASTS)
def test_every_order_of_arrival_one_by_one(db, cast):
    """Each choice of three (in the long run four) of six, in each order, one delivery a call."""
    tales = [told_to_model([DEFAULTS], [(0, step) for step in sequence])
             for sequence in itertools.permutations(CASTS[cast], 4 if LONG else 3)]
    answers, found = told_side_by_side(db, tales, 1)
    for n, (shops, steps, expected) in enumerate(tales):
        agree(steps, "one by one", answers[n], expected, [found[n]], [rows_of(shops[0])])


# ---------------------------------------------------------------- 3. all at once


def test_many_at_once(db):
    """Several handlers and a shop at work on three hot orders: nothing fails, nothing is lost, nothing is paid twice."""
    threads, transactions = 6, 240 if LONG else 120
    merchant = db.merchant(Shop())
    refs = ["A", "B", "C"]
    chance = random.Random(len(refs))
    db.act(merchant, (0, 0), "register", {"order_ref": "A", "amount": HUNDRED, "currency": "AED"})

    pool = []
    for n in range(transactions):
        order_ref, no, ref = chance.choice(refs), f"N{n}", f"R{n}"
        pool.append(says("success", order_ref, no, ref)[1])
        pool.append(says("success", None, no, copy=1)[1])  # only its number
        if n % 3 == 0:
            pool.append(says("failed", order_ref, no, ref)[1])
        if n % 4 == 0:
            pool.append(says("success", order_ref, None, ref, copy=2)[1])  # only its reference
    told = Counter()
    wrong = []
    start = threading.Barrier(threads + 1)

    def handler(seed):
        luck = random.Random(seed)
        deliveries = pool[:]
        luck.shuffle(deliveries)
        waiting = [(merchant, d) for d in deliveries]
        verdicts = Counter()
        try:
            with db.connect("foloosi_handler") as connection:
                start.wait()
                while waiting:
                    size = luck.randrange(1, 65)
                    batch, waiting = waiting[:size], waiting[size:]
                    answers = record(connection, batch)
                    verdicts.update(outcome for outcome, *_ in answers)
                    busy = [pair for pair, (outcome, *_) in zip(batch, answers) if outcome == "busy"]
                    if busy:
                        waiting += busy
                        time.sleep(luck.random() * 0.01)
            told.update(verdicts)
        except Exception as e:  # noqa: BLE001 - the main thread reports it
            wrong.append(e)

    def shop():
        try:
            with db.connect("foloosi_operator") as connection:
                start.wait()
                for n in range(60):
                    connection.execute(ACTS["register"], {
                        "merchant": merchant, "order_ref": refs[n % 3], "amount": HUNDRED, "currency": "AED"})
                    time.sleep(0.005)
        except Exception as e:  # noqa: BLE001
            wrong.append(e)

    workers = [threading.Thread(target=handler, args=(seed,)) for seed in range(threads)] + [threading.Thread(target=shop)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
    assert not wrong, wrong
    assert not any(worker.is_alive() for worker in workers)
    assert told.pop("busy") > 0, "they were never in each other's way"
    rows = db.rows([merchant], (0, 0))[merchant]

    # every delivery is there once, every copy was counted and answered
    assert set(rows["deliveries"]) == {d["digest"][:16] for d in pool}
    assert sum(told.values()) == threads * len(pool)
    assert sum(repeats + 1 for *_, repeats in rows["deliveries"].values()) == threads * len(pool)
    assert set(told) <= {"recorded", "duplicate", "review"}, told

    # every transaction is there, captured, and once; numbers and references were brought together
    numbers = Counter(no for no, *_ in rows["transactions"] if no)
    assert set(numbers) == {f"N{n}" for n in range(transactions)} and max(numbers.values()) == 1

    # each order is paid by one of its transactions, and announced once; the others go back, once each
    events = Counter((type_, ref) for type_, ref, *_ in rows["events"])
    open_ = Counter(transaction for transaction, _, state, _ in rows["paybacks"] if state != "settled")
    assert max(open_.values()) == 1
    for ref in refs:
        state, *_, paying = rows["orders"][ref]
        assert state == "paid"
        assert events["order.success", ref] == 1 and events["order.cancel", ref] <= 1
        captured = {n for n, t in enumerate(rows["transactions"]) if t[2] == ref and t[3] == "captured"}
        returned = {transaction for transaction, of, _, reason in rows["paybacks"] if of == ref and reason == "double_payment"}
        assert paying in captured and paying not in returned
        checked = {transaction for transaction, of, _, reason in rows["paybacks"]
                   if of == ref and reason == "status_contradiction"}
        assert captured - {paying} <= returned | checked
        assert events["payback.due", ref] == len(returned)


def test_rejected_deliveries_have_a_quota(db):
    """A leaked token fills no disk: 1,000 an hour are kept, the others counted."""
    merchant = db.merchant(Shop())
    other = db.merchant(Shop())
    since = db.since()
    bad = [garbage(f"quota {n}")[1] for n in range(1005)]
    for first in range(0, len(bad), 201):
        for outcome, *_ in record(db.handler, [(merchant, d) for d in bad[first:first + 201]]):
            assert outcome == "rejected"
    record(db.handler, [(other, bad[0])])
    record(db.handler, [(merchant, bad[0])])  # a repeat of one that is kept costs nothing

    hours = db.operator.execute("select kept, dropped from foloosi.rejections where merchant = %s", (merchant,)).fetchall()
    kept = dict(db.operator.execute(
        "select id, repeats from foloosi.deliveries where merchant = %s and id > %s and outcome = 'rejected'",
        (merchant, since[0])).fetchall())
    bodies = {id_ for id_, in db.operator.execute("select delivery_id from foloosi.bodies where delivery_id > %s", (since[0],))}
    assert sum(k + d for k, d in hours) == 1005
    assert set(kept) <= bodies and sum(kept.values()) == 1
    if len(hours) == 1:  # else the hour has struck in between
        assert hours == [(1000, 5)] and len(kept) == 1000
    assert len(db.rows([other], since)[other]["deliveries"]) == 1
    assert record(db.handler, [(merchant, says("success", "A", "N1")[1])]) == [("recorded", None, "A", "paid")]
