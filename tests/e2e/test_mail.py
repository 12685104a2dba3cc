# SPDX-License-Identifier: MIT
"""Mails to customers, over real SMTP: aiosmtpd on loopback, which refuses, greylists and hangs as the test wants.

What arrives is read by Python's own parser of mail, which notes every defect.
"""
import asyncio
import decimal
import email
import email.policy
import email.utils
import itertools
import random
import re
import ssl
import subprocess
import threading
import time

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from support import stack
from support.endpoint import Endpoint
from support.worker_site import SECRETS, WorkerSite, until

numbers = itertools.count(1)
PAID = """Subject: Заказ {order_ref} is paid

Thank you: {amount} {currency} for {optional2}, transaction {transaction_no}. {{ok}
.
.. a line of dots, and one = that is long: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
€
"""
REFUNDED = "Subject: Order {order_ref}: money back\n\n{refunded} of {amount} {currency}\n"
CANCELLED = "Subject: Order {order_ref} is cancelled\n\nSorry. {transaction_message}\n"


class Letter:
    def __init__(self, envelope):
        self.sender, self.recipients, self.bytes = envelope.mail_from, list(envelope.rcpt_tos), envelope.content
        self.mail = email.message_from_bytes(self.bytes, policy=email.policy.SMTP)

    def __getattr__(self, name):
        return self.mail[name.replace("_", "-")]

    @property
    def body(self):
        return self.mail.get_content().replace("\r\n", "\n")


class Office:
    """A mail server. rcpt, data: what it replies, a string or a function of the envelope that returns one; None: 250."""

    def __init__(self, port=0, **options):
        self.letters, self.rcpt, self.data, self.quit_delay = [], None, None, 0
        self.lock = threading.Lock()
        self.port = port or stack.free_port()
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port, **options)
        self.controller.start()

    async def handle_RCPT(self, _server, _session, envelope, address, options):
        reply = self.rcpt(address) if callable(self.rcpt) else self.rcpt
        if reply:
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):
        letter = Letter(envelope)
        reply = self.data(letter) if callable(self.data) else self.data
        if asyncio.iscoroutine(reply):
            reply = await reply
        if reply is None or reply.startswith("250"):
            with self.lock:
                self.letters.append(letter)
        return reply or "250 OK"

    async def handle_QUIT(self, *_):
        await asyncio.sleep(self.quit_delay)
        return "221 Bye"

    @property
    def url(self):
        return f"smtp://127.0.0.1:{self.port}"

    def to(self, address):
        with self.lock:
            return [x for x in self.letters if address in x.recipients]

    def close(self):
        if not self.controller.loop.is_closed():
            self.controller.stop(no_assert=True)


@pytest.fixture(scope="module")
def site():
    site = WorkerSite()
    for name, text in (("paid.txt", PAID), ("cancelled.txt", CANCELLED), ("refunded.txt", REFUNDED)):
        (site.home / name).write_text(text)
        (site.home / name).chmod(0o644)
    try:
        yield site
    finally:
        site.close()


@pytest.fixture
def office():
    office = Office()
    yield office
    office.close()


