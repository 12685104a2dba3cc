# SPDX-License-Identifier: MIT
"""No log of any server holds a token, a body or anything personal, whatever goes wrong.

Values that cannot be mistaken are sent along every way that there is, good and bad; then every
log of the run is searched for them: as they are, and as hexadecimal, base64 and percent escapes.
"""
import base64
import binascii
import pathlib
import socket
import time
import urllib.parse

import psycopg
import pytest

from support.site import BODY_LIMIT, FRONTS, SIGNATURE_SECRET, Request, Site, encode, new_order, scratch, transfer

PLANTED = {
    "customer_email": "planted.mailbox@secret-customer.example",
    "customer_mobile": "+971-55-PLANTED-0815",
    "card_last_four": "CARD-PLANTED-7351",
    "optional3": "planted words of the body",
    "password": "PlantedPassword9",
    "user": "planted-user",
}


@pytest.fixture(scope="module")
def own():
    site = Site(scratch(), log_level="debug")
    site.merchants["basic"]["basic_user"] = PLANTED["user"]
    site.merchants["basic"]["basic_password"] = PLANTED["password"]
    try:
        yield site.start()
    finally:
        site.close()


def planted(**more):
    api = {k: PLANTED[k] for k in ("customer_email", "customer_mobile", "card_last_four", "optional3")}
    return transfer(**{**api, **more})


def spellings(value):
    raw = value.encode()
    yield value
    yield binascii.hexlify(raw).decode()
    yield urllib.parse.quote(value, safe="")
    for shift in range(3):  # base64 of a longer text with the value in it
        coded = base64.b64encode(b"x" * shift + raw).decode()
        yield coded[4 if shift else 0:-4]


def raw(front, data):
    """Bytes that need not be HTTP."""
    with socket.create_connection(("127.0.0.1", front.port), 5) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        s.settimeout(5)
        try:
            while s.recv(65536):
                pass
        except OSError:
            pass


def everything(site, front):
    """Each answer of the table, and requests that deserve none."""
    path, body = site.path(), encode(planted())
    token = site.tokens["shop"]
    secrets = [("Authorization", "Basic " + base64.b64encode(f"{PLANTED['user']}:{PLANTED['password']}".encode()).decode()),
               ("Referer", f"http://localhost{path}"), ("X-Email", PLANTED["customer_email"])]

    def send(path=path, method="POST", body=body, **more):
        return front.send(Request(path, method, body, headers=secrets, **more)).status

    assert send() == 200
    assert send() == 200  # repeated
    assert send(body=encode(planted(status="failed"))) == 200
    assert send(body=encode(planted(status=PLANTED["customer_email"]))) == 200  # a status as long as it is wrong
    for wrong in (path + "/", path + "x", f"/webhooks/foloosi/nobody/{token}", f"/webhooks/foloosi/{token}",
                  f"/webhooks/foloosi/{token}/shop", f"/webhooks/%66oloosi/shop/{token}", f"//webhooks/foloosi/shop/{token}x"):
        assert send(wrong) == 404, wrong
    assert send(path + f"?email={PLANTED['customer_email']}") == 200
    assert send(method="GET") == 200
    assert send(method="HEAD") == 200
    assert send(method="PUT") == 405
    assert send(site.path("basic")) == 200
    assert front.send(Request(site.path("basic"), body=body, headers=secrets[1:])).status == 401
    assert send(body=body + b" " * BODY_LIMIT) == 413
    assert send(body=body * 3000, pieces=10) == 413
    assert send(type="text/html") == 415
    assert send(body=body[:-1]) == 400
    assert send(body=body + body) == 400
    assert send(body=encode(planted(optional1={"x": PLANTED["customer_email"]}))) == 422
    assert send(body=encode(planted(optional1=PLANTED["customer_email"] * 20))) == 422
    assert send(body=encode(planted(number=[PLANTED["customer_mobile"]]))) == 422
    assert send(body=encode(planted(customer_mobile=[PLANTED["customer_mobile"]]))) == 200  # what does not decide refuses nothing
    assert send(body=encode(planted(customer_email=PLANTED["customer_email"] * 20))) == 200
    conflict = planted()
    assert send(body=encode(conflict)) == 200
    conflict["data"]["transfer"]["transaction_amount"] = "999"
    assert send(body=encode(conflict)) == 200
    front.cut_short(Request(path, body=body, announced=len(body) + 9))
    if front.name != "bare":
        target = path.encode()
        for line in (b"POST %s HTTP/1.1\r\n\r\n", b"POST %s HTTP/1.1\r\nHost: a b\r\n\r\n", b"BR@W %s HTTP/1.1\r\nHost: a\r\n\r\n",
                     b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", b"POST %s%%00 HTTP/1.1\r\nHost: a\r\n\r\n",
                     b"POST %s%%zz HTTP/1.1\r\nHost: a\r\n\r\n", b"POST %s HTTP/9.9\r\nHost: a\r\n\r\n", b"POST %s\r\n\r\n", b"%s\r\n\r\n",
                     b"POST %s" + b"x" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
                     b"POST %s HTTP/1.1\r\nHost: a\r\nBroken header\r\n\r\n",
                     b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
                     b"TRACE %s HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT %s HTTP/1.1\r\nHost: a\r\n\r\n"):
            raw(front, line % target)


