-- SPDX-License-Identifier: MIT
-- Install the schema, or bring an older one up to date, with psql alone:
--
--     psql -d DATABASE -f sql/install.sql
--
-- It does what "foloosictl migrate" does, in one transaction and under the same
-- lock; either may follow the other. Running it twice changes nothing.
--
-- The story of one delivery, in the order of the files:
--
--   roles.sql        Seven roles. The handler, which talks to the internet, may execute
--                    record_deliveries() and knows no table.
--   0000_ledger      What has been done to this schema, and which file did it.
--   0001_schema      The nouns. A webhook's bytes arrive as a DELIVERY of a MERCHANT. It speaks of
--                    a TRANSACTION, one payment attempt, and of an ORDER, what the customer buys.
--                    The order moves by a state machine that the tables enforce: no UPDATE,
--                    run by any role, takes a paid order back unless a person decides it.
--                    Each fact leaves an EVENT; money that must go back leaves a PAYBACK; what a
--                    person decides leaves a DECISION.
--   0002_narrow_keys Fewer bytes for each: keys compare as bytes, long ones are found by a hash.
--   0003_worker      After the commit: CONSUMERS get the events, as DISPATCHES that wait, are claimed and
--                    finished; a VERIFICATION is a question to the provider.
--   0004_reconcile   The provider's books against ours: RECONCILIATIONS.
--   0005_other_transactions  An order names its transaction; the OTHERS that it may have are listed.
--   0006_reminders   A payback that stays open is said again.
--   0007_retention   How long bytes and personal fields are kept; an ERASURE takes out one customer's.
--   0008_operator    Indexes of almost no cost for what a person asks: the latest orders, all of one order.
--   0009_small_ranges  Those of 0008 anew, for a row that is written late cost a thousand times its share.
--   0010_facts       What is known of a delivery, a type between the look-up and the rules.
--   0011_money       Where the money is: REFUNDS, what is left, and what time cancels.
--   0012_ids         One number drawn for a delivery, its transaction and its order.
--   0013_hot_path    Fewer and smaller indexes, for each payment pays for them.
--   0014_consumer_owner  A consumer belongs to a role.
--   functions/       The verbs. record_deliveries() takes a whole batch: it locks the
--                    orders in sorted order (those that another session holds come back "busy"),
--                    decides by the rules, and writes a few statements for the whole batch. The
--                    functions of persons (register_order, resolve_order, …) take the same locks.
--   views/           What a person reads: order_history and attention.
--   grants.sql       Privileges of the roles.
--
-- A new migration gets a block of its own below, with the digest that
-- "sha256sum sql/migrations/NNNN_name.sql" prints, and a new function or view
-- its \ir line. tests/e2e/test_migrate.py compares both with the directory.

\set ON_ERROR_STOP on
\set QUIET on
begin isolation level read committed read write;
set local client_min_messages = warning;
set local search_path = foloosi, pg_temp;
set local timezone = 'UTC';
set local check_function_bodies = off; -- functions call each other, whatever the order of the files
\o /dev/null
select pg_advisory_xact_lock(28832959141213033);

\ir roles.sql
set local role foloosi_owner;

-- ---------------------------------------------------------------- migrations

select to_regclass('foloosi.schema_migrations') is null as missing \gset
\if :missing
\ir migrations/0000_ledger.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (0, 'ledger', '\x816734b2c1734e7dda6243602e0f78e2175a6ac3cc5cea35e4fde37124feadf3');
\endif

select not exists (select from foloosi.schema_migrations where version = 1) as missing \gset
\if :missing
\ir migrations/0001_schema.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (1, 'schema', '\x93767c31d0371c0b605036f49190863ccaa3389de7f16c17aa8e7c5432971f65');
\endif

select not exists (select from foloosi.schema_migrations where version = 2) as missing \gset
\if :missing
\ir migrations/0002_narrow_keys.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (2, 'narrow_keys', '\x70ca99d7bea6eae083a5337d83dd8a729600c537383d42a0956d675a1b2a7f77');
\endif

select not exists (select from foloosi.schema_migrations where version = 3) as missing \gset
\if :missing
\ir migrations/0003_worker.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (3, 'worker', '\x0ac62eac2419495e8c3c9df6f3d88fe60a4ffaab1245fc7f088871034d4647c9');
\endif

select not exists (select from foloosi.schema_migrations where version = 4) as missing \gset
\if :missing
\ir migrations/0004_reconcile.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (4, 'reconcile', '\x249bbfa6254a9f76ffc49f5839804dad1bd2f10ff801a8e7ddf36183f42a368a');
\endif

