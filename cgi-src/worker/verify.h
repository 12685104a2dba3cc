/* SPDX-License-Identifier: MIT */
/*
 * verify.h - questions to the provider about transactions (verify = callback).
 */
#ifndef VERIFY_H
#define VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "http_client.h"
#include "pg_query.h"

struct verify;

/* The three arguments must live as long as it does. Owned, for verify_free(). */
struct verify *verify_new(const struct config *, struct pg *, struct http_client *);
void verify_free(struct verify *); /* after http_client_free(); NULL is ignored */

/* Ask about what is to be verified, for merchants that have a provider_url. */
void verify_work(struct verify *);

/* Questions that have no answer yet. */
size_t verify_under_way(const struct verify *);

/* clock_ms(): when verify_work() has something to do, unless an answer comes before. */
int64_t verify_due(const struct verify *);

#endif
