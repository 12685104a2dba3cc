# SPDX-License-Identifier: MIT
"""Senders as they really are: identifiers with white space, cosmetic fields of any kind, odd HTTP; through every front."""
import json
import os
import subprocess

import pytest

from support import stack
from support.answers import is_problem
from support.site import BODY_LIMIT, Request, Site, SpoolSite, encode, new_order, schema_of_version, scratch, transfer


def post(front, site, body, merchant="shop", **more):
    body = body if isinstance(body, bytes) else encode(body)
    return front.send(Request(site.path(merchant), body=body, **more))


def members(body, **more):
    body["data"]["transfer"].update(more)
    return body


def operator(site, *args):
    """What foloosictl prints."""
    env = {**os.environ, "PGHOST": str(site.postgres.socket_dir), "PGPORT": str(site.postgres.port), "PGUSER": "foloosi_operator",
           "PGDATABASE": stack.DATABASE, "FOLOOSI_WEBHOOK_CONFIG": str(site.handler.config.path)}
    return subprocess.run([stack.built("foloosictl"), *args], env=env, capture_output=True, text=True, check=True, timeout=60).stdout


def transaction(site, order):
    (row,) = site.query(
        "select payment_reference, transaction_message, optional1, optional2, optional3, customer_email, customer_mobile,"
        " card_last_four from foloosi.transactions where order_ref = %s", [order])
    return dict(zip(("reference", "message", "optional1", "optional2", "optional3", "email", "mobile", "card"), row))


# -- identifiers ------------------------------------------------------------------------------------

AROUND = {"blank": " ", "CRLF": "\r\n", "tab": "\t", "NBSP": "\u00a0", "U+3000": "\u3000", "mark": "\ufeff", "zero width": "\u200b\u200d"}


@pytest.mark.parametrize("what", AROUND)
def test_white_space_around_a_key_is_no_other_order(front, site, what):
    white, order = AROUND[what], new_order()
    site.query("select foloosi.register_order('shop', %s, 100, 'AED')", [order])
    answer = post(front, site, transfer(order=order + white))
    assert (answer.outcome, answer.json["order"]) == ("recorded", {"ref": order, "state": "paid"})
    again = post(front, site, transfer(order=white + order, number="N" + new_order()))
    assert again.json["order"] == {"ref": order, "state": "paid"}  # a second payment of this order, not of another
    assert site.query("select count(*) from foloosi.orders where order_ref like %s", ["%" + order + "%"]) == [(1,)]
    assert site.query(
        "select optional1 from foloosi.transactions where order_ref = %s order by id limit 1", [order]) == [(order + white,)]


def test_white_space_around_what_names_a_transaction(front, site):
    order, number, reference = new_order(), "N" + new_order(), "R" + new_order()
    first = members(transfer("failed", order), transaction_no=number, payment_reference=reference)
    assert post(front, site, first).json["order"]["state"] == "cancelled"
    second = members(transfer("success", order), transaction_no=f" {number}\r\n", payment_reference=f"{reference}\u00a0",
                     transaction_status="Success ", transaction_currency=" aed\n")
    assert post(front, site, second).json["order"]["state"] == "paid"
    assert site.query("select count(*) from foloosi.transactions where order_ref = %s", [order]) == [(1,)]


@pytest.mark.parametrize("key", ["", " ", "\u3000", "undefined", "null", "NaN", "[object Object]", " undefined\n"])
def test_a_key_of_a_broken_shop_is_none(front, site, key):
    answer = post(front, site, transfer(optional1=key))
    assert (answer.status, answer.outcome, answer.json["order"], answer.json["reason"]) == (200, "review", None, "no_order_key")


def test_a_key_of_a_broken_shop_behind_its_prefix(front, site):
    answer = post(front, site, transfer(optional2="SHOP-undefined"), "prefixed")
    assert (answer.outcome, answer.json["order"]) == ("review", None)
    order = new_order()
    assert post(front, site, transfer(optional2=f" SHOP- {order}\t"), "prefixed").json["order"] == {"ref": order, "state": "paid"}


