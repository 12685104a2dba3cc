-- SPDX-License-Identifier: MIT
-- A delivery draws one number, and has three: its own, the next for its transaction, the one after for its order.
-- To draw one costs as much as a look into an index. Who draws for something else leaves two unused.
alter sequence foloosi.id_seq increment by 3 maxvalue 68719476732;
comment on sequence foloosi.id_seq is 'One number space for orders, transactions, deliveries, paybacks, refunds and decisions. A number that is drawn for a delivery stands for two more: of its transaction and of its order.';