select not exists (select from foloosi.schema_migrations where version = 5) as missing \gset
\if :missing
\ir migrations/0005_other_transactions.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (5, 'other_transactions', '\xda35859a69c0a2dce632fe453e59f7b4707ac0418c1bf6e9e8b39ad11ecc8237');
\endif

select not exists (select from foloosi.schema_migrations where version = 6) as missing \gset
\if :missing
\ir migrations/0006_reminders.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (6, 'reminders', '\xa5c106fba90306f2fa106fc6441a25a98d521e3de6f90557f204b14cd40212be');
\endif

select not exists (select from foloosi.schema_migrations where version = 7) as missing \gset
\if :missing
\ir migrations/0007_retention.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (7, 'retention', '\x6b19ab75a53a013e8e8ce95aca27dfc85e0faedd905bdd7f520ca6d9d12909d9');
\endif

select not exists (select from foloosi.schema_migrations where version = 8) as missing \gset
\if :missing
\ir migrations/0008_operator.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (8, 'operator', '\xb77f2555b7e07835bbd6b934516dce53b49d4f92157984a300231bb72cd794c0');
\endif

select not exists (select from foloosi.schema_migrations where version = 9) as missing \gset
\if :missing
\ir migrations/0009_small_ranges.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (9, 'small_ranges', '\xf5dc8fa9c0ad65ca0203712a99f1987ba3ae69e1ba6afe16838aad623e2f0628');
\endif

select not exists (select from foloosi.schema_migrations where version = 10) as missing \gset
\if :missing
\ir migrations/0010_facts.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (10, 'facts', '\x1c192f717c6ec0f6b704008261d3963fd66911c904986c7b286a7267a020548c');
\endif

select not exists (select from foloosi.schema_migrations where version = 11) as missing \gset
\if :missing
\ir migrations/0011_money.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (11, 'money', '\xf427972d96940c746541362a431b813e32d29d7d1c358de874ddb27d9bcd3e27');
\endif

select not exists (select from foloosi.schema_migrations where version = 12) as missing \gset
\if :missing
\ir migrations/0012_ids.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (12, 'ids', '\x611c6a24982e93a06997ca02b30f32e8421ebc66ec4c82df3ee0e9200edf382f');
\endif

select not exists (select from foloosi.schema_migrations where version = 13) as missing \gset
\if :missing
\ir migrations/0013_hot_path.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (13, 'hot_path', '\x515b94313eba93faf3d010cb87e37dc2f755462fb491a84d359b7d68aad95787');
\endif

select not exists (select from foloosi.schema_migrations where version = 14) as missing \gset
\if :missing
\ir migrations/0014_consumer_owner.sql
insert into foloosi.schema_migrations (version, name, digest) values
    (14, 'consumer_owner', '\x0542b60a312d0305c074417edf98ae396386272d2dcc5d7da50ee63d00606848');
\endif

-- An older copy of this file must not put its functions over a newer schema.
do $$
begin
    if (select max(version) from foloosi.schema_migrations) > 14 then
        raise exception 'the database''s schema is newer than these files'
            using hint = 'Use the files of the release that migrated it.';
    end if;
end
$$;

-- ---------------------------------------------------------------- functions, views, grants

\ir functions/after_restore.sql
\ir functions/align.sql
\ir functions/assign.sql
\ir functions/attention.sql
\ir functions/cancel.sql
\ir functions/create_partitions.sql
\ir functions/decide.sql
\ir functions/erase_customer.sql
\ir functions/event_payload.sql
\ir functions/events.sql
\ir functions/locks.sql
\ir functions/mails.sql
\ir functions/merchants.sql
\ir functions/money.sql
\ir functions/monitor.sql
\ir functions/orders.sql
\ir functions/paybacks.sql
\ir functions/reconcile.sql
\ir functions/record_deliveries.sql
\ir functions/remind.sql
\ir functions/replay.sql
\ir functions/retention.sql
\ir functions/rules.sql
\ir functions/schema_version.sql
\ir functions/verify.sql
\ir functions/write.sql
\ir views/attention.sql
\ir views/order_history.sql
\ir grants.sql

-- psql knows no digests of files: foloosictl will run the functions once more.
delete from foloosi.schema_files;

select foloosi.schema_version() as version \gset
commit;
\o
\echo schema is at version :version
