// objects: lib/auth.c lib/base64.c
/* SPDX-License-Identifier: MIT */
/*
 * Any headers, secrets and body, cut out of the input at its line feeds: no crash, no leak, and
 * no request gets in without the secret. HMAC-SHA256 is out of a fuzzer's reach,
 * so with an unknown key a "yes" is a fault; so is one for headers that are missing.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"

#define LINES 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int what)
{
	if (!what)
		abort();
}

static int
let_in(const struct credentials *c, const struct auth_headers *h, const char *body)
{
	struct auth_check check;
	size_t half = strlen(body) / 2;

	if (!auth_begin(&check, c, h, 1614265330))
		return 0;
	auth_update(&check, body, half);
	auth_update(&check, body + half, strlen(body) - half);
	return auth_end(&check);
}

/* The next line as a string of its own, so that ASan sees each of its ends; owned by the caller. */
static char *
cut(const uint8_t **data, size_t *size)
{
	const uint8_t *end = *size == 0 ? NULL : memchr(*data, '\n', *size);
	size_t len = end == NULL ? *size : (size_t)(end - *data);
	char *line = malloc(len + 1);

	require(line != NULL);
	memcpy(line, *data, len);
	line[len] = '\0';
	*data += end == NULL ? len : len + 1;
	*size -= end == NULL ? len : len + 1;
	return line;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct credentials given = {0}, known = {0}, unknown = {0};
	char *line[LINES];
	struct auth_headers h;

	if (size == 0)
		return 0;
	for (size_t i = 0; i < LINES; i++)
		line[i] = cut(&data, &size);
	h = (struct auth_headers){.authorization = line[0],
	    .webhook_id = line[1],
	    .webhook_timestamp = line[2],
	    .webhook_signature = line[3]};

	/* What a sender may choose, against secrets that are not known. */
	require(credentials_add_basic(&unknown, "user", "4f1c9a6be2d7"));
	require(!let_in(&unknown, &h, line[4]));
	unknown.basic_count = 0;
	require(credentials_add_signature(&unknown, "whsec_9hK2mQx7Zr4TnB6vLw1YcJ8dPf3sGa5e"));
	require(!let_in(&unknown, &h, line[4]));

	/* The published example: only its own id, time and body get in with its signature. */
	require(credentials_add_signature(&known, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
	if (let_in(&known, &h, line[4]))
		require(strcmp(line[1], "msg_p5jXN8AQM9LWM0D4loKWxJek") == 0 &&
			strcmp(line[2], "1614265330") == 0 &&
			strcmp(line[4], "{\"test\": 2432232314}") == 0);
	h.doubled = true;
	require(!let_in(&known, &h, line[4]));

	/* Secrets in any form. */
	h.doubled = false;
	if (credentials_add_token(&given, line[5]))
		require(auth_token(&given, line[5], strlen(line[5])));
	require(!auth_token(&given, line[4], strlen(line[4])) || strcmp(line[4], line[5]) == 0);
	credentials_add_signature(&given, line[5]);
	credentials_add_basic(&given, line[4], line[5]);
	let_in(&given, &h, line[4]);

	credentials_wipe(&given);
	credentials_wipe(&known);
	credentials_wipe(&unknown);
	for (size_t i = 0; i < LINES; i++)
		free(line[i]);
	return 0;
}
