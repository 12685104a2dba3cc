#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""sql/schema.sql: the types and tables that the migrations make, in one file. make schema writes it anew, and the
order rules of README.md and foloosi-sql(7), too.

It comes from the catalog by the queries below, not from pg_dump, whose text depends on its version. All names are
written with their schema, all lists are sorted by name but columns, which have their order in the table. Partitions are left out:
which there are depends on the date.
"""
import pathlib
import shutil
import sys
import tempfile
import textwrap

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support import rules, stack  # noqa: E402

PATH = stack.ROOT / "sql" / "schema.sql"
HEADER = """\
-- Today's types and tables of schema foloosi: the sum of the migrations, to be read, not to be run.
-- Generated from the catalog of a migrated database by tests/support/schema.py ("make schema"); not edited.
-- tests/e2e/test_migrate.py compares it with what the migrations make. Nothing includes it.
"""

TYPES = """
    select t.typname, t.typtype::text, obj_description(t.oid, 'pg_type'),
           array(select quote_literal(e.enumlabel) from pg_enum e where e.enumtypid = t.oid order by e.enumsortorder),
           array(select a.attname || ' ' || format_type(a.atttypid, a.atttypmod) from pg_attribute a
                 where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped order by a.attnum),
           format_type(t.typbasetype, t.typtypmod),
           array(select pg_get_constraintdef(c.oid) from pg_constraint c where c.contypid = t.oid and c.contype = 'c' order by c.conname collate "C")
    from pg_type t left join pg_class r on r.oid = t.typrelid
    where t.typnamespace = 'foloosi'::regnamespace and (t.typtype in ('e', 'd') or (t.typtype = 'c' and r.relkind = 'c'))
    order by t.typname collate "C" """

# A sequence of an identity column comes with the column.
SEQUENCES = """
    select c.relname, format_type(s.seqtypid, null) || ' increment by ' || s.seqincrement || ' maxvalue ' || s.seqmax,
           obj_description(c.oid, 'pg_class')
    from pg_class c join pg_sequence s on s.seqrelid = c.oid
    where c.relnamespace = 'foloosi'::regnamespace
      and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'i')
    order by c.relname collate "C" """

TABLES = """
    select c.oid, c.relname, c.relpersistence::text, pg_get_partkeydef(c.oid), coalesce(c.reloptions, '{}'), obj_description(c.oid, 'pg_class')
    from pg_class c
    where c.relnamespace = 'foloosi'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
    order by c.relname collate "C" """

COLUMNS = """
    select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           case when a.attcollation <> t.typcollation then
               (select quote_ident(l.collname) from pg_collation l where l.oid = a.attcollation) end,
           a.attidentity::text, a.attgenerated::text, pg_get_expr(d.adbin, d.adrelid), col_description(a.attrelid, a.attnum)
    from pg_attribute a join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
    order by a.attnum"""

# PostgreSQL 18 has NOT NULL among them; here it stands with the column.
CONSTRAINTS = """
    select c.conname, pg_get_constraintdef(c.oid), obj_description(c.oid, 'pg_constraint')
    from pg_constraint c where c.conrelid = %s and c.contype <> 'n'
    order by array_position('{p,u,x,f,c,t}'::"char"[], c.contype), c.conname collate "C" """

INDEXES = """
    select pg_get_indexdef(i.indexrelid), obj_description(i.indexrelid, 'pg_class')
    from pg_index i join pg_class c on c.oid = i.indexrelid
    where i.indrelid = %s and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.conrelid = i.indrelid)
    order by c.relname collate "C" """

TRIGGERS = """
    select pg_get_triggerdef(t.oid), t.tgenabled::text, obj_description(t.oid, 'pg_trigger')
    from pg_trigger t where t.tgrelid = %s and not t.tgisinternal
    order by t.tgname collate "C" """


def comment(text, indent=""):
    if not text:
        return []
    lines = [line for part in " ".join(text.split("\n")).splitlines() for line in textwrap.wrap(part, 110 - len(indent))]
    return [f"{indent}-- {line}" for line in lines]


def type_lines(name, kind, said, labels, attributes, base, checks):
    lines = comment(said)
    if kind == "e":
        return [*lines, f"create type foloosi.{name} as enum ({', '.join(labels)});", ""]
    if kind == "d":
        return [*lines, " ".join([f"create domain foloosi.{name} as {base}", *checks]) + ";", ""]
    return [*lines, f"create type foloosi.{name} as (", *(f"    {a}," for a in attributes[:-1]), f"    {attributes[-1]}", ");", ""]


def column_words(name, kind, not_null, collation, identity, generated, default, _):
    words = [name, kind]
    if collation:
        words.append(f"collate {collation}")
    if identity:
        words.append(f"generated {'always' if identity == 'a' else 'by default'} as identity")
    elif generated:
        words.append(f"generated always as ({default}) stored")
    elif default is not None:
        words.append(f"default {default}")
    if not_null:
        words.append("not null")
    return " ".join(words)


def table_lines(ask, oid, name, persistence, partitions, options, said):
    parts = [(comment(c[-1], "    "), column_words(*c)) for c in ask(COLUMNS, oid)]
    parts += [(comment(c[-1], "    "), f"constraint {c[0]} {c[1]}") for c in ask(CONSTRAINTS, oid)]
    lines = [*comment(said), f"create {'unlogged ' if persistence == 'u' else ''}table foloosi.{name} ("]
    for n, (before, words) in enumerate(parts):
        lines += [*before, f"    {words}{',' if n + 1 < len(parts) else ''}"]
    end = ")"
    if partitions:
        end += f" partition by {partitions}"
    if options:
        end += f" with ({', '.join(sorted(options))})"
    lines.append(end + ";")
    for definition, about in ask(INDEXES, oid):
        lines += [*comment(about), definition + ";"]
    for definition, enabled, about in ask(TRIGGERS, oid):
        lines += [*comment(about), definition + ";" + {"D": " -- disabled", "A": " -- always", "R": " -- on a replica"}.get(enabled, "")]
    return [*lines, ""]


def describe(connection):
    """The text of sql/schema.sql for a migrated database."""
    def ask(sql, *parameters):
        return connection.execute(sql, parameters or None).fetchall()

    with connection.transaction():
        connection.execute("set local search_path = pg_catalog")  # so that every name is written with its schema
        lines = [HEADER]
        for row in ask(TYPES):
            lines += type_lines(*row)
        for name, kind, said in ask(SEQUENCES):
            lines += [*comment(said), f"create sequence foloosi.{name} as {kind};", ""]
        for row in ask(TABLES):
            lines += table_lines(ask, *row)
    return "\n".join(lines)


def main():
    home = pathlib.Path(tempfile.mkdtemp(prefix="fs"))
    try:
        stack.give(home, None, mode=0o711)
        with stack.Postgres(home / "pg", home / "logs", {"fsync": "off"}) as postgres:
            postgres.create_database()
            postgres.migrate()
            with postgres.connect() as c:
                texts = [(PATH, describe(c)), *rules.with_rules(rules.rules_of(c))]
        for path, text in texts:
            new = path.with_suffix(".new")
            new.write_text(text)
            new.rename(path)
    except stack.StackError as e:
        sys.exit(str(e))
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