class Shop:
    """A merchant that mails, and one worker or more."""

    def __init__(self, site, office, workers=1, merchant=None, **settings):
        self.site, self.office = site, office
        self.name = site.merchant()
        self.settings = {"mail_from": "orders@shop.example", "mail_name": "Le Café: \"Shop\"", "mail_success": site.home / "paid.txt",
                         "mail_cancel": site.home / "cancelled.txt", "mail_refund": site.home / "refunded.txt", **(merchant or {})}
        settings = {"smtp_url": office.url, "smtp_tls": "no", **settings}
        self.workers = [site.worker({self.name: self.settings}, **settings) for _ in range(workers)]
        until("the consumer", lambda: site.pg.query("select 1 from foloosi.consumers where consumer = %s", [self.consumer]))

    @property
    def consumer(self):
        return f"{self.name}/mail"

    def pay(self, status="success", address="", c=None, **fields):
        """One delivery. Returns order and address."""
        n = next(numbers)
        address = f"customer-{n}@example.com" if address == "" else address
        fields = {"order_ref": f"M-{n}", "transaction_no": f"MNO-{n}", "optional2": "Online Class", "amount": decimal.Decimal("100.50"), "currency": "AED", **fields}
        names = ", ".join(f"{k} => %({k})s" for k in fields)
        sql = f"select outcome from foloosi.record_delivery(%(merchant)s, %(status)s, customer_email => %(address)s, {names})"
        arguments = {"merchant": self.name, "status": status, "address": address, **fields}
        c.execute(sql, arguments) if c else self.site.pg.query(sql, arguments)
        return fields["order_ref"], address

    def left(self):
        return self.site.left(self.name)

    def done(self):
        """Has the worker seen everything, and is nothing left?"""
        return self.site.pg.query(
            "select 1 from foloosi.consumers c where c.consumer = %s and c.position >= (select max(id) from foloosi.events)"
            " and not exists (select from foloosi.dispatches d where d.consumer_id = c.id)", [self.consumer]) != []

    def log(self):
        return "".join(w.log.read_text() for w in self.workers)

    def close(self):
        for w in self.workers:
            if w.alive():
                assert w.stop() == 0
        assert "@" not in self.log()


@pytest.fixture
def shop(site, office):
    shop = Shop(site, office)
    yield shop
    shop.close()


# -- what arrives ----------------------------------------------------------------------------


def test_a_customer_is_told(shop):
    order, address = shop.pay()
    until("the mail", lambda: shop.office.letters)
    letter, = shop.office.letters
    assert (letter.sender, letter.recipients) == ("orders@shop.example", [address])
    assert letter.mail.defects == [] and all(h.defects == () for h in letter.mail.values())
    assert letter.From.addresses[0].addr_spec == "orders@shop.example" and letter.From.addresses[0].display_name == "Le Café: \"Shop\""
    assert [a.addr_spec for a in letter.To.addresses] == [address]
    assert letter.subject == f"Заказ {order} is paid"
    assert letter.mail.get_content_type() == "text/plain" and letter.mail.get_content_charset() == "utf-8"
    (no, event, at), = shop.site.pg.query("select t.transaction_no, e.id, e.created_at from foloosi.events e join foloosi.transactions t"
                                           " on t.id = e.transaction_id where e.order_ref = %s", [order])
    fields = {"{amount}": "100.50", "{currency}": "AED", "{optional2}": "Online Class", "{transaction_no}": no, "{{": "{"}
    body = PAID.split("\n\n", 1)[1]
    for name, value in fields.items():
        body = body.replace(name, value)
    assert letter.body == body
    assert abs(letter.date.datetime.timestamp() - at.timestamp()) <= 1
    assert letter.message_id == f"<{event}.{int(at.timestamp())}.{at.second * 1000000 + at.microsecond}@shop.example>"
    assert letter.bytes.isascii() and max(map(len, letter.bytes.split(b"\r\n"))) <= 76
    until("the report", shop.done)


def test_both_kinds_in_order(shop):
    with shop.site.pg.connect() as c, c.transaction():
        order, address = shop.pay("failed", c=c, transaction_message="Карта отклонена")
        shop.pay("success", address=address, c=c, order_ref=order)
        shop.pay("success", address=address, c=c, order_ref=order)  # payback.due: none of the customer's business
    until("the mails", shop.done)
    assert [x.subject for x in shop.office.to(address)] == [f"Order {order} is cancelled", f"Заказ {order} is paid"]
    assert shop.office.to(address)[0].body == "Sorry. Карта отклонена\n"


