// objects: lib/spool.c lib/spool_io.c lib/auth.c lib/log.c
/* SPDX-License-Identifier: MIT */
/*
 * Any bytes are either refused with a reason, or a delivery whose parts lie within them. The
 * same again with the checksum put right, or nothing would ever come past it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"
#include "mem.h"
#include "spool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int what)
{
	if (!what)
		abort();
}

static void
parse(unsigned char *bytes, size_t size)
{
	struct spooled s = {0};
	const char *fault = spool_parse(bytes, size, &s);

	if (fault != NULL) {
		require(*fault != '\0');
		return;
	}
	require(s.bytes == NULL);
	require(strlen(s.merchant) >= 1 && strlen(s.merchant) <= LIMIT_MERCHANT);
	require(strlen(s.request_id) == REQUEST_ID_SIZE - 1);
	require(s.body > bytes && s.body + s.body_len + AUTH_DIGEST_SIZE == bytes + size);
	require(s.order_ref == NULL || s.unprefixed == NULL);
	if (s.unprefixed != NULL)
		s.order_ref = s.unprefixed;
	if (s.order_ref != NULL) {
		require((const unsigned char *)s.order_ref > bytes);
		require(strlen(s.order_ref) < ORDER_REF_SIZE);
		require((const unsigned char *)s.order_ref + strlen(s.order_ref) + 1 == s.body);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *copy = xrealloc(NULL, size); /* exact, for the sanitizer */

	memcpy(copy, data, size);
	parse(copy, size);
	if (size >= AUTH_DIGEST_SIZE) {
		digest_sha256(copy, size - AUTH_DIGEST_SIZE, copy + size - AUTH_DIGEST_SIZE);
		parse(copy, size);
	}
	free(copy);
	return 0;
}
