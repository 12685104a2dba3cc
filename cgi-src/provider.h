/*
 * provider.h - what the provider's transaction-detail API says of a transaction.
 */
#ifndef PROVIDER_H
#define PROVIDER_H

#include <stdbool.h>
#include <stddef.h>

#include "config.h"

struct provider_word {
	char *status; /* lower case */
	char *amount; /* exact decimal text; NULL: none, or none that makes sense */
	char *currency;
	char *order;       /* without the merchant's prefix; NULL: he does not say */
	const char *fault; /* static words, without anything of the answer */
};

/*
 * Read an answer. False, with a fault, if it cannot be understood, or is a success
 * without amount and currency: nothing may be concluded from it then.
 *   order_prefix  as the merchant's configuration has it; NULL: none
 * Ended by provider_word_free() in either case.
 */
bool provider_read(const struct provider *, const char *order_prefix, const char *body, size_t len,
    struct provider_word *);
void provider_word_free(struct provider_word *);

/* The URL of a question, with whatever is in the number made harmless. Owned by the caller. */
char *provider_question(const struct provider *, const char *transaction_no);

#endif