def test_no_log_holds_a_secret(own):
    # As talkative as an operator may make PostgreSQL.
    for name, value in {"log_min_duration_statement": "0", "log_connections": "on", "log_disconnections": "on",
                        "log_lock_waits": "on", "deadlock_timeout": "100ms", "log_error_verbosity": "verbose"}.items():
        own.query(f"alter system set {name} = '{value}'")
    own.query("select pg_reload_conf()")
    own.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'foloosi_handler'")
    time.sleep(0.3)

    fronts = [own.front(name) for name in FRONTS]
    for front in fronts:
        everything(own, front)

    body = encode(planted())

    def send(front):
        return front.send(Request(own.path(), body=body)).status

    # A merchant's own trigger that fails, with the row in its message.
    own.query("""create function public.fails() returns trigger language plpgsql as
        $$ begin raise exception 'hook: % %', new, (select string_agg(t::text, ' ') from foloosi.transactions t); end $$""")
    own.query("create trigger hook before insert or update on foloosi.orders for each row execute function public.fails()")
    for front in fronts:
        assert front.send(Request(own.path(), body=encode(planted()))).status == 200
    own.query("drop trigger hook on foloosi.orders")

    # Rows that the database refuses, with the row in DETAIL.
    own.query("alter table foloosi.transactions add constraint refuses check (customer_email is null) not valid")
    for front in fronts:
        front.send(Request(own.path(), body=encode(planted())))
    own.query("alter table foloosi.transactions drop constraint refuses")

    # A lock, waited for and given up.
    order = new_order()
    fronts[0].send(Request(own.path(), body=encode(planted(order=order, status="failed"))))
    with own.postgres.connect() as c:
        c.execute("begin; select 1 from foloosi.orders for update")
        assert fronts[0].send(Request(own.path(), body=encode(planted(order=order)))).status == 503
        c.execute("rollback; begin; lock table foloosi.transactions in access exclusive mode")
        assert fronts[0].send(Request(own.path(), body=encode(planted()))).status == 503
        c.execute("rollback")

    # What a person types, and the database refuses. (A server that logs every statement has these too.)
    own.query("alter system reset log_min_duration_statement")
    own.query("select pg_reload_conf()")
    time.sleep(0.3)
    with own.postgres.connect("foloosi_operator") as c:
        for call in ("select foloosi.register_order('shop', 'x', 'no amount {0}', 'AED')",
                     "select foloosi.resolve_order('{0}', '{0}', 'paid', '{0}')",
                     "select foloosi.settle_payback(-1, '{0}')", "select foloosi.withdraw_payback(-1, '{0}')", "select foloosi.reopen_payback(-1, '{0}')",
                     "select foloosi.record_refund(-1, 1, '{0}')", "select foloosi.assign_transaction(-1, '{0}', true, '{0}')",
                     "select foloosi.unassign_transaction(-1, '{0}')", "select foloosi.set_merchant('{0}', time_zone => '{0}')",
                     "select customer_email::int from foloosi.transactions where customer_email = '{0}'"):
            with pytest.raises(psycopg.Error):
                c.execute(call.format(PLANTED["customer_email"]))

    own.postgres.stop()
    for front in fronts:
        assert send(front) == 503
        assert front.send(Request(own.path(), body=body + b"x")).status == 503
    own.postgres.start()

    assert own.handler.stop() == 0
    for front in fronts[:2]:
        assert front.send(Request(own.path(), body=body)).status == 503
        assert front.send(Request(own.path(), body=body * 2000)).status in (413, 503)
    own.handler.socket.unlink(missing_ok=True)
    for front in fronts[:2]:
        assert send(front) == 503
    own.stop()

    # All this did arrive, so that the search below can find something …
    logs = {p.relative_to(own.home): p.read_text(errors="replace") for p in pathlib.Path(own.logs).rglob("*") if p.is_file()}
    assert len(logs) >= 12, sorted(logs)
    everything_said = "\n".join(logs.values())
    for expected in ("outcome=recorded", "outcome=not_found", "outcome=unauthorized", "outcome=too_large",
                     "/webhooks/foloosi/...", "duration:", "record_deliveries", "AH02454"):
        assert expected in everything_said, expected

    # … and here it is not.
    values = dict(PLANTED, **{f"token of {m}": t for m, t in own.tokens.items()}, another_token=own.second_token,
                  signature_secret=SIGNATURE_SECRET[6:], member="transaction_status\":")
    leaks = [(what, str(log), line[:300])
             for what, value in values.items() for spelling in spellings(value)
             for log, text in logs.items() if spelling in text
             for line in text.splitlines() if spelling in line]
    assert not leaks, "\n".join(map(str, leaks[:20]))
