-- SPDX-License-Identifier: MIT
-- One event a transaction, by the scalar procedure of ../scalar.sql.
\set a random(0, 4294967295)
\set b random(0, 4294967295)
select bench.record_one('bench', ref, sha256(body), body, 'success', no, reference, 100, 'AED', 'approved',
    ref, 'Online Class', 'Foloosi developer', 'buyer@example.org', '555534533', '1111')
from (select lpad(to_hex(:a::bigint), 8, '0') as a, lpad(to_hex(:b::bigint), 8, '0') as b offset 0) x,
    lateral (select a || substr(b, 4) as n13, a || '-4496-4b4d-' || right(b, 4) || '-' || left(b, 4) || a as uuid, a || b as h16 offset 0) i,
    lateral (select 'FLNIAREC' || n13 as no, uuid as reference, 'FLSSUB_' || h16 as ref, @BODY@ as body offset 0) e;
