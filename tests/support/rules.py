# SPDX-License-Identifier: MIT
"""The order rules in README.md and foloosi-sql(7): made of the rows of foloosi.rules, by "make schema"."""
import re
import textwrap

from support import stack

README = stack.ROOT / "README.md"
MANUAL = stack.ROOT / "cgi-src" / "man" / "foloosi-sql.7"
TABLE = re.compile(r"(?<=^\|---\|---\|---\|---\|\n)(?:\| \d+ \|.*\n)+", re.M)
LIST = re.compile(r'(?<=^\.Bl -tag -width "19\."\n)(?:(?!\.El$).*\n)+', re.M)


def rules_of(connection):
    return connection.execute("select number, sentence, does, outcome, reason from foloosi.rules order by place").fetchall()


def table(rules):
    return "".join(f"| {number} | {sentence} | {does} | {outcome} |\n" for number, sentence, does, outcome, _ in rules)


def manual(rules):
    lines = []
    for number, sentence, does, outcome, reason in rules:
        lines += [f".It {number}.", *textwrap.wrap(f"A delivery that {sentence}: {does}.", 78, break_on_hyphens=False),
                  f"Outcome {outcome}{', reason ' + reason if reason else ''}."]
    return "".join(line + "\n" for line in lines)


def with_rules(rules):
    """Both texts as they should be: file and text."""
    for path, block, new in ((README, TABLE, table(rules)), (MANUAL, LIST, manual(rules))):
        text, found = block.subn(lambda _, new=new: new, path.read_text())
        assert found == 1, f"{path}: the rules' place is not found"
        yield path, text