def test_refunds(shop):
    """A part, then all: what is known to have gone back, with the currency's decimals."""
    order, address = shop.pay(transaction_no="MR-1", amount=decimal.Decimal("18.605"), currency="KWD")
    shop.pay("refund", address=None, order_ref=order, transaction_no="MR-1", amount=decimal.Decimal("8.6"), currency="KWD")
    until("two mails", lambda: len(shop.office.to(address)) == 2)
    shop.pay("refund", address=None, order_ref=order, transaction_no="MR-1", amount=None, currency=None)
    until("the mails", lambda: len(shop.office.to(address)) == 3 and shop.done())
    assert [x.subject for x in shop.office.to(address)][1:] == [f"Order {order}: money back"] * 2
    assert [x.body for x in shop.office.to(address)][1:] == ["8.600 of 18.605 KWD\n", "18.605 of 18.605 KWD\n"]


def test_only_what_has_a_template(site, office):
    shop = Shop(site, office, merchant={"mail_cancel": []})
    shop.pay("failed")
    _, address = shop.pay()
    until("the mail", lambda: office.letters and shop.done())
    assert [x.recipients for x in office.letters] == [[address]]
    assert "there is no template for it" in shop.log()
    shop.close()


def test_off_by_default(site, office):
    merchant = site.merchant()
    endpoint = Endpoint()
    worker = site.worker({merchant: {"event_url": endpoint.url(), "event_secret": SECRETS[0]}}, smtp_url=office.url, smtp_tls="no")
    site.known(merchant)
    site.deliver(merchant)
    until("the event", lambda: endpoint.requests)
    assert site.pg.query("select consumer from foloosi.consumers where merchant = %s and consumer like '%%mail%%'", [merchant]) == []
    assert office.letters == [] and worker.stop() == 0
    endpoint.close()


# -- which addresses -----------------------------------------------------------------------


HOSTILE = ["a@b.c\r\nBcc: victim@example.com", "a@b.c\nDATA\n", "victim@example.com, other@example.com", "victim@example.com,other@example.com",
           "victim@example.com other@example.com", "<victim@example.com>", "x><victim@example.com", "Name <victim@example.com>",
           "victim@example.com>\r\nRCPT TO:<other@example.com", "victim@example.com;other@example.com", "\"a b\"@example.com",
           "müller@example.com", "victim@exämple.com", "victim@localhost", "victim@[127.0.0.1]", "@example.com", "victim", "victim@",
           "a" * 65 + "@example.com", "a" * 300 + "@example.com", "vic\ttim@example.com", "vic tim@example.com", " ", "victim@example.com\x7f", "victim@example.com\u2028x"]


def test_hostile_addresses_are_not_mailed(shop):
    with shop.site.pg.connect() as c:
        for address in HOSTILE:
            shop.pay(address=address, c=c)
        shop.pay(address=None, c=c)
    _, good = shop.pay()
    until("the good one", lambda: shop.office.to(good) and shop.done())
    assert len(shop.office.letters) == 1
    assert shop.log().count("the transaction's address is not valid") == len(HOSTILE)
    assert shop.log().count("the transaction has no address") == 1
    assert shop.site.attention(shop.name) == []


@pytest.mark.parametrize("around", ["%s ", " %s", "%s\r\n", "\u00a0%s\u3000"])
def test_an_address_with_white_space_around_it_gets_its_mail(shop, around):
    """Also one that an older decoder has stored: record_delivery() takes it as it comes."""
    good = f"blank-{next(numbers)}@example.com"
    shop.pay(address=around % good)
    until("the mail", lambda: shop.office.to(good) and shop.done())
    assert "not valid" not in shop.log()


@pytest.mark.parametrize(("amount", "currency", "shown"), [("100.5", "AED", "100.50"), ("18.605", "KWD", "18.605"), ("1500", "JPY", "1500"), ("1500.00", "JPY", "1500")])
def test_amounts_have_their_currencys_decimals(shop, amount, currency, shown):
    _, address = shop.pay(amount=decimal.Decimal(amount), currency=currency)
    until("the mail", lambda: shop.office.to(address))
    assert f"Thank you: {shown} {currency} for" in shop.office.to(address)[0].body


