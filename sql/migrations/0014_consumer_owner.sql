-- SPDX-License-Identifier: MIT
-- 0014: each consumer of events belongs to a role. Before, any of them could read, finish and delay the events of all.

alter table foloosi.consumers add owner text;
-- foloosi-worker's own: URLs, and a merchant's mails
update foloosi.consumers set owner = case when endpoint is not null or consumer like '%/mail' then 'foloosi_worker' else 'foloosi_consumer' end;
alter table foloosi.consumers alter owner set not null;
comment on column foloosi.consumers.owner is 'The role whose members may take, finish and delay its events.';
