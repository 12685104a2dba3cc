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
    return subprocess.run([stack.built("foloosictl"), *args], env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout


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


def test_rejected_bytes_that_come_again(front, site):
    order = new_order()
    body = ONCE_REJECTED["optional2"](order)
    site.query(REJECT, {"b": body})
    assert post(front, site, body).json["order"] == {"ref": order, "state": "paid"}