@pytest.mark.parametrize("field", ["order_ref", "optional2", "transaction_no"])
def test_hostile_fields_stay_where_they_are(site, office, field):
    (site.home / f"all-{field}.txt").write_text(f"Subject: {{{field}}}\n\n{{{field}}}\n")
    (site.home / f"all-{field}.txt").chmod(0o644)
    shop = Shop(site, office, merchant={"mail_success": site.home / f"all-{field}.txt"})
    for value in ["x\r\nBcc: victim@example.com", "x\r\n\r\n<html>", "\r\n.\r\nMAIL FROM:<a@b.c>", "=?UTF-8?Q?x=0D=0ABcc:_v?=", "y" * 120 + "\n.\n", "🎉" * 30, "\x01\x1b[2J", "{amount}"]:
        value = value.replace("x", f"x{next(numbers)}", 1)
        before = len(office.letters)
        if field == "transaction_no":
            value = value[:60]
            shop.site.pg.query("select outcome from foloosi.record_delivery(%s, 'success', %s, %s, amount => 1, currency => 'AED', customer_email => 'c@example.com')",
                                [shop.name, f"H-{next(numbers)}", value])
        else:
            shop.pay(address="c@example.com", **{field: value})
        until("the mail", lambda: len(office.letters) > before)
        letter = office.letters[-1]
        assert [k.lower() for k in letter.mail.keys()] == ["date", "from", "to", "message-id", "subject", "mime-version", "content-type",
                                                           "content-transfer-encoding", "auto-submitted"]
        assert letter.recipients == ["c@example.com"] and letter.mail.defects == []
        value = value.strip() if field == "order_ref" else value  # clean_key()
        plain = "".join(" " if c < " " or c == "\x7f" else c for c in value)
        assert letter.body.rstrip("\n") == plain
        assert letter.bytes.isascii() and max(map(len, letter.bytes.split(b"\r\n"))) <= 78
    shop.close()


# -- what goes wrong -------------------------------------------------------------------------


def test_5xx_waits_for_a_person_at_once(shop):
    shop.office.rcpt = lambda address: "550 no such user here" if address.startswith("nobody") else None
    order, _ = shop.pay(address="nobody@example.com")
    _, good = shop.pay()
    until("the other", lambda: shop.office.to(good))
    until("the report", lambda: [(r[1], r[2], r[3], r[4]) for r in shop.left()] == [("dead", 1, 550, "SMTP 550")])
    (kind, ref, reason, detail, remedy), = shop.site.attention(shop.name)
    assert (kind, ref, reason) == ("event", order, "SMTP 550") and shop.consumer in remedy and "@" not in detail + remedy
    shop.office.rcpt = None
    again = subprocess.run([stack.built("foloosictl"), "events", "retry", shop.consumer, "--database", shop.site.pg.conninfo("foloosi_operator")],
                           capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, "1 events will be handed out again\n"), again.stderr
    until("the dead letter", lambda: shop.office.to("nobody@example.com") and shop.done())


@pytest.mark.parametrize("where, reply, status", [("rcpt", "451 greylisted", 451), ("data", "452 full", 452), ("data", "554 spam", 554)])
def test_what_fails_is_tried_again_with_the_same_mail(shop, where, reply, status):
    seen = []
    if where == "rcpt":
        shop.office.rcpt = reply
    else:
        shop.office.data = lambda letter: seen.append(letter.bytes) or reply
    _, address = shop.pay()
    until("the report", lambda: [(r[2], r[3], r[4]) for r in shop.left()] == [(1, status, f"SMTP {status}")])
    assert shop.left()[0][1] == ("dead" if status >= 500 else "waiting")
    shop.office.rcpt = None
    shop.office.data = lambda letter: seen.append(letter.bytes)
    if status >= 500:
        shop.site.pg.query("select foloosi.retry_events(%s)", [shop.consumer])
    until("the mail", lambda: shop.site.hurry(shop.name) or shop.office.to(address))
    assert len(set(seen)) == 1
    until("the report", shop.done)


