#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Two sessions at once, by PostgreSQL's isolationtester: each two of the acts below on one order, in every order of their steps.

    B=build tests/isolation/run.py         compares with expected/
    ACCEPT=1 B=build ...                   writes expected/ anew; read the difference

Each act is one transaction of two steps, the act and its commit. A pair is told in all orders of the four steps that
can be, and each act alone, on the same order O and the same rows. Two judges, which know nothing of each other:

  1. expected/ACT.out, what isolationtester printed when it was read: who waited, answers, errors, and the rows.
  2. After each order of steps the rows are those of one act after the other, or, where a delivery was answered "busy",
     an act was refused, or cancel_due() passed over an order that was locked, those of the other act alone.
"""
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from support import stack  # noqa: E402

LIMIT_S = 300
# emptied by DELETE: TRUNCATE would have each session plan anew
TABLES = """dispatches event_gaps consumers bodies cancellation decisions deliveries events merchants orders other_transactions paybacks refunds
            reminders verifications transactions""".split()

# What each act finds, in the order in which the givens of a pair are told, and the act. It answers without ids.
ACTS = {
    "cancel": ("perform foloosi.register_order('m', 'O', 100, 'AED', now() - interval '1 minute');",
               "select foloosi.cancel_due(10) as cancelled"),
    "settle": ("perform t.given_delivery('success', 'O', 'N-1'), t.given_delivery('success', 'O', 'N-2');",
               "select (foloosi.settle_payback(t.payback_id('N-2'), 'sent')).state as payback"),
    "refund": ("perform t.given_delivery('success', 'O', 'N-3');",
               "select t.record('m', t.d('refund', 'O', 'N-3')) as refund"),
    "resolve": ("perform t.given_delivery('failed', 'O', 'N-4');",
                "select (foloosi.resolve_order('m', 'O', 'cancelled', 'closed')).state as resolved"),
    "assign": ("perform t.given_delivery('success', null, 'N-5');",
               "select (foloosi.assign_transaction(t.transaction_id('N-5'), 'O', true)).state as assigned"),
    "retain": ("perform t.given_delivery('success', 'O', 'N-6'); "
               "update foloosi.transactions set customer_email = 'a@example.com', created_at = now() - interval '400 days', updated_at = now() - interval '400 days';",
               "select amount, state from foloosi.retain_personal(90, 0)"),
    "consume": ("perform foloosi.add_consumer('c'); perform t.given_delivery('success', 'P', 'N-7');",
                "select string_agg(type || ' ' || order_ref, ', ' order by id) as events from foloosi.next_events('c', 10)"),
    "verify": ("perform foloosi.set_merchant('m', verify => 'callback'), t.given_delivery('success', 'O', 'N-8');",
               "select foloosi.verify_transaction(t.transaction_id('N-8'), 'success', 100, 'AED') as verified"),
    "register": ("", "select (foloosi.register_order('m', 'O', 100, 'AED')).state as registered"),
    "deliver": ("", "select t.record('m', t.d('success', 'O', 'N-9')) as delivered"),
}
PAIRS = list(itertools.combinations_with_replacement(ACTS, 2))

BEGIN = f"""
setup {{ do $$ begin
    {" ".join(f"delete from foloosi.{t};" for t in TABLES)}
    insert into foloosi.cancellation (one, ran_at) values (true, now());
    update foloosi.retention set masked_to = 0;
    perform setval('foloosi.id_seq', 1, false), foloosi.set_merchant('m');
end $$; }}
teardown {{ select key || ': ' || regexp_replace(value, ' until .*', ' until then') as rows
           from jsonb_each_text(t.facts('m') || jsonb_build_object('masked', (select count(masked_at) from foloosi.transactions))) order by key collate "C"; }}
