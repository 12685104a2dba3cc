# SPDX-License-Identifier: MIT
"""Five alphabets of at most 12 facts each, of which small sets are told in every order."""

from support.stories import says


def success(*names, **fields):
    return says("success", *names, **fields)


def failed(*names, **fields):
    return says("failed", *names, **fields)


def refund(*names, **fields):
    return says("refund", *names, **fields)


ALPHABETS = {
    "money": [
        success("A", "N1"), success("A", "N2"), success("A", "N3", amount=60), failed("A", "N1"), failed("A", "N4"),
        refund("A", "N1"), refund(None, "N2", amount=None, currency=None), refund("A", "N1", amount=30),
        refund("A", "N2", amount=70), refund("A", "N3", amount=60), refund("A", "N2", currency="KWD"),
        success("A", "N5", amount=0)],
    "contradictions": [
        success("A", "N1"), success("A", "N1", amount=50), failed("A", "N1"), success("B", "N1"), success("A", "N2", "R1"),
        success("A", "N3", "R1"), refund("A", "N1"), refund("A", "N1", amount=500), success("A", "N4"), failed("B", "N4"),
        refund(None, "N4"), refund("A", "N2")],
    "identifiers": [
        success("A", "N1", "R1"), success("A", None, "R1"), success("A", "N1", None, copy=1), failed("A", None, "R1"),
        failed("A", "N2", "R2"), success("A", "N2", "R2"), success(None, "N2", None), refund("A", None, "R1"),
        refund(None, "N2"), refund("A", "N9", "R1"), success("A", "N3", "R2"), refund("B", None, "R2", amount=10)],
    "two orders": [
        success("A", "N1"), success("B", "N2"), success("A", "N3"), success("B", "N4"), failed("A", "N5"), failed("B", "N6"),
        refund(None, "N1"), refund("B", "N2"), refund("A", "N3", amount=50), refund("A", "N8"),
        refund("B", "N7", amount=10), success(None, "N7")],
    "two numbers": [
        failed("A", "N1", "R"), success("A", "N2", "R"), success("A", "N1", "R"), failed("A", "N2", "R"), refund(None, None, "R"),
        refund(None, "N2"), refund("A", "N1"), success("A", None, "R"), success("A", "N3", "R3"), refund(None, "N3", "R3"),
        failed("A", None, "R"), refund("A", None, "R", amount=30)],
}
WITHOUT_CONTRADICTION = ("money", "two orders")