def test_nobody_listens_then_somebody_does(site, office):
    port = office.port
    office.close()
    shop = Shop(site, office)
    orders = [shop.pay() for _ in range(6)]
    until("the reports", lambda: [r[4] for r in shop.left()].count("nobody listens there, or the network is down") >= 5)
    until("the circuit", lambda: site.consumer(shop.name)[2])
    assert site.attention(shop.name) == []  # not yet
    office = Office(port)
    until("the mails", lambda: site.hurry(shop.name) or all(office.to(a) for _, a in orders))
    until("the report", shop.done)
    assert len(office.letters) == 6
    shop.office = office
    shop.close()
    office.close()


def test_a_slow_mail_server_holds_up_no_endpoint(site, office):
    """libcurl waits for the reply to a mail's end within its call: the thread of HTTP must not notice."""
    gate = threading.Event()

    async def slow(_):
        while not gate.is_set():
            await asyncio.sleep(0.01)

    office.data = slow
    endpoint = Endpoint()
    shop = Shop(site, office, merchant={"event_url": endpoint.url(), "event_secret": SECRETS[0]})
    until("the consumers", lambda: len(site.consumer(shop.name)) == 2)
    order, address = shop.pay()
    more = [shop.pay()[0] for _ in range(3)]
    until("the events", lambda: {order, *more} <= set(endpoint.orders()))
    assert office.letters == []
    gate.set()
    until("the mails", lambda: len(office.letters) == 4)
    shop.close()
    endpoint.close()


