// objects: lib/config.c lib/config_file.c lib/settings.c lib/config_check.c lib/url.c lib/mail.c lib/auth.c lib/log.c lib/transfer.c lib/json.c lib/rfc8259.c lib/text.c lib/money.c
/* SPDX-License-Identifier: MIT */
/*
 * Any file is either refused with one line of text that begins with its name, or accepted,
 * and then holds what config.h promises, prints itself, and is read back as the same.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "mem.h"

#define MASK "= ********\n"
/* Good as a token, a password and a signature secret. */
#define STAND_IN "= AAAABBBBCCCCDDDDEEEEFFFFGGGGHHHH\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int what)
{
	if (!what)
		abort();
}

static struct config *
load(const void *bytes, size_t size)
{
	int fd = memfd_create("fuzz", 0);
	char path[64];
	char *error = NULL;
	struct config *c;

	require(fd >= 0 && fchmod(fd, 0600) == 0);
	require(write(fd, bytes, size) == (ssize_t)size);
	/* A directory in which no file of secrets can be. */
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	c = config_load(path, CONFIG_FOR_WORKER, &error);
	close(fd);
	if (c == NULL) {
		require(error != NULL && strncmp(error, path, strlen(path)) == 0);
		require(error[strlen(path)] == ':' && strchr(error, '\n') == NULL);
		free(error);
	}
	return c;
}

static char *
print(const struct config *c)
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	require(f != NULL);
	config_print(c, f);
	fclose(f);
	return text;
}

static void
check(const struct config *c)
{
	require(c->threads >= 1 && c->threads <= 1024);
	require(c->body_limit >= 1024 && c->body_limit <= 16 << 20);
	require(c->deadline_ms >= 10 && c->deadline_ms <= 60000);
	require(c->socket_mode <= 0777);
	require(c->log_level >= 0 && c->log_level < LOG__MAX);
	require(c->merchant_count > 0);
	for (size_t i = 0; i < c->merchant_count; i++) {
		const struct merchant *m = &c->merchants[i];

		require(m->credentials.token_count >= 1);
		require(config_merchant(c, m->name, strlen(m->name)) == m);
		require(m->order_key < TRANSFER__MAX);
	}
}

/* The text with each mask replaced. */
static char *
unmasked(const char *text)
{
	char *out = xrealloc(NULL, strlen(text) * 4 + 1), *to = out;

	while (*text != '\0')
		if (strncmp(text, MASK, sizeof MASK - 1) == 0) {
			to = stpcpy(to, STAND_IN);
			text += sizeof MASK - 1;
		} else {
			*to++ = *text++;
		}
	*to = '\0';
	return out;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *c = load(data, size), *again;
	char *first, *second, *readable;

	if (c == NULL)
		return 0;
	check(c);
	first = print(c);
	if (strstr(first, "\ndatabase " MASK) == NULL) {
		readable = unmasked(first);
		again = load(readable, strlen(readable));
		require(again != NULL);
		second = print(again);
		require(strcmp(first, second) == 0);
		free(second);
		config_unref(again);
		free(readable);
	}
	free(first);
	config_unref(c);
	return 0;
}
