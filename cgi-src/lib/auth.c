/* SPDX-License-Identifier: MIT */
/*
 * auth.c - is this request, with these headers, from this merchant?
 *
 * The hard part is that time must not tell anything of a secret. Secrets are compared by
 * SHA-256 or HMAC, so lengths are equal by construction; every configured secret is compared
 * on each request, and matches are gathered with | instead of an early return; an unknown
 * merchant costs what a known one costs. Only what the sender chose (the form of the
 * headers) may decide how long an answer takes.
 *
 * Anything that has two readings is refused: a doubled header, a header that a
 * proxy joined with a comma, base64 with stray bits, an id with a full stop (the
 * signed text is id.timestamp.body, so "a.1" + "2" and "a" + "1.2" would be one).
 *
 * libcrypto failing here means no memory or a broken installation: abort, since
 * a 401 would blame the sender.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "auth.h"
#include "base64.h"
#include "mem.h"

#define SIGNATURES_MAX 32  /* entries in one webhook-signature header */
#define MESSAGE_ID_MAX 255 /* characters of webhook-id */
#define TIMESTAMP_MAX 12   /* digits: no overflow, and years enough */
#define KEY_MIN 24         /* bytes of a signature key, Standard Webhooks */
#define KEY_MAX 64

static void
abort_unless(int ok)
{
	if (ok != 1)
		out_of_memory(); /* nothing else fails here */
}

/* Fetched once: EVP_sha256() would be looked up by name for each digest. Never freed. */
static const EVP_MD *
sha256(void)
{
	static _Atomic(EVP_MD *) kept;
	EVP_MD *none = NULL, *md = atomic_load(&kept);

	if (md != NULL)
		return md;
	abort_unless((md = EVP_MD_fetch(NULL, "SHA256", NULL)) != NULL);
	if (atomic_compare_exchange_strong(&kept, &none, md))
		return md;
	EVP_MD_free(md); /* another thread was faster */
	return none;
}

void
digest_sha256(const void *bytes, size_t len, unsigned char out[AUTH_DIGEST_SIZE])
{
	abort_unless(EVP_Digest(bytes, len, out, NULL, sha256(), NULL));
}

/*
 * Is this one of the count digests? Looks at all SECRETS_MAX places: how many are in use
 * must not show.
 */
static bool
digest_matches(const unsigned char digests[SECRETS_MAX][AUTH_DIGEST_SIZE], size_t count,
    const unsigned char digest[AUTH_DIGEST_SIZE])
{
	unsigned found = 0;

	for (size_t i = 0; i < SECRETS_MAX; i++)
		found |= (unsigned)(CRYPTO_memcmp(digests[i], digest, AUTH_DIGEST_SIZE) == 0) &
			 (unsigned)(i < count);
	return found != 0;
}

bool
credentials_add_token(struct credentials *c, const char *token)
{
	size_t len = strlen(token);

	if (c->token_count == SECRETS_MAX || len < TOKEN_MIN || len > TOKEN_MAX ||
	    strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") !=
		len)
		return false;
	digest_sha256(token, len, c->token[c->token_count++]);
	return true;
}

/* RFC 7617 section 2: neither part may hold control characters. */
static bool
has_control(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			return true;
	return false;
}

bool
credentials_add_basic(struct credentials *c, const char *user, const char *password)
{
	size_t user_len = strlen(user), len = user_len + 1 + strlen(password);
	char pair[BASIC_MAX + 1];

	if (c->basic_count == SECRETS_MAX || *user == '\0' || *password == '\0' ||
	    len > BASIC_MAX || strchr(user, ':') != NULL || has_control(user) ||
	    has_control(password))
		return false;
	memcpy(pair, user, user_len);
	pair[user_len] = ':';
	memcpy(pair + user_len + 1, password, len - user_len); /* its NUL too */
	digest_sha256(pair, len, c->basic[c->basic_count++]);
	OPENSSL_cleanse(pair, sizeof pair);
	return true;
}