# -- TLS and passwords -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(site):
    key, certificate = site.home / "key.pem", site.home / "cert.pem"
    subprocess.run([stack.program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    certificate.chmod(0o644)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    (site.home / "smtp.auth").write_text("robot:pass:wörd\n")
    stack.give(site.home / "smtp.auth", "www-data", mode=0o600)
    return context, certificate


def authenticator(accepted):
    def check(_server, _session, _envelope, mechanism, data):
        ok = isinstance(data, LoginPassword) and (data.login, data.password) == (b"robot", "pass:wörd".encode())
        accepted.append((mechanism, ok))
        return AuthResult(success=ok)
    return check


def test_starttls_and_a_password(site, certificate):
    context, ca = certificate
    tries = []
    office = Office(tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticator(tries))
    shop = Shop(site, office, smtp_tls="yes", smtp_ca_file=ca, smtp_auth_file=site.home / "smtp.auth")
    _, address = shop.pay()
    until("the mail", lambda: office.to(address))
    assert tries and all(ok for _, ok in tries)
    shop.close()
    office.close()


def test_smtps(site, certificate):
    context, ca = certificate
    office = Office(ssl_context=context)
    shop = Shop(site, office, smtp_tls="yes", smtp_ca_file=ca, smtp_url=office.url.replace("smtp:", "smtps:"))
    _, address = shop.pay()
    until("the mail", lambda: office.to(address))
    shop.close()
    office.close()


def test_no_tls_no_mail(site, office, certificate):
    shop = Shop(site, office, smtp_tls="yes", smtp_auth_file=site.home / "smtp.auth")
    shop.pay()
    until("the report", lambda: [r[4] for r in shop.left()] == ["the server does not offer STARTTLS"])
    assert office.letters == []
    shop.close()


def test_an_unknown_certificate_is_refused(site, certificate):
    office = Office(tls_context=certificate[0], require_starttls=True)
    shop = Shop(site, office, smtp_tls="yes")
    shop.pay()
    until("the report", lambda: [r[4] for r in shop.left()] == ["TLS: the certificate is not valid, or the handshake failed"])
    shop.close()
    office.close()


def test_a_wrong_password_is_no_fault_of_the_mail(site, certificate):
    office = Office(auth_required=True, auth_require_tls=False, authenticator=lambda *_: AuthResult(success=False, handled=False))
    shop = Shop(site, office, smtp_auth_file=site.home / "smtp.auth")
    shop.pay()
    until("the report", lambda: [(r[1], r[4]) for r in shop.left()] == [("waiting", "the server refuses user or password")])
    shop.close()
    office.close()


def test_what_commits_while_it_is_handed_out_is_mailed(site, office):
    """An event that commits after the question began and before it is answered."""
    shop = Shop(site, office)
    gate = 4711
    with site.pg.connect() as c:
        c.execute("alter function foloosi.feed rename to feed_at_once")
        c.execute(f"""create function foloosi.feed(p_id int, n int) returns int language plpgsql as $$
            begin perform pg_advisory_xact_lock({gate}); return foloosi.feed_at_once(p_id, n); end $$""")
        try:
            c.execute("select pg_advisory_lock(%s)", [gate])
            until("the question", lambda: site.pg.query("select 1 from pg_locks where locktype = 'advisory' and not granted and objid = %s", [gate]))
            _, address = shop.pay()
            c.execute("select pg_advisory_unlock(%s)", [gate])
            until("the mail", lambda: office.to(address))
        finally:
            c.execute("select pg_advisory_unlock_all()")
            c.execute("drop function foloosi.feed")
            c.execute("alter function foloosi.feed_at_once rename to feed")
    shop.close()


# -- once ------------------------------------------------------------------------------------


def test_once_by_several_workers(site, office):
    shop = Shop(site, office, workers=3)
    with site.pg.connect() as c:
        paid = [shop.pay(c=c) for _ in range(60)]
    until("the mails", shop.done)
    assert sorted(x.recipients for x in office.letters) == sorted([a] for _, a in paid)
    shop.close()


def test_sigterm_waits_for_the_mail(site, office):
    entered = threading.Event()

    async def slow(_):
        entered.set()
        await asyncio.sleep(1)

    office.data = slow
    shop = Shop(site, office)
    _, address = shop.pay()
    assert entered.wait(20)
    assert shop.workers[0].stop() == 0
    assert len(office.to(address)) == 1 and shop.left() == []
    shop.close()


def test_a_server_that_takes_no_leave_holds_up_no_stop(shop):
    _, address = shop.pay()
    until("the mail", lambda: shop.office.to(address) and shop.done())
    shop.office.quit_delay = 60
    assert shop.workers[0].stop() == 0  # within 20 s, or it is killed


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_killed_at_random(site, office, seed):
    """Every customer gets a mail; there are as many second ones as a kill can leave in doubt, and they are the same."""
    r = random.Random(seed)

    async def moody(_):
        await asyncio.sleep(r.random() * 0.02)
        return "451 not now" if r.random() < 0.1 else None

    office.data = moody
    shop = Shop(site, office, workers=2)
    paid, kills = [], 0
    for _ in range(8):
        with site.pg.connect() as c:
            paid += [shop.pay(r.choice(["success", "failed"]), c=c) for _ in range(5)]
        site.hurry(shop.name)
        time.sleep(r.random() * 0.1)
        if r.random() < 0.5:
            kills += 1
            victim = r.choice(shop.workers)
            victim.process.kill()
            victim.process.wait()
            victim.start()

    def done():  # leases of the dead run out after minutes: here at once, but for those that are younger than a mail may take
        site.pg.query("update foloosi.dispatches d set due_at = now() from foloosi.consumers c where c.id = d.consumer_id and c.consumer = %s"
                       " and (d.state = 'waiting' or d.due_at < now() + interval '145 seconds')", [shop.consumer])
        site.hurry(shop.name)
        return shop.done()

    until("every mail", done, 60)
    twice = 0
    for _, address in paid:
        letters = office.to(address)
        assert letters
        assert len({x.bytes for x in letters}) == 1
        twice += len(letters) - 1
    assert twice <= 4 * kills
    shop.close()


def test_the_decimals_of_currencies_are_alike_in_c_and_in_sql():
    in_c = dict(re.findall(r'\{"([A-Z]{3})", (\d)\}', (stack.ROOT / "cgi-src/lib/money.c").read_text()))
    in_sql = {code: decimals for codes, decimals in re.findall(r"in \(([^)]*)\) then (\d)", (stack.ROOT / "sql/functions/money.sql").read_text())
              for code in re.findall("[A-Z]{3}", codes)}
    assert in_c == in_sql and len(in_c) > 20
