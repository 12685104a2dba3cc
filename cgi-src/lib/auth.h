/* SPDX-License-Identifier: MIT */
/*
 * auth.h - is this request, with these headers, from this merchant?
 *
 * No I/O, no globals. Every comparison with a secret is by digest and in constant time.
 */
#ifndef AUTH_H
#define AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define SECRETS_MAX 8             /* of each kind and merchant: rotation needs two */
#define SIGNATURE_TOLERANCE_S 300 /* Standard Webhooks: timestamps further off are refused */
#define AUTH_DIGEST_SIZE 32       /* SHA-256 */
#define TOKEN_MIN 16              /* characters: 16 of 64 kinds are 96 bits, if they are random */
#define TOKEN_MAX 255
#define BASIC_MAX 1024 /* bytes of "user:password" */

struct secret_key {
	unsigned char *bytes; /* owned */
	size_t len;
};

/* What one merchant's requests must have. Only digests and HMAC keys are kept, no token and no password. */
struct credentials {
	unsigned char token[SECRETS_MAX][AUTH_DIGEST_SIZE]; /* SHA-256 of each endpoint token */
	size_t token_count;                                 /* at least 1 */
	unsigned char basic[SECRETS_MAX][AUTH_DIGEST_SIZE]; /* SHA-256 of each "user:password" */
	size_t basic_count;                                 /* 0: Basic is not required */
	struct secret_key signature[SECRETS_MAX];           /* HMAC-SHA256 keys, decoded */
	size_t signature_count;                             /* 0: no signature is required */
};

/* SHA-256 of len bytes. */
void digest_sha256(const void *bytes, size_t len, unsigned char out[AUTH_DIGEST_SIZE]);

/* Add a secret; false if it is malformed or there are SECRETS_MAX already. */
/* token: TOKEN_MIN to TOKEN_MAX of A-Z a-z 0-9 _ -, because it stands in a URL path and is not percent-decoded. */
bool credentials_add_token(struct credentials *, const char *token);
/* RFC 7617: no colon in the user, no control characters in either; neither empty; at most BASIC_MAX with the colon. */
bool credentials_add_basic(struct credentials *, const char *user, const char *password);
/* secret: "whsec_" and base64, or base64 alone, of 24 to 64 bytes (Standard Webhooks). */
bool credentials_add_signature(struct credentials *, const char *secret);
void credentials_wipe(struct credentials *); /* frees and zeroes; safe on a zeroed struct */

/*
 * Does the path's last segment match a token? Looks at every token in constant
 * time. c may be NULL (unknown merchant): false, after the same time.
 */
bool auth_token(const struct credentials *c, const char *token, size_t len);

/* The headers that matter. NULL: absent. doubled: one of them came more than once. */
struct auth_headers {
	const char *authorization;                                      /* RFC 7617 */
	const char *webhook_id, *webhook_timestamp, *webhook_signature; /* Standard Webhooks */
	bool doubled;
};

/*
 * A running check over a body that arrives in pieces, so that even a body too
 * large to keep is authenticated before it is refused.
 * auth_begin: false if the headers alone are refused: doubled, or Basic or the
 *   signature is asked for and its headers are missing, malformed, wrong or (for the
 *   timestamp) more than SIGNATURE_TOLERANCE_S off. Then nothing was allocated: do not
 *   call the rest. now: wall clock, seconds. The headers must live until auth_end.
 * auth_end: is the signature right? Frees what auth_begin allocated. Call it in every case
 *   after a true auth_begin, also when the body was cut short and the result is of no use.
 */
struct auth_check {
	const struct credentials *credentials;
	const char *signatures; /* the header's value; borrowed */
	void *mac[SECRETS_MAX];
};
bool auth_begin(
    struct auth_check *, const struct credentials *, const struct auth_headers *, time_t now);
void auth_update(struct auth_check *, const void *bytes, size_t len);
bool auth_end(struct auth_check *);

/*
 * The other side, for what we send: "v1," and the base64 of the HMAC-SHA256 of
 * id.timestamp.body (Standard Webhooks). timestamp: decimal seconds since 1970.
 */
#define AUTH_SIGNATURE_SIZE (3 + 44 + 1)
void auth_sign(const struct secret_key *, const char *id, const char *timestamp, const void *body,
    size_t len, char signature[AUTH_SIGNATURE_SIZE]);

#endif