bool
credentials_add_signature(struct credentials *c, const char *secret)
{
	static const char prefix[] = "whsec_";
	unsigned char key[KEY_MAX];
	size_t len;

	if (c->signature_count == SECRETS_MAX)
		return false;
	if (strncmp(secret, prefix, sizeof prefix - 1) == 0)
		secret += sizeof prefix - 1;
	len = base64_decode(secret, strlen(secret), key, sizeof key);
	if (len >= KEY_MIN) {
		struct secret_key *slot = &c->signature[c->signature_count++];

		slot->bytes = memcpy(xrealloc(NULL, len), key, len);
		slot->len = len;
	}
	OPENSSL_cleanse(key, sizeof key);
	return len >= KEY_MIN;
}

void
credentials_wipe(struct credentials *c)
{
	for (size_t i = 0; i < c->signature_count; i++) {
		OPENSSL_cleanse(c->signature[i].bytes, c->signature[i].len);
		free(c->signature[i].bytes);
	}
	OPENSSL_cleanse(c, sizeof *c);
}

bool
auth_token(const struct credentials *c, const char *token, size_t len)
{
	static const struct credentials none;
	unsigned char digest[AUTH_DIGEST_SIZE];

	if (c == NULL)
		c = &none;
	digest_sha256(token, len, digest);
	return digest_matches(c->token, c->token_count, digest);
}

/* RFC 7617: scheme in any case, 1*SP, token68 that is base64 of user:password. */
static bool
basic_matches(const struct credentials *c, const char *authorization)
{
	static const char scheme[] = "Basic ";
	unsigned char pair[BASIC_MAX];
	unsigned char digest[AUTH_DIGEST_SIZE];
	size_t len;
	bool ok;

	if (authorization == NULL || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
		return false;
	authorization += sizeof scheme - 1;
	authorization += strspn(authorization, " ");
	len = base64_decode(authorization, strlen(authorization), pair, sizeof pair);
	if (len == 0)
		return false;
	digest_sha256(pair, len, digest);
	ok = digest_matches(c->basic, c->basic_count, digest);
	OPENSSL_cleanse(pair, sizeof pair);
	return ok;
}

/* Visible ASCII, without the two characters that would make it ambiguous. */
static bool
message_id_ok(const char *id)
{
	size_t len = 0;

	if (id == NULL)
		return false;
	for (; id[len] != '\0'; len++)
		if (id[len] <= ' ' || id[len] >= 0x7f || id[len] == '.' || id[len] == ',' ||
		    len == MESSAGE_ID_MAX)
			return false;
	return len > 0;
}

/* Whole seconds since 1970, digits only, near enough to now. */
static bool
timestamp_ok(const char *text, time_t now)
{
	size_t len = text == NULL ? 0 : strspn(text, "0123456789");
	long long then, off;

	if (len == 0 || len > TIMESTAMP_MAX || text[len] != '\0')
		return false;
	then = strtoll(text, NULL, 10);
	off = (long long)now - then;
	return off >= -SIGNATURE_TOLERANCE_S && off <= SIGNATURE_TOLERANCE_S;
}

enum entry {
	ENTRY_NONE,
	ENTRY_BAD,
	ENTRY_OTHER,
	ENTRY_V1
};

/*
 * The next "version,base64" of a webhook-signature list, whose separator is one space.
 * Moves *list behind it. ENTRY_V1: signature has its 32 bytes. ENTRY_OTHER: another
 * version, to be skipped. ENTRY_BAD: the whole header is refused.
 */
static enum entry
next_signature(const char **list, unsigned char signature[AUTH_DIGEST_SIZE])
{
	const char *start = *list;
	size_t len = strcspn(start, " ");
	size_t version = strcspn(start, ", ");
	const char *value = start + version + 1;

	if (*start == '\0')
		return ENTRY_NONE;
	*list = start + len;
	if (**list == ' ' && *++*list == '\0')
		return ENTRY_BAD; /* a space with nothing behind it */
	/* Exactly one comma, something on both sides: two headers joined by a proxy have more. */
	if (version == 0 || version + 1 >= len || memchr(value, ',', len - version - 1) != NULL)
		return ENTRY_BAD;
	if (version != 2 || memcmp(start, "v1", 2) != 0)
		return ENTRY_OTHER;
	return base64_decode(value, len - version - 1, signature, AUTH_DIGEST_SIZE) ==
		       AUTH_DIGEST_SIZE
		   ? ENTRY_V1
		   : ENTRY_BAD;
}

/* Well formed to its end, with at least one signature that we can check. */
static bool
signatures_ok(const char *list)
{
	unsigned char signature[AUTH_DIGEST_SIZE];
	unsigned entries = 0, usable = 0;
	enum entry entry;

	if (list == NULL)
		return false;
	while ((entry = next_signature(&list, signature)) != ENTRY_NONE) {
		if (entry == ENTRY_BAD || ++entries > SIGNATURES_MAX)
			return false;
		usable += entry == ENTRY_V1;
	}
	return usable > 0;
}

/* A running HMAC-SHA256 under key, owned by the caller. */
static EVP_MAC_CTX *
mac_new(const struct secret_key *key)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
	    OSSL_PARAM_construct_end(),
	};
	EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *mac = EVP_MAC_CTX_new(hmac); /* NULL for a NULL hmac */

	abort_unless(mac != NULL);
	abort_unless(EVP_MAC_init(mac, key->bytes, key->len, params));
	EVP_MAC_free(hmac); /* the context keeps its own reference */
	return mac;
}

