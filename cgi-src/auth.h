/*
 * auth.h - is this request, with these headers, from this merchant?
 *
 * Bytes, secrets and a clock in; yes or no out. No I/O, no globals. Every compare
 * of a secret is by digest and in constant time.
 */
#ifndef AUTH_H
#define AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define SECRETS_MAX 8             /* of each kind and merchant: rotation needs two */
#define SIGNATURE_TOLERANCE_S 300 /* Standard Webhooks: timestamps further off are refused */
#define AUTH_DIGEST_SIZE 32       /* SHA-256 */

struct secret_key {
	unsigned char *bytes; /* owned */
	size_t len;
};

/* What one merchant may be asked for. Only digests and HMAC keys are kept, no token and no password. */
struct credentials {
	unsigned char token[SECRETS_MAX][AUTH_DIGEST_SIZE]; /* SHA-256 of each endpoint token */
	size_t token_count;                                  /* at least 1 */
	unsigned char basic[SECRETS_MAX][AUTH_DIGEST_SIZE]; /* SHA-256 of each "user:password" */
	size_t basic_count;                                  /* 0: Basic is not asked for */
	struct secret_key signature[SECRETS_MAX];            /* HMAC-SHA256 keys, decoded */
	size_t signature_count;                              /* 0: no signature is asked for */
};

/* Add a secret; false if it is malformed or there are SECRETS_MAX already. */
bool credentials_add_token(struct credentials *, const char *token);
bool credentials_add_basic(struct credentials *, const char *user, const char *password);
/* secret: "whsec_" and base64, or base64 alone, of 24 to 64 bytes (Standard Webhooks). */
bool credentials_add_signature(struct credentials *, const char *secret);
void credentials_wipe(struct credentials *); /* frees and zeroes; safe on a zeroed struct */

/*
 * Does the path's last segment match a token? Looks at every token in constant
 * time. c may be NULL (unknown merchant): takes as long, and says no.
 */
bool auth_token(const struct credentials *c, const char *token, size_t len);

/* The headers that matter. NULL: absent. doubled: one of them came more than once. */
struct auth_headers {
	const char *authorization; /* RFC 7617 */
	const char *webhook_id, *webhook_timestamp, *webhook_signature; /* Standard Webhooks */
	bool doubled;
};

/*
 * A running check over a body that arrives in pieces, so that even a body too
 * large to keep is authenticated before it is refused.
 * auth_begin: false if the headers alone are refused (then do not call the rest).
 *   now: wall clock, seconds. auth_end: the verdict; frees what auth_begin took.
 */
struct auth_check {
	const struct credentials *credentials;
	const char *signatures; /* the header's value; borrowed */
	void *mac[SECRETS_MAX];
};
bool auth_begin(struct auth_check *, const struct credentials *, const struct auth_headers *, time_t now);
void auth_update(struct auth_check *, const void *bytes, size_t len);
bool auth_end(struct auth_check *);

#endif
