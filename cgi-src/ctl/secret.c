/* SPDX-License-Identifier: MIT */
/*
 * secret.c - "foloosictl secret": make a token for an endpoint, or a secret that signs.
 *
 * --file makes a file of mode 0600, as the configuration demands; with ">" the mode depends on the umask.
 */
#include <sys/random.h>
#include <sys/stat.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base64.h"
#include "ctl.h"
#include "mem.h"

#define TOKEN_BYTES 24   /* 192 bits, in hexadecimal */
#define SIGNING_BYTES 32 /* Standard Webhooks: 24 to 64 bytes, in base64 */

/* Both owned, with a newline at the end. */
static char *
new_token(void)
{
	unsigned char bytes[TOKEN_BYTES];
	char *text = xrealloc(NULL, 2 * sizeof bytes + 2);

	if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
		abort();
	for (size_t i = 0; i < sizeof bytes; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	memcpy(text + 2 * sizeof bytes, "\n", 2);
	explicit_bzero(bytes, sizeof bytes);
	return text;
}

static char *
new_signing_secret(void)
{
	unsigned char bytes[SIGNING_BYTES];
	char base64[BASE64_SIZE(SIGNING_BYTES)], *p;

	if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
		abort();
	base64_encode(bytes, sizeof bytes, base64);
	explicit_bzero(bytes, sizeof bytes);
	p = xasprintf("whsec_%s\n", base64);
	explicit_bzero(base64, sizeof base64);
	return p;
}

static const struct {
	const char *name;
	char *(*make)(void);
} kinds[] = {{"token", new_token}, {"whsec", new_signing_secret}};

/* Write a new file, and have it on disk. */
static int
write_file(const char *path, const char *text)
{
	size_t len = strlen(text);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool ok;

	if (fd < 0) {
		warn("%s", path);
		if (errno == EEXIST)
			warnx("a secret that is in use is not overwritten: remove the file first");
		return CTL_FAILED;
	}
	ok = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
	if (!ok) {
		warn("%s", path);
		unlink(path);
	}
	close(fd);
	return ok ? CTL_OK : CTL_FAILED;
}

static int
run_secret(const struct ctl_call *call)
{
	const char *path = ctl_value(call, "file");
	char **argv = call->argv, *text = NULL;
	int code = CTL_OK;

	if (call->argc != 2 || strcmp(argv[0], "new") != 0)
		return ctl_usage(call->self);
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strcmp(kinds[i].name, argv[1]) == 0)
			text = kinds[i].make();
	if (text == NULL)
		return ctl_usage(call->self);
	if (path != NULL)
		code = write_file(path, text);
	else
		fputs(text, stdout);
	explicit_bzero(text, strlen(text));
	free(text);
	return code;
}

const struct subcommand secret_subcommand = {
    .name = "secret",
    .arguments = "new token|whsec",
    .summary = "make a token for an endpoint, or a secret that signs",
    .options = CTL_OPTIONS(
	{"file", 'f', "PATH", "into a new file of mode 0600, for token_file and the like", NULL}),
    .help = "  token                      192 bits in hexadecimal\n"
	    "  whsec                      256 bits as Standard Webhooks writes them\n",
    .run = run_secret,
};