"""


def given(one, two):
    """The step of session "given" that makes what both acts find."""
    return f"given_{one}_{two}"


def steps(name):
    """The two steps of an act. Its second session, for a pair of two alike, has a 2 behind its name."""
    return name, f"{name}_commits"


def orders(one, two):
    """Orders of steps of a pair: each alone, one after the other, meeting, and passing by (if none has to wait: who comes second
    and waits cannot commit before the first has)."""
    (a, a_commits), (b, b_commits) = steps(one), steps(two if two != one else two + "2")
    start = given(one, two)
    alone = [f"{start} {a} {a_commits}", f"{start} {b} {b_commits}"]
    serial = [f"{start} {a} {a_commits} {b} {b_commits}", f"{start} {b} {b_commits} {a} {a_commits}"]
    meeting = [f"{start} {a} {b} {a_commits} {b_commits}", f"{start} {b} {a} {b_commits} {a_commits}"]
    passing = [f"{start} {a} {b} {b_commits} {a_commits}", f"{start} {b} {a} {a_commits} {b_commits}"]
    return alone, serial, meeting, passing


def specification(permutations):
    text = BEGIN + "session given\n"
    for one, two in PAIRS:
        text += f"step {given(one, two)} {{ do $$ begin {' '.join(g for name, (g, _) in ACTS.items() if name in (one, two))} end $$; }}\n"
    for name, (_, act) in ACTS.items():
        for session in (name, name + "2"):
            text += f"session {session}\nstep {session} {{ begin; {act}; }}\nstep {session}_commits {{ commit; }}\n"
    return text + "".join(f"permutation {p}\n" for p in permutations)


def tell(postgres, permutations):
    """{order of steps: what isolationtester printed of it}."""
    # in postgresql-client, beside what pg_regress needs
    tester = pathlib.Path(stack.pg_program("initdb")).parents[1] / "lib/pgxs/src/test/isolation/isolationtester"
    done = subprocess.run(
        [tester, f"host={postgres.socket_dir} port={postgres.port} user=postgres dbname={stack.DATABASE} options='-c search_path=t,tap,public'"],
        input=specification(permutations), capture_output=True, text=True, timeout=LIMIT_S)
    faults = re.sub(r"^unused step name: .*\n", "", done.stderr, flags=re.M)
    if done.returncode or faults:
        raise stack.StackError(f"isolationtester ended with {done.returncode}: {faults}\n{done.stdout[-2000:]}")
    parts = re.split(r"^starting permutation: (.*)\n", done.stdout, flags=re.M)
    told = {steps: re.sub(r"\d{4}-\d\d-\d\dT\S+Z", "TIME", re.sub(r"^step given_.*\n", "", text, flags=re.M)).rstrip() for steps, text in zip(parts[1::2], parts[2::2])}
    if list(told) != list(permutations):
        raise stack.StackError(f"isolationtester told {len(told)} of {len(permutations)} orders of steps\n{done.stdout[-2000:]}")
    return told


def rows(text):
    """The rows after it, as teardown prints them last. Not what is masked: retention passes over rows that are locked."""
    return re.findall(r"^(?!masked)(\w[^:]*: .*?) *$", re.split(r"^rows *$", text, flags=re.M)[-1], re.M)


def judge(told, one, two):
    """What is wrong with the rows, a sentence for each order of steps."""
    alone, serial, meeting, passing = orders(one, two)
    for p in [*meeting, *passing]:
        if p not in told:
            continue
        allowed = serial + (alone if re.search(r"busy|ERROR:|cancelled\n-+\n +0\n", told[p]) else [])
        if rows(told[p]) not in [rows(told[other]) for other in allowed]:
            yield f"{p}: the rows are those of no order of the two\n{told[p]}\n"


def tell_all(postgres):
    first = [p for pair in PAIRS for some in orders(*pair)[:3] for p in some]
    told = tell(postgres, first)
    second = []
    for pair in PAIRS:
        _, _, meeting, passing = orders(*pair)
        second += [p for met, p in zip(meeting, passing) if "<waiting" not in told[met]]
    return {**told, **tell(postgres, second)}


def main():
    home = pathlib.Path(tempfile.mkdtemp(prefix="fi"))
    try:
        stack.give(home, None, mode=0o711)
        with stack.Postgres(home / "pg", home / "logs", {"fsync": "off", "autovacuum": "off"}) as postgres:
            postgres.create_database()
            postgres.migrate()
            with postgres.connect() as c:
                # made for one transaction with one merchant at a time: here the merchant is m, in every session
                c.execute("create schema tap")
                c.execute("\n".join(line for line in (HERE.parent / "sql" / "tools.psql").read_text().splitlines() if not line.startswith("\\")))
                c.execute("create or replace function t.merchant() returns text language sql stable as $$ select 'm' $$")
            told = tell_all(postgres)
        wrong = []
        for name in ACTS:
            wrong += [sentence for one, two in PAIRS if one == name for sentence in judge(told, one, two)]
            text = "\n\n".join(f"{p}\n{t}" for p, t in told.items() if p.startswith(f"given_{name}_")) + "\n"
            expected = HERE / "expected" / f"{name}.out"
            if os.environ.get("ACCEPT"):
                expected.write_text(text)
            elif text != expected.read_text():
                (home / "out").write_text(text)
                wrong.append(subprocess.run(["diff", "-u", expected, home / "out"], capture_output=True, text=True).stdout)
    except stack.StackError as e:
        sys.exit(str(e))
    except subprocess.TimeoutExpired:
        sys.exit(f"isolationtester has not ended after {LIMIT_S} s")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print("\n".join(wrong) if wrong else f"isolation: {len(PAIRS)} pairs of acts, {len(told)} orders of their steps: as expected")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