def test_strangers_with_one_broken_key_share_no_order(front, site):
    for key in ("undefined", "[object Object]", "\u3000", None):
        first, second = transfer(optional1=key), transfer(optional1=key)
        for body in (first, second):
            answer = post(front, site, body)
            assert (answer.status, answer.outcome, answer.json["order"], answer.json["reason"]) == (200, "review", None, "no_order_key")
        assert site.query("select count(*), count(order_ref) from foloosi.transactions where transaction_no = any (%s)",
                          [[b["data"]["transfer"]["transaction_no"] for b in (first, second)]]) == [(2, 0)]
    assert site.query("select count(*) from foloosi.orders where order_ref in ('undefined', '[object Object]', '')") == [(0,)]


@pytest.mark.parametrize("name", ["Undefined", "NULL", "nan", "[object object]", "undefined null", "none", "0", "false"])
def test_a_key_that_only_looks_broken_is_one(site, name):
    """Which of these a shop uses is not ours to know; a merchant of its own, so that none is known."""
    front = site.front("bare")
    assert post(front, site, transfer(order=name), "hushed").json["order"]["ref"] == name
    assert json.loads(operator(site, "order", "--json", "--merchant", "hushed", name))["order"]["order_ref"] == name


HOSTILE = ["\x1b[2J\x1b]0;owned\x07", "'; drop table foloosi.orders; --", "$(reboot)", "漢字の注文", "e\u0301clair", "\u202etxt.exe",
           "tab\tand\nline", "%s%n", "\\x41", "--help", "😀", "../../etc/passwd", "<script>", "A\u200b1", "A\u00a01"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_lose_what_is_around_them_and_nothing_else(front, site, name):
    order = name + new_order()
    site.query("select foloosi.register_order('shop', %s, 100, 'AED')", [f"\ufeff{order}\u3000"])
    answer = post(front, site, transfer(order=f"\r\n {order}\u200b\t"))
    assert (answer.outcome, answer.json["order"]) == ("recorded", {"ref": order, "state": "paid"})
    assert site.query("select array_agg(order_ref) from foloosi.orders where order_ref like %s escape ''", ["%" + order[len(name):]]) == [([order],)]


def test_the_limit_of_a_name_counts_what_is_kept(front, site):
    order = new_order()
    order += "x" * (255 - len(order))
    assert post(front, site, transfer(order=f" {order}\n")).json["order"] == {"ref": order, "state": "paid"}
    problem = is_problem(post(front, site, transfer(order=f"{order}x ")), 422)
    assert [f["pointer"] for f in problem["faults"]] == ["/data/transfer/api/optional1"]


def books_of(site, number):
    return site.query("select t::text, (select o::text from foloosi.orders o where o.order_ref = t.order_ref and o.merchant = t.merchant)"
                      " from foloosi.transactions t where transaction_no = %s", [number])


def test_one_reference_two_numbers_one_order(front, site):
    """A payment intent with a second try; a third capture under it is no try any more."""
    order, reference, numbers = new_order(), "R" + new_order(), ["N" + new_order() for _ in range(4)]
    body = [members(transfer("failed" if n == 0 else "success", order if n < 3 else new_order(), number), payment_reference=reference)
            for n, number in enumerate(numbers)]
    assert post(front, site, body[0]).json["order"] == {"ref": order, "state": "cancelled"}
    assert post(front, site, body[1]).json["order"] == {"ref": order, "state": "paid"}
    before = books_of(site, numbers[1])
    for late in body[2:]:
        answer = post(front, site, late)
        assert (answer.outcome, answer.json["reason"]) == ("review", "reference_conflict")
    assert books_of(site, numbers[1]) == before and site.order(body[3]["data"]["transfer"]["api"]["optional1"]) is None
    assert site.query("select array_agg(state::text order by id), count(order_ref) from foloosi.transactions where transaction_no = any (%s)",
                      [numbers]) == [(["failed", "captured", "captured", "captured"], 2)]


@pytest.mark.parametrize("number", ["TEST", "TEST-1", "TEST\u202e", "TEST'; --"])
def test_a_test_number_at_a_live_merchant_touches_no_others_row(front, site, number):
    """It shares the reference of a payment that has a number, and of one that has none."""
    for known in ("N" + new_order(), None):
        order, reference = new_order(), "R" + new_order()
        first = members(transfer(order=order, number=known or ""), payment_reference=reference)
        assert post(front, site, first).json["order"]["state"] == "paid"
        rows = "select (select t::text from foloosi.transactions t where t.order_ref = o.order_ref), o::text from foloosi.orders o where order_ref = %s"
        before = site.query(rows, [order])
        for status in ("success", "failed"):
            answer = post(front, site, members(transfer(status, order, number + new_order()), payment_reference=reference))
            assert (answer.outcome, answer.json["reason"]) == ("review", "test_transaction")
        assert site.query(rows, [order]) == before


def test_a_repeat_is_counted_as_far_as_it_can_be(front, site):
    body = encode(transfer())
    post(front, site, body)
    site.query("update foloosi.deliveries set repeats = 2147483646 where id = (select delivery_id from foloosi.bodies where body = %s)", [body])
    for _ in range(2):
        assert post(front, site, body).outcome == "duplicate"
    assert site.kept(body)[1] == 2147483647


@pytest.mark.parametrize("white", AROUND.values(), ids=AROUND)
def test_an_address_loses_white_space(front, site, white):
    """With it the mail's recipient would be refused (test_mail.py)."""
    order = new_order()
    post(front, site, transfer(order=order, customer_email=f"{white}ann@example.com{white}"))
    assert transaction(site, order)["email"] == "ann@example.com"


@pytest.mark.parametrize("amount, currency, shown", [("100.5", "AED", "100.50 AED"), ("18.605", "kwd ", "18.605 KWD"), ("1500", "JPY", "1500 JPY"),
                                                     ("0.1234", "AED", "0.1234 AED"), (7, "BHD", "7.000 BHD"), ("12", "XQZ", "12.00 XQZ")])
def test_people_see_amounts_with_the_currencys_decimals(front, site, amount, currency, shown):
    """Mails by the same function: test_mail.py."""
    order = new_order()
    assert post(front, site, transfer(order=order, amount=amount, currency=currency)).json["order"]["state"] == "paid"
    words = dict(line.split(None, 1) for line in operator(site, "order", order).split("\n\n")[0].splitlines())
    assert f"{words['amount']} {words['currency']}" == shown and f"{words['money_left']} {words['currency']}" == shown
    ((exact,),) = site.query("select amount = %s::numeric from foloosi.orders where order_ref = %s", [str(amount), order])
    assert exact


def test_order_keys_are_cleaned_alike_in_sql(site):
    """The decoder's list of cases (tests/unit/test_transfer.c)."""
    cases = json.loads((stack.ROOT / "tests/corpus/order-keys.json").read_text())
    assert site.query("select array_agg(foloosi.clean_key(k) order by n) from unnest(%s::text[]) with ordinality u (k, n)",
                      [[sent for sent, _ in cases]]) == [([clean for _, clean in cases],)]


def test_a_key_without_the_prefix_is_none_unless_it_is_a_subscriptions(front, site):
    answer = post(front, site, transfer(optional2=new_order()), "prefixed")
    assert (answer.outcome, answer.json["order"], answer.json["reason"]) == ("review", None, "no_order_key")
    key = "FLSSUB_" + new_order()
    answer = post(front, site, transfer(optional2=key + " "), "prefixed")
    assert (answer.outcome, answer.json["order"]) == ("recorded", {"ref": key, "state": "paid"})


def test_explain_and_replay_know_a_key_without_the_prefix(site, tmp_path):
    key, lost = "FLSSUB_" + new_order(), new_order()
    for name, order in ((key, key), (lost, None)):
        body = encode(transfer(optional2=name))
        (tmp_path / "body").write_bytes(body)
        rows = json.loads(operator(site, "explain", "--json", "--merchant", "prefixed", str(tmp_path / "body")))
        assert rows[0]["after"]["order_ref"] == order
        ((_, number),) = site.query(REJECT.replace("'shop'", "'prefixed'"), {"b": body})
        assert json.loads(operator(site, "replay", "--json", str(number)))["order_ref"] == order


def test_a_schema_before_this_rule_is_called_as_before():
    """Version 10 knows no key without the prefix, and takes it for the order's."""
    site = Site(scratch())
    try:
        site.start()
        with schema_of_version(site, 10):
            site.handler.stop()
            site.handler.start()
            order = new_order()
            answer = post(site.front("bare"), site, transfer(optional2=order), "prefixed")
            assert answer.json["order"] == {"ref": order, "state": "paid"}
            with pytest.raises(subprocess.CalledProcessError) as refused:  # it shows columns that are not there yet
                operator(site, "orders")
            assert "run foloosictl migrate" in refused.value.stderr
    finally:
        site.close()


# -- cosmetic fields --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [[], {}, False, True, {"text": "approved"}], ids=str)
def test_cosmetic_fields_of_any_kind_refuse_nothing(front, site, value):
    order = new_order()
    body = members(transfer(order=order, optional2=value, optional3=value, customer_email=value, customer_mobile=value,
                            card_last_four=value), transaction_message=value)
    answer = post(front, site, body)
    assert (answer.status, answer.outcome, answer.json["order"]["state"]) == (200, "recorded", "paid")
    row = transaction(site, order)
    assert row == dict.fromkeys(row) | {"reference": row["reference"], "optional1": order}
    assert site.kept(encode(body))[2] == encode(body)


def test_cosmetic_fields_are_cut_at_a_character(front, site):
    order = new_order()
    body = members(transfer(order=order, optional2="\U0001f600" * 256, customer_mobile="5" * 73, card_last_four="é" * 33,
                            customer_email="x" * 321), transaction_message="€" * 1025)
    answer = post(front, site, body)
    assert (answer.status, answer.outcome) == (200, "recorded")
    row = transaction(site, order)
    assert (row["optional2"], row["mobile"], row["card"], row["email"], row["message"]) == (
        "\U0001f600" * 255, "5" * 64, "é" * 32, "x" * 320, "€" * 1024)


@pytest.mark.parametrize("api", [[], "", "x", 1, False], ids=repr)
def test_an_api_that_is_no_object(front, site, api):
    answer = post(front, site, members(transfer(), api=api))
    assert (answer.status, answer.outcome, answer.json["reason"]) == (200, "review", "no_order_key")


def test_what_decides_still_refuses(front, site):
    for body, pointer in ((members(transfer(), transaction_no=[]), "transaction_no"), (members(transfer(), payment_reference={}), "payment_reference"),
                          (members(transfer(), transaction_amount="100 "), "transaction_amount"), (transfer(optional1=False), "api/optional1"),
                          (transfer(order="x" * 256), "api/optional1"), (members(transfer(), transaction_no="x" * 129), "transaction_no")):
        problem = is_problem(post(front, site, body), 422)
        assert [f["pointer"] for f in problem["faults"]] == ["/data/transfer/" + pointer]


def test_the_key_that_decides_is_the_merchants(front, site):
    order = new_order()
    answer = post(front, site, transfer(optional1=[], optional2="SHOP-" + order), "prefixed")  # its key is optional2
    assert answer.json["order"] == {"ref": order, "state": "paid"}
    problem = is_problem(post(front, site, transfer(optional2=[]), "prefixed"), 422)
    assert [f["pointer"] for f in problem["faults"]] == ["/data/transfer/api/optional2"]


# -- how it is sent ---------------------------------------------------------------------------------


def test_a_byte_order_mark_is_skipped(front, site):
    body = b"\xef\xbb\xbf" + encode(transfer())
    assert (post(front, site, body).outcome, site.kept(body)[2]) == ("recorded", body)
    problem = is_problem(post(front, site, b"\xef\xbb\xbf{x" + new_order().encode()), 400)
    assert problem["offset"] in (4, 5)


@pytest.mark.parametrize("encoding", ["identity", "utf-8", "UTF-8", "Identity"])
def test_encodings_that_are_none(front, site, encoding):
    assert post(front, site, transfer(), headers=[("Content-Encoding", encoding)]).outcome == "recorded"


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=utf-8", "multipart/form-data; boundary=x"])
def test_json_under_a_forms_type(front, site, kind):
    for front_of in (b"", b" \r\n\t", b"\xef\xbb\xbf"):
        assert post(front, site, front_of + encode(transfer()), type=kind).outcome == "recorded"
    for form in (b"a=b", b"payload=" + encode(transfer()), b"--x\r\n\r\n" + encode(transfer())):
        is_problem(post(front, site, form, type=kind), 415)
        assert site.kept(form) is None
    is_problem(post(front, site, b"{" + b" " * BODY_LIMIT, type=kind), 413)


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
def test_a_content_type_twice_alike(front, site, kind):
    assert post(front, site, transfer(), type=kind, headers=[("Content-Type", kind)]).outcome == "recorded"
    assert post(front, site, transfer(), type=f"{kind}, {kind}").outcome == "recorded"
    is_problem(post(front, site, transfer(), type=f"{kind}, text/html"), 415)


# -- through the spool -------------------------------------------------------------------------------


def test_the_spool_keeps_keys_of_all_kinds():
    site = SpoolSite(scratch())
    try:
        site.start()
        front, paid, key = site.front("bare"), new_order(), "FLSSUB_" + new_order()
        bodies = {None: encode(transfer(optional2=new_order())), key: encode(transfer(optional2=f" {key}\n")),
                  paid: encode(transfer(optional2=f"SHOP-{paid} "))}
        with site.database_away():
            for body in bodies.values():
                assert post(front, site, body, "prefixed").outcome == "spooled"
        site.drained()
        for order, body in bodies.items():
            assert site.query("select d.order_ref from foloosi.deliveries d join foloosi.bodies b on b.delivery_id = d.id where b.body = %s", [body]) == [(order,)]
            assert order is None or site.order(order, "prefixed")[0] == "paid"
    finally:
        site.close()


# -- and what an older program has rejected -----------------------------------------------------------

ONCE_REJECTED = {
    "optional2": lambda order: encode(transfer(order=order, optional2=[])),
    "mobile": lambda order: encode(transfer(order=order, customer_mobile=False)),
    "phone of 73": lambda order: encode(transfer(order=order, customer_mobile="5" * 73)),
    "message": lambda order: encode(members(transfer(order=order), transaction_message={"text": "x" * 1025})),
    "mark": lambda order: b"\xef\xbb\xbf" + encode(transfer(order=order)),
    "white space": lambda order: encode(transfer(order=order + " \r\n")),
}
REJECT = ("select r.outcome, r.delivery_id from foloosi.record_deliveries(array[1], array['shop'], array[null], array[sha256(%(b)s)], array[%(b)s],"
          " array['not understood'], array[null], array[null], array[null], array[null], array[null]::numeric[], array[null], array[null], array[null],"
          " array[null], array[null], array[null], array[null], array[null]) r")


@pytest.mark.parametrize("what", ONCE_REJECTED)
def test_rejected_bytes_that_are_valid_today(site, what):
    order = new_order()
    body = ONCE_REJECTED[what](order)
    ((outcome, number),) = site.query(REJECT, {"b": body})
    assert outcome == "rejected"
    answer = json.loads(operator(site, "replay", "--json", str(number)))
    assert (answer["outcome"], answer["order_ref"], answer["order_state"]) == ("recorded", order, "paid")
    assert site.kept(body)[0] == "recorded"


def test_what_was_rejected_is_offered_for_replay(site):
    body = ONCE_REJECTED["optional2"](new_order())
    ((_, number),) = site.query(REJECT, {"b": body})
    remedy = next(w["remedy"] for w in json.loads(operator(site, "attention", "--json", "--limit", "100000")) if w["id"] == number)
    assert remedy == f"foloosictl replay {number}, or foloosictl attention dismiss {number}"
    operator(site, "replay", str(number))
    assert number not in [w["id"] for w in json.loads(operator(site, "attention", "--json", "--limit", "100000"))]


def test_rejected_bytes_that_come_again(front, site):
    order = new_order()
    body = ONCE_REJECTED["optional2"](order)
    site.query(REJECT, {"b": body})
    assert post(front, site, body).json["order"] == {"ref": order, "state": "paid"}
