-- SPDX-License-Identifier: MIT
-- Sets of 64, one set a transaction.
\set s random(0, 9000000000000)
select count(*)
from (select array_agg(n) as ordinals, array_agg(ref) as refs, array_agg(sha256(body)) as digests, array_agg(body) as bodies,
             array_agg(no) as nos, array_agg(reference) as payment_references
      from (select n, 'FLNIAREC' || n13 as no, uuid as reference, 'FLSSUB_' || h16 as ref, @BODY@ as body
            from (select n, a || substr(b, 4) as n13, a || '-4496-4b4d-' || right(b, 4) || '-' || left(b, 4) || a as uuid, a || b as h16
                  from (select n, left(h, 8) as a, right(h, 8) as b
                        from (select n, lpad(to_hex(hashint8extended(:s::bigint * 64 + n, 0)), 16, '0') as h
                              from generate_series(1, 64) n offset 0) h offset 0) x offset 0) i offset 0) e) s,
    -- what is the same for each event is a constant, as in scalar.sql
    lateral foloosi.record_deliveries(ordinals, array_fill('bench'::text, array[64]), refs, digests, bodies, array_fill(null::text, array[64]),
        array_fill(null::text, array[64]), array_fill('success'::text, array[64]), nos, payment_references,
        array_fill(100::numeric, array[64]), array_fill('AED'::text, array[64]), array_fill('approved'::text, array[64]), refs,
        array_fill('Online Class'::text, array[64]), array_fill('Foloosi developer'::text, array[64]),
        array_fill('buyer@example.org'::text, array[64]), array_fill('555534533'::text, array[64]), array_fill('1111'::text, array[64])) r;