bool
auth_begin(
    struct auth_check *check, const struct credentials *c, const struct auth_headers *h, time_t now)
{
	*check = (struct auth_check){.credentials = c, .signatures = h->webhook_signature};

	if (h->doubled)
		return false;
	if (c->basic_count > 0 && !basic_matches(c, h->authorization))
		return false;
	if (c->signature_count == 0)
		return true;
	if (!message_id_ok(h->webhook_id) || !timestamp_ok(h->webhook_timestamp, now) ||
	    !signatures_ok(h->webhook_signature))
		return false;
	/* The key that signed is not named, so all run beside each other. */
	for (size_t i = 0; i < c->signature_count; i++)
		check->mac[i] = mac_new(&c->signature[i]);
	auth_update(check, h->webhook_id, strlen(h->webhook_id));
	auth_update(check, ".", 1);
	auth_update(check, h->webhook_timestamp, strlen(h->webhook_timestamp));
	auth_update(check, ".", 1);
	return true;
}

void
auth_update(struct auth_check *check, const void *bytes, size_t len)
{
	for (size_t i = 0; i < check->credentials->signature_count; i++)
		abort_unless(EVP_MAC_update(check->mac[i], bytes, len));
}

bool
auth_end(struct auth_check *check)
{
	size_t keys = check->credentials->signature_count;
	unsigned found = 0;

	for (size_t i = 0; i < keys; i++) {
		const char *list = check->signatures;
		unsigned char ours[AUTH_DIGEST_SIZE], theirs[AUTH_DIGEST_SIZE];
		enum entry entry;
		size_t len;

		abort_unless(EVP_MAC_final(check->mac[i], ours, &len, sizeof ours));
		abort_unless(len == sizeof ours);
		while ((entry = next_signature(&list, theirs)) != ENTRY_NONE)
			if (entry == ENTRY_V1)
				found |= (unsigned)(CRYPTO_memcmp(ours, theirs, sizeof ours) == 0);
		OPENSSL_cleanse(
		    ours, sizeof ours); /* a valid signature of a body that the sender chose */
		EVP_MAC_CTX_free(check->mac[i]);
		check->mac[i] = NULL;
	}
	return keys == 0 || found != 0;
}

void
auth_sign(const struct secret_key *key, const char *id, const char *timestamp, const void *body,
    size_t len, char signature[AUTH_SIGNATURE_SIZE])
{
	unsigned char digest[AUTH_DIGEST_SIZE];
	EVP_MAC_CTX *mac = mac_new(key);
	size_t n;

	abort_unless(EVP_MAC_update(mac, (const unsigned char *)id, strlen(id)));
	abort_unless(EVP_MAC_update(mac, (const unsigned char *)".", 1));
	abort_unless(EVP_MAC_update(mac, (const unsigned char *)timestamp, strlen(timestamp)));
	abort_unless(EVP_MAC_update(mac, (const unsigned char *)".", 1));
	abort_unless(EVP_MAC_update(mac, body, len));
	abort_unless(EVP_MAC_final(mac, digest, &n, sizeof digest));
	EVP_MAC_CTX_free(mac);
	memcpy(signature, "v1,", 3);
	base64_encode(digest, n, signature + 3);
}
