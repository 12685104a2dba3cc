// objects: lib/config.c lib/config_file.c lib/settings.c lib/config_check.c lib/url.c lib/mail.c lib/auth.c lib/log.c lib/transfer.c lib/rfc8259.c lib/money.c
/* SPDX-License-Identifier: MIT */
/*
 * Configuration files, good and bad. A bad one must be refused with the file, the line
 * and the words of the remedy, and without a word of any secret in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <grp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "mail.h"
#include "mem.h"

#define TOKEN "Zm9vYmFy-secret_1"
#define PASSWORD "pAss;word#1 = x"
#define WHSEC "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define SHOP "[merchant shop]\ntoken = " TOKEN "\n"
#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X16 "xxxxxxxxxxxxxxxx"
#define NINE(line) line line line line line line line line line

static char dir[] = "/tmp/test_config.XXXXXX";
static char *sample, *manual; /* the text of the files that are delivered */

/* A file of the source tree, by its place beside this one; owned by the caller. */
static char *
source_file(const char *name)
{
	char *path = xasprintf(
	    "%.*s%s", (int)(strlen(__FILE__) - strlen("tests/unit/test_config.c")), __FILE__, name);
	char *text = xcalloc(1 << 17, 1);
	FILE *f = fopen(path, "r");

	if (f == NULL || fread(text, 1, (1 << 17) - 1, f) == 0) {
		print_error(
		    "%s: cannot be read; run this in the directory it was built in\n", path);
		exit(1);
	}
	fclose(f);
	free(path);
	return text;
}

static int
make_dir(void **state)
{
	(void)state;
	sample = source_file("cgi-src/foloosi-webhook.conf");
	manual = source_file("cgi-src/man/foloosi-webhook.conf.5");
	return mkdtemp(dir) == NULL ? -1 : chdir(dir);
}

static int
remove_dir(void **state)
{
	char *command = xasprintf("rm -rf %s", dir);
	int rc = chdir("/");

	(void)state;
	rc |= system(command);
	free(sample);
	free(manual);
	free(command);
	return rc;
}

static void
write_bytes(const char *name, const char *bytes, size_t len, mode_t mode)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(name, mode), 0);
}

static void
write_file(const char *name, const char *text)
{
	write_bytes(name, text, strlen(text), 0600);
}

static void
write_mail_files(void)
{
	write_file("mail", "Subject: Order {order_ref}\n\nThanks.\n");
	write_file("badmail", "Subject: x\n\n{nothing}\n");
	write_bytes("nulmail", "Subject: x\n\n\0y\n", 15, 0644);
	write_file("auth", "u:hunter2:x\n");
	write_file("badauth", "hunter2\n");
	write_bytes("twokeys", "hunter2\nhunter3\n", 16, 0600);
	write_bytes("openauth", "u:p\n", 4, 0644);
}

/* The configuration of this text, which must be good. */
static struct config *
good(const char *text)
{
	struct config *c;
	char *error = NULL;

	write_file("good.conf", text);
	c = config_load("good.conf", CONFIG_FOR_WORKER, &error);
	if (c == NULL)
		fail_msg("refused: %s", error);
	return c;
}

/* What config_print() says; owned by the caller. */
static char *
printed(const struct config *c)
{
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	config_print(c, f);
	fclose(f);
	return text;
}

static void
assert_words(const char *what, const char *text, const char *word)
{
	if (text == NULL || strstr(text, word) == NULL)
		fail_msg("%s: \"%s\" is not in \"%s\"", what, word, text == NULL ? "" : text);
}

static void
assert_no_secret(const char *text)
{
	static const char *const secrets[] = {
	    TOKEN, "pAss", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "word#1", "hunter2"};

	for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
		if (strstr(text, secrets[i]) != NULL)
			fail_msg("a secret shows: %s", text);
}

/* Loads path, which must be refused with "path:line: …" (line 0: "path: …") and the words. */
static void
refused(const char *what, const char *path, unsigned line, const char *fault, const char *remedy)
{
	char *error = NULL, *start;
	struct config *c = config_load(path, CONFIG_FOR_WORKER, &error);

	if (c != NULL)
		fail_msg("%s: accepted", what);
	start = line == 0 ? xasprintf("%s: ", path) : xasprintf("%s:%u: ", path, line);
	if (strncmp(error, start, strlen(start)) != 0)
		fail_msg("%s: does not begin with %s: %s", what, start, error);
	assert_words(what, error, fault);
	assert_words(what, error, remedy);
	assert_null(strchr(error, '\n'));
	assert_no_secret(error);
	free(start);
	free(error);
}

static const struct bad {
	const char *what, *text;
	unsigned line;
	const char *fault, *remedy;
} bad[] = {
    /* clang-format off */
    {"nothing", "", 1, "no merchant", "add a section [merchant NAME]"},
    {"comments only", "# a\n; b\n\n", 3, "no merchant", "add a section"},
    {"no merchant", "[foloosi-webhook]\nthreads = 3\n", 2, "no merchant", "add a section"},
    {"no token", "\n[merchant shop]\norder_key = optional1\n", 2, "shop has no token", "add token_file"},
    {"no token in the first of two", "[merchant a]\n" SHOP, 1, "a has no token", "add token_file"},
    {"no token in the last", SHOP "[merchant b]\n", 3, "b has no token", "add token_file"},
    {"basic alone is no token", "[merchant b]\nbasic_user = u\nbasic_password = " PASSWORD "\n", 1,
	"no token", "add token_file"},

    {"unknown section", SHOP "[shop]\n", 3, "section is unknown", "[merchant NAME]"},
    {"section in capitals", "[Foloosi-Webhook]\n", 1, "section is unknown", "[foloosi-webhook]"},
    {"merchant without a name", "[merchant]\n", 1, "section is unknown", "[merchant NAME]"},
    {"merchant with an empty name", "[merchant ]\n", 1, "section is unknown", "[merchant NAME]"},
    {"merchant run together", "[merchantshop]\n", 1, "section is unknown", "[merchant NAME]"},
    {"merchant name with a slash", "[merchant a/b]\n", 1, "cannot stand in a URL", "A-Z"},
    {"merchant name with a space", "[merchant a b]\n", 1, "cannot stand in a URL", "A-Z"},
    {"merchant name with a percent", "[merchant a%20]\n", 1, "cannot stand in a URL", "A-Z"},
    {"merchant name of a dot", "[merchant .]\n", 1, "cannot stand in a URL", "A-Z"},
    {"merchant name of two dots", "[merchant ..]\n", 1, "cannot stand in a URL", "A-Z"},
    {"merchant name beyond ASCII", "[merchant caf\xc3\xa9]\n", 1, "cannot stand in a URL", "A-Z"},
    {"merchant name of 65", "[merchant " X64 "x]\n", 1, "cannot stand in a URL", "1 to 64"},
    {"merchant twice", SHOP "[merchant  shop ]\n", 3, "second time", "line 1"},
    {"globals twice", "[foloosi-webhook]\n" SHOP "[foloosi-webhook]\n", 4, "second time", "line 1"},
    {"section not closed", "[merchant shop\n", 1, "does not end with ]", "on a line of its own"},
    {"text behind a section", "[merchant shop] token=" TOKEN "\n", 1, "does not end with ]",
	"on a line of its own"},
    {"comment behind a section", "[merchant shop] # mine\n", 1, "does not end with ]",
	"on a line of its own"},

    {"setting before a section", "threads = 3\n" SHOP, 1, "before any section", "begin with [foloosi-webhook]"},
    {"unknown setting", "[foloosi-webhook]\nthread = 3\n" SHOP, 2, "thread is no setting",
	"foloosi-webhook.conf(5)"},
    {"setting in capitals", "[foloosi-webhook]\nThreads = 3\n" SHOP, 2, "is no setting", "conf(5)"},
    {"global among a merchant's", SHOP "threads = 3\n", 3, "threads is no setting of this section",
	"belongs into [foloosi-webhook]"},
    {"a merchant's among the globals", "[foloosi-webhook]\n\ntoken = " TOKEN "\n", 3,
	"token is no setting of this section", "belongs into [merchant NAME]"},
    {"the worker's among the globals", "[foloosi-webhook]\npoll = 1s\n" SHOP, 2,
	"poll is no setting of this section", "belongs into [foloosi-worker]"},
    {"two sections of the worker", "[foloosi-worker]\n[foloosi-worker]\n" SHOP, 2, "for the second time", "line 1"},
    {"event_url of another scheme", SHOP "event_url = ftp://x/y\n", 3, "bad value", "https"},
    {"event_url as it is printed", SHOP "event_url = https://x/********\nevent_secret = " WHSEC "\n", 3, "bad value", "https"},
    {"event_url without a secret", SHOP "event_url = https://x/y\n", 3, "no secret to sign", "event_secret_file"},
    {"event_secret too short", SHOP "event_secret = whsec_QUJD\n", 3, "bad value", "base64"},
    {"provider without a key", SHOP "provider_url = https://x\n", 3, "no key", "provider_secret_file"},
    {"two provider keys", SHOP "provider_secret = a\nprovider_secret = b\n", 4, "already set", "remove"},
    {"a file of two provider keys", SHOP "provider_secret_file = twokeys\n", 3, "has a key already", "leave one"},
    {"provider key with a blank", SHOP "provider_secret = a b\n", 3, "bad value", "printable"},
    {"provider_path without a place", SHOP "provider_url = https://x\nprovider_secret = a\nprovider_path = /x\n", 5, "provider_path", "{transaction_no}"},
    {"provider_path without a slash", SHOP "provider_url = https://x\nprovider_secret = a\nprovider_path = {transaction_no}\n", 5, "provider_path", "begin with /"},
    {"provider_list_path without a page", SHOP "provider_url = https://x\nprovider_secret = a\nprovider_list_path = /x?{from}{to}\n", 5, "provider_list_path", "{page}"},
    {"provider_list_path without a slash", SHOP "provider_url = https://x\nprovider_secret = a\nprovider_list_path = {from}{to}{page}\n", 5, "provider_list_path", "begin with /"},
    {"provider_url and a key that no answer is known to hold", SHOP "order_key = payment_reference\nprovider_url = https://x\nprovider_secret = a\n", 4, "order_key", "provider_order"},
    {"member with two dots", SHOP "provider_status = a..b\n", 3, "bad value", "dots"},
    {"member with a dot behind", SHOP "provider_status = a.\n", 3, "bad value", "dots"},
    {"empty member", SHOP "provider_status =\n", 3, "no value", "remove"},
    {"http to elsewhere", SHOP "event_url = http://x/y\nevent_secret = " WHSEC "\n", 1, "http to another machine", "plain_http"},
    {"a provider by http", SHOP "provider_url = http://x\nprovider_secret = a\n", 1, "http to another machine", "plain_http"},
    {"neither yes nor no", "[foloosi-worker]\nplain_http = true\n" SHOP, 2, "bad value", "yes or no"},
    {"a mail without a sender", SHOP "mail_success = mail\n", 1, "no sender", "mail_from"},
    {"a sender without a mail", SHOP "mail_from = a@b.c\n", 3, "no mail", "mail_success"},
    {"a sender and no server", SHOP "mail_from = a@b.c\nmail_success = mail\n", 1, "nobody takes mails", "smtp_url"},
    {"a sender with a name", SHOP "mail_from = Shop <a@b.c>\n", 3, "bad value", "without a name"},
    {"a template that is not there", SHOP "mail_success = nowhere\n", 3, "nowhere cannot be read", "create it"},
    {"a template that is wrong", SHOP "mail_from = a@b.c\nmail_cancel = badmail\n", 4, "badmail: line 3", "no placeholder"},
    {"a template with a NUL", SHOP "mail_success = nulmail\n", 3, "holds a NUL", "UTF-8"},
    {"smtp_url of http", "[foloosi-worker]\nsmtp_url = http://x\n" SHOP, 2, "bad value", "smtps://"},
    {"smtp_url with a path", "[foloosi-worker]\nsmtp_url = smtp://x/y\n" SHOP, 2, "bad value", "no path"},
    {"smtp_url with a user", "[foloosi-worker]\nsmtp_url = smtp://u:p@x\n" SHOP, 2, "bad value", "smtps://"},
    {"no TLS to elsewhere", "[foloosi-worker]\nsmtp_tls = no\nsmtp_url = smtp://x\n" SHOP, 3, "another machine", "remove smtp_tls"},
    {"smtp_auth_file not there", "[foloosi-worker]\nsmtp_auth_file = nowhere\n" SHOP, 2, "cannot be read", "create it"},
    {"smtp_auth_file without a colon", "[foloosi-worker]\nsmtp_auth_file = badauth\n" SHOP, 2, "badauth: line 1 is bad", "user:password"},
    {"smtp_auth_file open", "[foloosi-worker]\nsmtp_auth_file = openauth\n" SHOP, 2, "open to every user", "chmod o="},
    {"smtp_ca_file not there", "[foloosi-worker]\nsmtp_ca_file = nowhere\n" SHOP, 2, "cannot be read", "create it"},
    {"secret in the place of a name", SHOP TOKEN " = token\n", 3, "what stands here is no setting", "remove"},
    {"secret on a line of its own", SHOP TOKEN "\n", 3, "is no setting", "name = value"},
    {"no equals sign", SHOP "order_key\n", 3, "is no setting", "name = value"},
    {"continuation line", "[foloosi-webhook]\ndatabase = dbname=a\n  port=5\n" SHOP, 3, "port is no setting",
	"remove the line"},
    {"set twice", "[foloosi-webhook]\nthreads = 3\nthreads = 3\n" SHOP, 3, "already set in line 2", "remove"},
    {"order_key twice", SHOP "order_key = optional2\norder_key = optional3\n", 4, "already set in line 3",
	"remove"},
    {"password twice", SHOP "basic_password = a\nbasic_password = b\n", 4, "already set in line 3", "remove"},

    {"no value", "[foloosi-webhook]\nthreads =\n" SHOP, 2, "threads has no value", "remove the line"},
    {"no token's value", "[merchant shop]\ntoken =\n", 2, "token has no value", "remove the line"},
    {"quotes", "[foloosi-webhook]\ndatabase = \"dbname=a\"\n" SHOP, 2, "stands in quotes", "remove them"},
    {"quoted password", SHOP "basic_password = 'hunter2'\n", 3, "stands in quotes", "basic_file"},
    {"comment behind a value", "[foloosi-webhook]\nthreads = 3 ; few\n" SHOP, 2, "followed by a comment",
	"line of its own"},
    {"hash behind a value", "[foloosi-webhook]\ndatabase = dbname=a # main\n" SHOP, 2, "followed by a comment",
	"line of its own"},
    {"comment behind a password", SHOP "basic_password = hunter2 ;x\n", 3, "followed by a comment",
	"basic_file"},
    {"mask read back", "[merchant shop]\ntoken = ********\n", 2, "holds the mask", "the secret itself"},
    {"masked database read back", "[foloosi-webhook]\ndatabase = ********\n", 2, "holds the mask",
	"the secret itself"},

    {"threads 0", "[foloosi-webhook]\nthreads = 0\n", 2, "threads has a bad value", "from 1 to 1024"},
    {"threads 1025", "[foloosi-webhook]\nthreads = 1025\n", 2, "bad value", "for example threads = 128"},
    {"threads -1", "[foloosi-webhook]\nthreads = -1\n", 2, "bad value", "from 1 to 1024"},
    {"threads +1", "[foloosi-webhook]\nthreads = +1\n", 2, "bad value", "from 1 to 1024"},
    {"threads 0x10", "[foloosi-webhook]\nthreads = 0x10\n", 2, "bad value", "from 1 to 1024"},
    {"threads 1e2", "[foloosi-webhook]\nthreads = 1e2\n", 2, "bad value", "from 1 to 1024"},
    {"threads 2^64+1", "[foloosi-webhook]\nthreads = 18446744073709551617\n", 2, "bad value", "from 1 to 1024"},
    {"threads of two", "[foloosi-webhook]\nthreads = 1 2\n", 2, "bad value", "from 1 to 1024"},
    {"body_limit 1023", "[foloosi-webhook]\nbody_limit = 1023\n", 2, "bad value", "from 1024 to 16m"},
    {"body_limit 17m", "[foloosi-webhook]\nbody_limit = 17m\n", 2, "bad value", "from 1024 to 16m"},
    {"body_limit in GiB", "[foloosi-webhook]\nbody_limit = 1g\n", 2, "bad value", "k for KiB"},
    {"body_limit 2^64 + 1024", "[foloosi-webhook]\nbody_limit = 18014398509481985k\n", 2, "bad value", "to 16m"},
    {"body_limit with a space", "[foloosi-webhook]\nbody_limit = 64 k\n", 2, "bad value", "k for KiB"},
    {"deadline without unit", "[foloosi-webhook]\ndeadline = 3\n", 2, "bad value", "with its unit"},
    {"deadline fraction", "[foloosi-webhook]\ndeadline = 2.5s\n", 2, "bad value", "ms or s"},
    {"deadline 9ms", "[foloosi-webhook]\ndeadline = 9ms\n", 2, "bad value", "from 10ms to 60s"},
    {"deadline 61s", "[foloosi-webhook]\ndeadline = 61s\n", 2, "bad value", "from 10ms to 60s"},
    {"socket_mode decimal", "[foloosi-webhook]\nsocket_mode = 0980\n", 2, "bad value", "octal"},
    {"socket_mode in letters", "[foloosi-webhook]\nsocket_mode = rw-rw----\n", 2, "bad value", "octal"},
    {"socket_mode setuid", "[foloosi-webhook]\nsocket_mode = 4660\n", 2, "bad value", "0777"},
    {"socket_mode short", "[foloosi-webhook]\nsocket_mode = 60\n", 2, "bad value", "socket_mode = 0660"},
    {"socket_group unknown", "[foloosi-webhook]\nsocket_group = no-such-group\n", 2, "bad value",
	"of a group of this machine"},
    {"socket_group number", "[foloosi-webhook]\nsocket_group = 4294967295\n", 2, "bad value",
	"of a group of this machine"},
    {"listen relative", "[foloosi-webhook]\nlisten = run/socket\n", 2, "bad value", "absolute path"},
    {"listen too long", "[foloosi-webhook]\nlisten = /" X64 X16 X16 "xxxx\n", 2, "bad value", "at most 100"},
    {"spool_dir relative", "[foloosi-webhook]\nspool_dir = spool\n", 2, "bad value", "absolute path"},
    {"spool_dir empty", "[foloosi-webhook]\nspool_dir =\n", 2, "spool_dir has no value", "remove the line"},
    {"spool_max_bytes 1023", "[foloosi-webhook]\nspool_max_bytes = 1023\n", 2, "bad value", "from 1024 to"},
    {"spool_max_bytes 512 GiB + 1 MiB", "[foloosi-webhook]\nspool_max_bytes = 524289m\n", 2, "bad value",
	"to 524288m"},
    {"spool_max_bytes 2^64 + 1024", "[foloosi-webhook]\nspool_max_bytes = 18014398509481985k\n", 2, "bad value",
	"to 524288m"},
    {"spool_max_files 0", "[foloosi-webhook]\nspool_max_files = 0\n", 2, "bad value", "from 1 to 10000000"},
    {"spool_rate 0", "[foloosi-webhook]\nspool_rate = 0\n", 2, "bad value", "from 1 to 100000"},
    {"log_level", "[foloosi-webhook]\nlog_level = verbose\n", 2, "bad value", "error, warning, info or debug"},
    {"order_key unknown", SHOP "order_key = order_id\n", 3, "bad value", "optional1, optional2"},
    {"order_key an amount", SHOP "order_key = transaction_amount\n", 3, "bad value", "payment_reference"},
    {"order_key personal", SHOP "order_key = customer_email\n", 3, "bad value", "payment_reference"},
    {"order_prefix empty", SHOP "order_prefix =\n", 3, "bad value", "1 to 254 bytes"},
    {"order_prefix too long", SHOP "order_prefix = " X64 X64 X64 X64 "\n", 3, "bad value", "1 to 254 bytes"},

    {"token of 15", "[merchant shop]\ntoken = hunter2hunter2h\n", 2, "token has a bad value", "openssl rand"},
    {"token with a slash", "[merchant shop]\ntoken = hunter2/hunter2/x\n", 2, "bad value", "A-Z a-z 0-9 _ -"},
    {"token with a percent", "[merchant shop]\ntoken = hunter2%2fhunter2\n", 2, "bad value", "A-Z a-z"},
    {"token of 256", "[merchant shop]\ntoken = " X64 X64 X64 X64 "\n", 2, "bad value", "16 to 255"},
    {"nine tokens", "[merchant shop]\n" NINE("token = " TOKEN "\n"), 10, "more than 8", "remove those"},
    {"signature not base64", SHOP "signature_secret = hunter2\n", 3, "bad value", "base64 of 24 to 64 bytes"},
    {"signature of 23 bytes", SHOP "signature_secret = whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", 3,
	"bad value", "base64 of 24 to 64 bytes"},
    {"nine signature secrets", SHOP NINE("signature_secret = " WHSEC "\n"), 11, "more than 8", "remove those"},
    {"user without password", SHOP "basic_user = u\n[merchant b]\n", 3, "has no password",
	"add basic_password to [merchant shop]"},
    {"password without user", SHOP "basic_password = " PASSWORD "\n", 3, "has no user",
	"add basic_user to [merchant shop]"},
    {"user with a colon", SHOP "basic_password = hunter2\n\nbasic_user = a:b\n", 5, "basic_user has a bad value",
	"without colon"},
    {"password does not reach the next merchant",
	SHOP "basic_user = u\nbasic_password = " PASSWORD
	     "\n[merchant b]\ntoken = 0123456789abcdef\nbasic_user = u\n",
	7, "has no password", "[merchant b]"},

    {"escape sequence", SHOP "order_prefix = \x1b[2J\n", 3, "control character", "plain UTF-8"},
    {"lone CR", "[foloosi-webhook]\rthreads = 3\r" SHOP, 1, "control character", "plain UTF-8"},
    {"byte order mark", "\xef\xbb\xbf[foloosi-webhook]\n" SHOP, 1, "byte order mark", "without it"},
    /* clang-format on */
};

static void
bad_files_are_refused(void **state)
{
	(void)state;
	write_mail_files();
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		write_file("bad.conf", bad[i].text);
		refused(bad[i].what, "bad.conf", bad[i].line, bad[i].fault, bad[i].remedy);
	}
}

/* The same with the line ends of Windows, and without one at the end. */
static void
line_ends_do_not_matter(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		size_t len = strlen(bad[i].text), n = 0;
		char *text = xrealloc(NULL, 2 * len + 1);

		for (size_t k = 0; k < len; k++) {
			if (bad[i].text[k] == '\n')
				text[n++] = '\r';
			text[n++] = bad[i].text[k];
		}
		write_bytes("crlf.conf", text, n, 0600);
		refused(bad[i].what, "crlf.conf", bad[i].line, bad[i].fault, bad[i].remedy);
		free(text);
		if (len == 0)
			continue;
		write_bytes("bare.conf", bad[i].text, len - 1, 0600);
		if (strcmp(bad[i].what, "comments only") != 0)
			refused(bad[i].what, "bare.conf", bad[i].line, bad[i].fault, bad[i].remedy);
	}
}

/* inih alone would read a line's rest as the next line. */
static void
long_lines(void **state)
{
	static const char head[] = "[foloosi-webhook]\n";
	char text[5000], *error;
	struct config *c;

	(void)state;
	for (size_t len = 4080; len < 4110; len++) {
		size_t n;

		strcpy(text, head);
		n = strlen(text);
		memset(text + n, 'x', len);
		memcpy(text + n, "database = ", 11);
		strcpy(text + n + len, "\n" SHOP);
		write_file("long.conf", text);
		if (len > 4096) {
			refused("long", "long.conf", 2, "longer than 4096 bytes", "shorten it");
			continue;
		}
		c = config_load("long.conf", CONFIG_FOR_WORKER, &error);
		assert_non_null(c);
		assert_int_equal(strlen(c->database), len - 11);
		config_unref(c);
	}
	memset(text, 'x', sizeof text);
	memcpy(text, "# ", 2);
	text[4997] = '\n';
	write_bytes("long.conf", text, 4998, 0600);
	refused("long comment", "long.conf", 1, "longer than 4096 bytes", "shorten it");
}

static void
nul_bytes(void **state)
{
	static const char utf16[] = "\xff\xfe[\0f\0o\0",
			  hidden[] = SHOP "order_key\0 = optional2\n";

	(void)state;
	write_bytes("nul.conf", utf16, sizeof utf16 - 1, 0600);
	refused("UTF-16", "nul.conf", 1, "control character", "plain UTF-8");
	write_bytes("nul.conf", hidden, sizeof hidden - 1, 0600);
	refused("NUL", "nul.conf", 3, "control character", "plain UTF-8");
}

static void
unusable_files(void **state)
{
	char *large = xrealloc(NULL, (1 << 20) + 1);

	(void)state;
	refused("absent", "absent.conf", 0, "No such file", "create it");
	refused("directory", "/tmp", 0, "no regular file", "name another");
	assert_int_equal(mkfifo("pipe", 0600), 0);
	alarm(30); /* ends a load that waits for a writer */
	refused("pipe", "pipe", 0, "no regular file", "name another");
	alarm(0);
	memset(large, '\n', (1 << 20) + 1);
	write_bytes("large.conf", large, (1 << 20) + 1, 0600);
	refused("large", "large.conf", 0, "too long", "name another");
	free(large);
	if (geteuid() != 0) {
		write_bytes("locked.conf", SHOP, strlen(SHOP), 0);
		refused("locked", "locked.conf", 0, "Permission denied",
		    "let the program's user read it");
	}
}

static void
open_files(void **state)
{
	static const struct {
		const char *text;
		unsigned line;
		const char *setting;
	} rows[] = {
	    {SHOP, 2, "token is a secret"},
	    {"[merchant shop]\ntoken_file = token\nbasic_password = " PASSWORD "\n", 3,
		"basic_password is a secret"},
	    {"[merchant shop]\ntoken_file = token\nsignature_secret = " WHSEC "\n", 3,
		"signature_secret is a secret"},
	    {"[foloosi-webhook]\ndatabase = dbname=a password=hunter2\n", 2,
		"database is a secret"},
	    {"[foloosi-webhook]\ndatabase = postgresql://u:hunter2@h/db\n", 2,
		"database is a secret"},
	    {"[foloosi-webhook]\nmonitor = dbname=a password=hunter2\n", 2, "monitor is a secret"},
	};
	static const char clean[] = "[foloosi-webhook]\ndatabase = service=foloosi\n"
				    "[merchant shop]\ntoken_file = token\nbasic_file = basic\n";
	struct config *c;
	char *error;

	(void)state;
	write_file("token", TOKEN "\n");
	write_file("basic", "u:hunter2\n");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		write_bytes("open.conf", rows[i].text, strlen(rows[i].text), 0644);
		refused(
		    "readable", "open.conf", rows[i].line, rows[i].setting, "chmod o= open.conf");
	}
	write_bytes("open.conf", clean, strlen(clean), 0644);
	c = config_load("open.conf", CONFIG_FOR_WORKER, &error);
	assert_non_null(c);
	config_unref(c);
	write_bytes("open.conf", clean, strlen(clean), 0646);
	refused("writable", "open.conf", 0, "may change the configuration", "chmod o-w open.conf");
	write_bytes("open.conf", SHOP, strlen(SHOP), 0660);
	c = config_load("open.conf", CONFIG_FOR_WORKER, &error);
	assert_non_null(c);
	config_unref(c);
}

static void
secret_files(void **state)
{
	static const struct {
		const char *setting, *bytes;
		mode_t mode;
		const char *fault, *remedy;
	} rows[] = {
	    {"token_file", TOKEN "\n", 0644, "token_file ./secret is open to every user",
		"chmod o= ./secret"},
	    {"token_file", TOKEN "\n", 0602, "open to every user", "chmod o= ./secret"},
	    {"token_file", "", 0600, "is empty", "write a secret"},
	    {"token_file", "\n\n", 0600, "is empty", "write a secret"},
	    {"token_file", TOKEN "\n\nhunter2\n", 0600, "line 3 is bad", "16 to 255 characters"},
	    {"token_file", TOKEN " \n", 0600, "line 1 is bad", "16 to 255 characters"},
	    {"token_file", "# " TOKEN "\n", 0600, "line 1 is bad", "16 to 255 characters"},
	    {"token_file", "\xef\xbb\xbf" TOKEN "\n", 0600, "line 1 begins with a byte order mark",
		"UTF-8"},
	    {"token_file", TOKEN "\x01\n", 0600, "line 1 holds a control character", "UTF-8"},
	    {"token_file", NINE(TOKEN "\n"), 0600, "more than 8", "remove those"},
	    {"basic_file", "hunter2\n", 0600, "line 1 is bad", "a user without colon"},
	    {"basic_file", ":hunter2\n", 0600, "line 1 is bad", "a user without colon"},
	    {"basic_file", "user:\n", 0600, "line 1 is bad", "not empty"},
	    {"signature_secret_file", WHSEC "\nwhsec_\n", 0600, "line 2 is bad",
		"base64 of 24 to 64"},
	};
	char text[200];

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		write_bytes("secret", rows[i].bytes, strlen(rows[i].bytes), rows[i].mode);
		snprintf(text, sizeof text, "[merchant shop]\n\n%s = secret\n", rows[i].setting);
		write_file("secret.conf", text);
		/* A relative path is looked for beside the configuration. */
		refused(rows[i].bytes, "./secret.conf", 3, rows[i].fault, rows[i].remedy);
	}
	write_file("secret.conf", "[merchant shop]\ntoken_file = absent\n");
	refused("absent", "secret.conf", 2, "token_file absent cannot be read: No such file",
	    "create it");
	write_file("secret.conf", "[merchant shop]\ntoken_file = /dev/zero\n");
	refused("endless", "secret.conf", 2, "no regular file", "name another file");
	if (geteuid() != 0) {
		write_bytes("secret", TOKEN, strlen(TOKEN), 0);
		write_file("secret.conf", "[merchant shop]\ntoken_file = secret\n");
		refused("locked", "secret.conf", 2, "Permission denied",
		    "let the program's user read it");
	}
}

static bool
basic_ok(const struct merchant *m, const char *authorization)
{
	const struct auth_headers h = {.authorization = authorization};
	struct auth_check check;

	return auth_begin(&check, &m->credentials, &h, 0) && auth_end(&check);
}

static void
defaults(void **state)
{
	struct config *c = good(SHOP);

	(void)state;
	assert_string_equal(c->database, "");
	assert_null(c->listen);
	assert_int_equal(c->socket_mode, 0660);
	assert_null(c->socket_group);
	assert_int_equal(c->threads, 128);
	assert_int_equal(c->body_limit, 65536);
	assert_int_equal(c->deadline_ms, 3000);
	assert_int_equal(c->log_level, LOG_INFO);
	assert_int_equal(c->merchant_count, 1);
	assert_string_equal(c->merchants[0].name, "shop");
	assert_int_equal(c->merchants[0].order_key, TRANSFER_OPTIONAL1);
	assert_null(c->merchants[0].order_prefix);
	assert_int_equal(c->merchants[0].credentials.basic_count, 0);
	assert_int_equal(c->merchants[0].credentials.signature_count, 0);
	config_unref(c);
	c = good("[foloosi-webhook]\nsocket_group = 0\n" SHOP); /* a number needs no name */
	assert_string_equal(c->socket_group, "0");
	config_unref(c);
}

static void
every_setting(void **state)
{
	struct group *group = getgrgid(0);
	char *text = xasprintf("; a comment\n"
			       "[merchant b.2_C-x]\n"
			       "token=" TOKEN "\n"
			       "token : 0123456789abcdef\n"
			       "basic_user = user\n"
			       "  basic_password   =   " PASSWORD "   \n"
			       "signature_secret = " WHSEC "\n"
			       "order_key = payment_reference\n"
			       "order_prefix = a=b:c\n"
			       "\n"
			       "\t# another\n"
			       "[foloosi-webhook]\n"
			       "database = host=/run dbname=f options='-c x=y'\n"
			       "listen = /run/foloosi-webhook/socket\n"
			       "socket_mode = 600\n"
			       "socket_group = %s\n"
			       "threads = 1024\n"
			       "body_limit = 1M\n"
			       "deadline = 2500ms\n"
			       "log_level = debug\n"
			       "[\tmerchant\t a ]\t\n"
			       "token = 0123456789ABCDEF\n"
			       "order_key = transaction_no",
	    group->gr_name);
	struct config *c = good(text);
	const struct merchant *m;

	(void)state;
	assert_string_equal(c->database, "host=/run dbname=f options='-c x=y'");
	assert_string_equal(c->listen, "/run/foloosi-webhook/socket");
	assert_int_equal(c->socket_mode, 0600);
	assert_string_equal(c->socket_group, group->gr_name);
	assert_int_equal(c->threads, 1024);
	assert_int_equal(c->body_limit, 1 << 20);
	assert_int_equal(c->deadline_ms, 2500);
	assert_int_equal(c->log_level, LOG_DEBUG);
	assert_int_equal(c->merchant_count, 2);
	m = config_merchant(c, "b.2_C-x/", 7);
	assert_non_null(m);
	assert_string_equal(m->name, "b.2_C-x");
	assert_true(auth_token(&m->credentials, TOKEN, strlen(TOKEN)));
	assert_true(auth_token(&m->credentials, "0123456789abcdef", 16));
	assert_false(auth_token(&m->credentials, "0123456789ABCDEF", 16));
	assert_true(basic_ok(&(struct merchant){.credentials = {.token_count = 0}}, NULL));
	assert_int_equal(m->credentials.basic_count, 1);
	assert_int_equal(m->credentials.signature_count, 1);
	assert_int_equal(m->order_key, TRANSFER_REFERENCE);
	assert_string_equal(m->order_prefix, "a=b:c");
	m = config_merchant(c, "a", 1);
	assert_non_null(m);
	assert_int_equal(m->order_key, TRANSFER_NO);
	assert_int_equal(m->credentials.basic_count, 0);
	config_unref(c);
	free(text);
}

/* user:pAss;word#1 = x, as the client would send it. */
static void
passwords_hold_what_ini_files_dislike(void **state)
{
	struct config *c = good(SHOP "basic_user = user\nbasic_password = " PASSWORD "\n");

	(void)state;
	assert_true(basic_ok(&c->merchants[0], "Basic dXNlcjpwQXNzO3dvcmQjMSA9IHg="));
	assert_false(basic_ok(&c->merchants[0], "Basic dXNlcjpwQXNz"));
	config_unref(c);
}

static void
secrets_from_files(void **state)
{
	struct config *c;
	char *error;

	(void)state;
	mkdir("sub", 0700);
	write_file("sub/tokens", TOKEN "\r\n0123456789abcdef");
	write_file("sub/more", "fedcba9876543210\n\n");
	write_file("basic", "Aladdin:open sesame\nuser: a:b \n");
	write_file("whsec", WHSEC "\n" WHSEC "\n");
	write_file("sub/files.conf", "[merchant shop]\ntoken_file = tokens\ntoken_file = more\n"
				     "basic_file = ../basic\nsignature_secret_file = ../whsec\n");
	c = config_load("sub/files.conf", CONFIG_FOR_WORKER, &error);
	if (c == NULL)
		fail_msg("%s", error);
	assert_int_equal(c->merchants[0].credentials.token_count, 3);
	assert_true(auth_token(&c->merchants[0].credentials, TOKEN, strlen(TOKEN)));
	assert_true(auth_token(&c->merchants[0].credentials, "0123456789abcdef", 16));
	assert_true(auth_token(&c->merchants[0].credentials, "fedcba9876543210", 16));
	assert_int_equal(c->merchants[0].credentials.signature_count, 2);
	c->merchants[0].credentials.signature_count = 0; /* ask for Basic alone */
	assert_true(basic_ok(&c->merchants[0], "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
	assert_true(
	    basic_ok(&c->merchants[0], "Basic dXNlcjogYTpiIA==")); /* blanks are the password's */
	c->merchants[0].credentials.signature_count = 2;
	config_unref(c);
}

static void
merchants_are_found_by_their_whole_name(void **state)
{
	/* inih keeps 49 bytes of a section: these two would be one. */
	static const char a[] = X64,
			  b[] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxy";
	static const char *const names[] = {"zeta", b, "shop-test", "shop", "Shop", a, "a", "0"};
	static const char *const strangers[] = {
	    "", "sho", "shop-", "shop-tes", "shop-test2", "SHOP", "zz", "-"};
	char text[2000] = "";
	struct config *c;

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		sprintf(text + strlen(text), "[merchant %s]\ntoken = 0123456789abcde%zu\n",
		    names[i], i);
	c = good(text);
	assert_int_equal(c->merchant_count, sizeof names / sizeof *names);
	for (size_t i = 1; i < c->merchant_count; i++)
		assert_true(strcmp(c->merchants[i - 1].name, c->merchants[i].name) < 0);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const struct merchant *m = config_merchant(c, names[i], strlen(names[i]));
		char token[20];

		assert_non_null(m);
		assert_string_equal(m->name, names[i]);
		sprintf(token, "0123456789abcde%zu", i);
		assert_true(auth_token(&m->credentials, token, 16));
	}
	for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
		assert_null(config_merchant(c, strangers[i], strlen(strangers[i])));
	assert_null(config_merchant(c, "shop\0x", 6));
	config_unref(c);
}

static void
printed_secrets_are_masked(void **state)
{
	static const char *const databases[] = {"dbname=a password=hunter2", "PASSWORD = hunter2",
	    "postgresql://u:hunter2@h/db", "postgres://h/db?password=hunter2&x=y",
	    "sslpassword='hunter2'"};
	char *text;

	(void)state;
	for (size_t i = 0; i < sizeof databases / sizeof *databases; i++) {
		char *conf = xasprintf("[foloosi-webhook]\ndatabase = %s\nmonitor = %s\n" SHOP
				       "basic_user = Frank\nbasic_password = " PASSWORD
				       "\nsignature_secret = " WHSEC "\n",
		    databases[i], databases[i]);
		struct config *c = good(conf);
		char *error;

		text = printed(c);
		assert_no_secret(text);
		assert_words("print", text, "\ndatabase = ********\n");
		assert_words("print", text, "\nmonitor = ********\n");
		assert_words("print", text, "\n[merchant shop]\n");
		assert_words("print", text, "\ntoken = ********\n");
		assert_words("print", text, "\nbasic_user = Frank\n");
		assert_words("print", text, "\nbasic_password = ********\n");
		assert_words("print", text, "\nsignature_secret = ********\n");
		/* A masked file must not start: its token would be known to all. */
		write_file("masked.conf", text);
		assert_null(config_load("masked.conf", CONFIG_FOR_WORKER, &error));
		assert_words("masked", error, "holds the mask");
		free(error);
		free(text);
		config_unref(c);
		free(conf);
	}
}

static void
printed_file_reads_back(void **state)
{
	static const char conf[] =
	    "[foloosi-webhook]\ndatabase = service=foloosi\nlisten = /run/x\nsocket_mode = 0666\n"
	    "threads = 7\nbody_limit = 100k\ndeadline = 59s\nlog_level = error\n"
	    "spool_dir = /var/spool\nspool_max_bytes = 524288m\nspool_max_files = 10000000\n"
	    "spool_rate = 3\nmonitor = user=foloosi_monitor\n"
	    "[merchant b]\ntoken_file = token\nbasic_file = basic\nsignature_secret_file = whsec\n"
	    "order_key = optional3\norder_prefix = SHOP #\n[merchant a]\ntoken_file = token\n"
	    "token_file = token\n";
	struct config *c, *again;
	char *first, *second;

	(void)state;
	write_file("token", TOKEN "\n");
	write_file("basic", "u:hunter2\n");
	write_file("whsec", WHSEC "\n");
	write_file("prefix.conf", conf);
	refused("prefix with a blank and #", "prefix.conf", 19, "followed by a comment",
	    "line of its own");
	first = xstrdup(conf);
	*strstr(first, " #") = '_';
	c = good(first);
	free(first);
	first = printed(c);
	again = good(first);
	second = printed(again);
	assert_string_equal(first, second);
	assert_string_equal(again->database, "service=foloosi");
	assert_int_equal(again->socket_mode, 0666);
	assert_int_equal(again->threads, 7);
	assert_int_equal(again->body_limit, 102400);
	assert_int_equal(again->deadline_ms, 59000);
	assert_int_equal(again->log_level, LOG_ERROR);
	assert_string_equal(again->spool_dir, "/var/spool");
	assert_true(again->spool_max_bytes == 1ULL << 39);
	assert_int_equal(again->spool_max_files, 10000000);
	assert_int_equal(again->spool_rate, 3);
	assert_string_equal(again->monitor, "user=foloosi_monitor");
	assert_int_equal(again->merchants[0].credentials.token_count, 2);
	assert_int_equal(again->merchants[1].credentials.basic_count, 1);
	assert_string_equal(again->merchants[1].order_prefix, "SHOP_#");
	assert_memory_equal(again->merchants[1].credentials.token,
	    c->merchants[1].credentials.token, sizeof c->merchants[1].credentials.token);
	free(first);
	free(second);
	config_unref(c);
	config_unref(again);
}

static const char *const names[] = {"database", "database_password_file", "listen", "socket_mode",
    "socket_group", "threads", "body_limit", "deadline", "spool_dir", "spool_max_bytes",
    "spool_max_files", "spool_rate", "monitor", "log_level", "token", "token_file", "basic_user",
    "basic_password", "basic_file", "signature_secret", "signature_secret_file", "order_key",
    "order_prefix", "event_url", "event_secret", "event_secret_file", "provider_url",
    "provider_path", "provider_secret", "provider_secret_file", "provider_status",
    "provider_amount", "provider_currency", "provider_order", "provider_per_minute", "poll",
    "event_timeout", "event_attempts", "event_concurrency", "plain_http", "smtp_url", "smtp_tls",
    "smtp_auth_file", "smtp_ca_file", "smtp_timeout", "mail_from", "mail_name", "mail_success",
    "mail_cancel", "reconcile_days", "reconcile_patience", "provider_list_path",
    "provider_list_rows", "provider_list_number", "provider_list_status", "provider_list_amount",
    "provider_list_currency", "reconcile_every", "provider_refunded", "mail_refund"};

#define NAMES (sizeof names / sizeof *names)

/* Every setting shows, set or commented. */
static void
printed_defaults_name_every_setting(void **state)
{
	struct config *c = good(SHOP);
	char *text = printed(c);
	char line[64];

	(void)state;
	for (size_t i = 0; i < NAMES; i++) {
		snprintf(line, sizeof line, "\n%s =", names[i]);
		if (strstr(text, line) == NULL) {
			snprintf(line, sizeof line, "\n#%s =", names[i]);
			assert_words("defaults", text, line);
		}
	}
	free(text);
	config_unref(c);
}

/* Calls check with the name of every setting that there is, as config_print() has it. */
static void
each_setting(void (*check)(const char *name))
{
	struct config *c = good(SHOP);
	char *text = printed(c), *rest = text, *line;
	size_t count = 0;

	while ((line = strsep(&rest, "\n")) != NULL) {
		size_t n;

		line += *line == '#';
		n = strspn(line, "abcdefghijklmnopqrstuvwxyz_");
		if (n == 0 || strncmp(line + n, " =", 2) != 0)
			continue;
		line[n] = '\0';
		check(line);
		count++;
	}
	assert_true(count >= NAMES);
	free(text);
	config_unref(c);
}

static void
is_in_the_manual(const char *name)
{
	char line[64];

	snprintf(line, sizeof line, "\n.It Ic %s No = Ar ", name);
	assert_words("manual", manual, line);
}

static void
is_in_the_sample(const char *name)
{
	assert_words("sample", sample, name);
}

static void
manual_has_every_setting(void **state)
{
	(void)state;
	for (size_t i = 0; i < NAMES; i++)
		is_in_the_manual(names[i]);
	each_setting(is_in_the_manual);
}

/* As delivered it starts nothing; with a token it does; with all its comments taken off too. */
static void
sample_file(void **state)
{
	char *text = xstrdup(sample), *p = text, *remedy;
	struct config *c;

	(void)state;
	write_bytes("sample.conf", sample, strlen(sample), 0644);
	remedy = NULL;
	assert_null(config_load("sample.conf", CONFIG_FOR_WORKER, &remedy));
	assert_words("sample", remedy, "secrets/shop.token cannot be read: No such file");
	free(remedy);

	assert_int_equal(mkdir("secrets", 0700), 0);
	write_file("secrets/shop.token", TOKEN "\n");
	write_file("secrets/shop.basic", "foloosi:" PASSWORD "\n");
	write_file("secrets/shop.whsec", WHSEC "\n");
	write_file("secrets/shop.events", WHSEC "\n");
	write_file("secrets/shop.provider", "hunter2\n");
	write_file("secrets/handler.password", "hunter2\n");
	write_file("secrets/worker.password", "hunter2\n");
	write_file("secrets/smtp", "u:hunter2\n");
	write_file("paid.txt", "Subject: x\n\ny\n");
	write_file("cancelled.txt", "Subject: x\n\ny\n");
	write_file("refunded.txt", "Subject: x\n\ny\n");
	while ((p = strstr(p, "\n#")) != NULL) {
		size_t name = strspn(p + 2, "abcdefghijklmnopqrstuvwxyz_");

		if (name > 0 && strncmp(p + 2 + name, " = ", 3) == 0)
			p[1] = ' ';
		p += 2;
	}
	c = good(text);
	assert_string_equal(c->listen, "/run/foloosi-webhook/foloosi-webhook.sock");
	assert_int_equal(c->socket_mode, 0660);
	assert_string_equal(c->socket_group, "www-data");
	assert_int_equal(c->threads, 128);
	assert_int_equal(c->body_limit, 65536);
	assert_int_equal(c->deadline_ms, 3000);
	assert_int_equal(c->log_level, LOG_INFO);
	assert_string_equal(c->spool_dir, "/var/spool/foloosi-webhook");
	assert_true(c->spool_max_bytes == 1024ULL << 20);
	assert_int_equal(c->spool_max_files, 500000);
	assert_int_equal(c->spool_rate, 4000);
	assert_int_equal(c->merchants[0].order_key, TRANSFER_OPTIONAL1);
	assert_string_equal(c->merchants[0].order_prefix, "SHOP-");
	assert_int_equal(c->merchants[0].credentials.token_count, 1);
	assert_int_equal(c->merchants[0].credentials.basic_count, 1);
	assert_int_equal(c->merchants[0].credentials.signature_count, 1);
	assert_string_equal(
	    c->worker.database, "password='hunter2' dbname=foloosi user=foloosi_worker");
	assert_int_equal(c->worker.log_level, LOG_INFO);
	assert_int_equal(c->worker.poll_ms, 200);
	assert_int_equal(c->worker.event_timeout_ms, 15000);
	assert_int_equal(c->worker.event_attempts, 15);
	assert_int_equal(c->worker.event_concurrency, 32);
	assert_false(c->worker.plain_http);
	assert_int_equal(c->merchants[0].event_url_count, 1);
	assert_int_equal(c->merchants[0].event_credentials.signature_count, 1);
	assert_string_equal(c->merchants[0].provider.secret, "hunter2");
	assert_string_equal(c->merchants[0].provider.status, "data.status");
	assert_string_equal(c->merchants[0].provider.list_path,
	    "/v1/api/transaction-list?q={\"fromDate\":\"{from}\",\"toDate\":\"{to}\",\"page\":"
	    "\"{page}\",\"limit\":\"{limit}\"}");
	assert_non_null(strstr(c->merchants[0].provider.secret_place, "shop.provider"));
	assert_int_equal(c->worker.reconcile_every_ms, 600000);
	assert_int_equal(c->worker.reconcile_days, 3);
	assert_int_equal(c->worker.reconcile_patience_ms, 120000);
	config_unref(c);
	free(text);
	for (size_t i = 0; i < NAMES; i++)
		is_in_the_sample(names[i]);
	each_setting(is_in_the_sample);
}

/* The program's user may not read it, but the service manager has loaded it. */
static void
secrets_come_as_credentials(void **state)
{
	static const char conf[] = "[merchant shop]\ntoken_file = private/shop.token\n";
	char *here = xasprintf("%s/loaded", dir), *remedy = NULL;
	struct config *c;

	(void)state;
	assert_int_equal(mkdir("loaded", 0700), 0);
	write_bytes("loaded/private_shop.token", TOKEN "\n", sizeof TOKEN, 0440);
	write_file("good.conf", conf);
	assert_null(config_load("good.conf", CONFIG_FOR_WORKER, &remedy));
	assert_words("no credentials", remedy, "private/shop.token cannot be read: No such file");
	free(remedy);

	setenv("CREDENTIALS_DIRECTORY", here, 1);
	c = good(conf);
	assert_true(auth_token(&c->merchants[0].credentials, TOKEN, strlen(TOKEN)));
	config_unref(c);
	/* A program that may read the file itself gets what is in it now. */
	assert_int_equal(mkdir("private", 0700), 0);
	write_file("private/shop.token", "another_token_altogether\n");
	c = good(conf);
	assert_true(auth_token(&c->merchants[0].credentials, "another_token_altogether", 24));
	config_unref(c);
	/* Neither here nor there: the message names the file that one can create. */
	write_file("good.conf", "[merchant shop]\ntoken_file = private/nobody.token\n");
	assert_null(config_load("good.conf", CONFIG_FOR_WORKER, &remedy));
	assert_words("neither", remedy, "private/nobody.token cannot be read");
	free(remedy);
	unsetenv("CREDENTIALS_DIRECTORY");
	free(here);
}

static void
database_password(void **state)
{
	struct config *c;
	char *text;

	(void)state;
	write_file("db.password", "hunter2 \\'x\nnot this line\n");
	c = good(
	    "[foloosi-webhook]\ndatabase = host=h user=u\ndatabase_password_file = db.password\n"
	    "[foloosi-worker]\ndatabase_password_file = db.password\n" SHOP);
	assert_string_equal(c->database, "password='hunter2 \\\\\\'x' host=h user=u");
	assert_string_equal(c->worker.database, "password='hunter2 \\\\\\'x' ");
	text = printed(c);
	assert_no_secret(text);
	assert_words("print", text, "\ndatabase = host=h user=u\n");
	assert_words("print", text, "\ndatabase_password_file = db.password\n");
	free(text);
	config_unref(c);

	write_file("bad.conf", "\n[foloosi-worker]\ndatabase = postgres://h/db\n"
			       "database_password_file = db.password\n" SHOP);
	refused("URL", "bad.conf", 4, "is an URL", "name=value pairs");
	write_file("bad.conf", "[foloosi-webhook]\ndatabase_password_file = nowhere\n" SHOP);
	refused("missing", "bad.conf", 2, "nowhere cannot be read", "create it");
	write_file("db.password", "\nhunter2\n");
	write_file("bad.conf", "[foloosi-webhook]\ndatabase_password_file = db.password\n" SHOP);
	refused("empty line", "bad.conf", 2, "line 1 is empty", "write the password");
	write_bytes("db.password", "hunter2\n", 8, 0644);
	refused("open to all", "bad.conf", 2, "open to every user", "chmod o=");
}

/* What foloosi-worker needs, set; printed, it shows no secret, and no path of a URL. */
static void
worker_settings(void **state)
{
	struct config *c = (write_mail_files(),
	    good(SHOP
		"mail_from = orders@shop.example\nmail_name = Caf\xc3\xa9\nmail_success = mail\n"
		"event_url = https://shop.example:8443/hunter2?x\n"
		"event_url = http://127.0.0.1/hunter2\n"
		"event_secret = " WHSEC "\nevent_secret = " WHSEC "\n"
		"provider_url = http://provider.example\nprovider_secret = hunter2\n"
		"provider_path = /x/{transaction_no}/y\nprovider_status = a\nprovider_amount = "
		"a.b\n"
		"provider_currency = a.b.c\nprovider_order =\nprovider_refunded = a.r\n"
		"provider_per_minute = 6000\n"
		"[foloosi-worker]\ndatabase = service=x\nlog_level = debug\npoll = "
		"10ms\nevent_timeout "
		"= 1s\n"
		"event_attempts = 100\nevent_concurrency = 512\nplain_http = yes\n"
		"smtp_url = smtp://127.0.0.1:2525\nsmtp_tls = no\nsmtp_auth_file = auth\n"
		"smtp_ca_file = auth\nsmtp_timeout = 600s\n"));
	const struct merchant *m = &c->merchants[0];
	char *text = printed(c);

	(void)state;
	assert_string_equal(c->worker.smtp_url, "smtp://127.0.0.1:2525");
	assert_false(c->worker.smtp_tls);
	assert_string_equal(c->worker.smtp_user, "u");
	assert_string_equal(c->worker.smtp_password, "hunter2:x");
	assert_int_equal(c->worker.smtp_timeout_ms, 600000);
	assert_string_equal(m->mail_from, "orders@shop.example");
	assert_string_equal(m->mail_name, "Caf\xc3\xa9");
	assert_string_equal(m->mails[MAIL_SUCCESS]->subject, "Order {order_ref}");
	assert_string_equal(m->mails[MAIL_SUCCESS]->body, "Thanks.\n");
	assert_null(m->mails[MAIL_CANCEL]);
	assert_int_equal(m->event_url_count, 2);
	assert_string_equal(m->event_urls[0], "https://shop.example:8443/hunter2?x");
	assert_string_equal(m->event_urls[1], "http://127.0.0.1/hunter2");
	assert_int_equal(m->event_credentials.signature_count, 2);
	assert_int_equal(m->credentials.signature_count, 0);
	assert_string_equal(m->provider.url, "http://provider.example");
	assert_string_equal(m->provider.path, "/x/{transaction_no}/y");
	assert_string_equal(m->provider.secret, "hunter2");
	assert_string_equal(m->provider.secret_place, "provider_secret");
	assert_string_equal(m->provider.status, "a");
	assert_string_equal(m->provider.amount, "a.b");
	assert_string_equal(m->provider.currency, "a.b.c");
	assert_string_equal(m->provider.order, "");
	assert_int_equal(m->provider.per_minute, 6000);
	assert_string_equal(c->database, "");
	assert_string_equal(c->worker.database, "service=x");
	assert_int_equal(c->worker.log_level, LOG_DEBUG);
	assert_int_equal(c->log_level, LOG_INFO);
	assert_int_equal(c->worker.poll_ms, 10);
	assert_int_equal(c->worker.event_timeout_ms, 1000);
	assert_int_equal(c->worker.event_attempts, 100);
	assert_int_equal(c->worker.event_concurrency, 512);
	assert_true(c->worker.plain_http);
	assert_no_secret(text);
	assert_words("printed", text, "event_url = https://shop.example:8443/********\n");
	assert_words("printed", text, "plain_http = yes\n");
	free(text);
	config_unref(c);
}

/* A file that only foloosi-worker needs may be gone: payments are taken all the same. */
static void
files_of_the_worker(void **state)
{
	static const char *const sections[] = {
	    SHOP "provider_url = https://x\nprovider_secret_file = gone\n",
	    SHOP "event_url = https://x\nevent_secret_file = gone\n",
	    SHOP "mail_from = a@b.example\nmail_success = gone\n"
		 "[foloosi-worker]\nsmtp_url = smtp://x\n",
	    SHOP "mail_from = a@b.example\nmail_cancel = gone\n"
		 "[foloosi-worker]\nsmtp_url = smtp://x\n",
	    "[foloosi-worker]\nsmtp_auth_file = gone\n" SHOP,
	    "[foloosi-worker]\nsmtp_ca_file = gone\n" SHOP,
	    "[foloosi-worker]\ndatabase_password_file = gone\n" SHOP,
	};

	char *error = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
		struct config *c;
		char *text;

		write_file("worker.conf", sections[i]);
		assert_null(config_load("worker.conf", CONFIG_FOR_WORKER, &error));
		assert_words("the worker", error, "gone cannot be read");
		free(error);
		error = NULL;
		c = config_load("worker.conf", CONFIG_FOR_HANDLER, &error);
		if (c == NULL)
			fail_msg("the handler: %s", error);
		text = printed(c);
		assert_words("the handler", text, " = gone\n");
		free(text);
		config_unref(c);
	}
	error = NULL;
	write_file("worker.conf", "[merchant shop]\ntoken_file = gone\n");
	assert_null(config_load("worker.conf", CONFIG_FOR_HANDLER, &error));
	assert_words("its own file", error, "gone cannot be read");
	free(error);
}

/* The answer's order is where the webhook's is. */
static void
orders_of_answers(void **state)
{
	static const char asked[] = "provider_url = https://x\nprovider_secret = a\n";
	static const struct {
		const char *settings, *order;
	} cases[] = {
	    {"", "data.api_transaction.optional1"},
	    {"order_key = optional1\n", "data.api_transaction.optional1"},
	    {"order_key = optional2\n", "data.api_transaction.optional2"},
	    {"order_key = optional3\n", "data.api_transaction.optional3"},
	    {"order_key = transaction_no\n", ""},
	    {"order_key = payment_reference\nprovider_order =\n", ""},
	    {"order_key = payment_reference\nprovider_order = data.ref\n", "data.ref"},
	    {"provider_order = data.x\norder_key = optional2\n", "data.x"},
	    {"provider_order =\n", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char *text = xasprintf(SHOP "%s%s", asked, cases[i].settings);
		struct config *c = good(text);

		assert_string_equal(c->merchants[0].provider.order, cases[i].order);
		config_unref(c);
		free(text);
	}
	config_unref(good(SHOP "order_key = payment_reference\n"));
}

/* What is left of an order's key is NULL, not an empty key, if it is nothing but the prefix. */
static void
prefixes_are_taken_off(void **state)
{
	static const struct {
		const char *text, *prefix, *rest;
	} cases[] = {
	    {NULL, NULL, NULL},
	    {NULL, "SHOP-", NULL},
	    {"", NULL, NULL},
	    {"", "SHOP-", NULL},
	    {"7", NULL, "7"},
	    {"SHOP-7", NULL, "SHOP-7"},
	    {"SHOP-7", "SHOP-", "7"},
	    {"SHOP-", "SHOP-", NULL},
	    {"SHOP", "SHOP-", "SHOP"},
	    {"shop-7", "SHOP-", "shop-7"},
	    {"SHOP-SHOP-7", "SHOP-", "SHOP-7"},
	    {"7SHOP-", "SHOP-", "7SHOP-"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *rest = order_without_prefix(cases[i].text, cases[i].prefix);

		if (cases[i].rest == NULL)
			assert_null(rest);
		else
			assert_string_equal(rest, cases[i].rest);
	}
}

static char reported[256];

static void
report(const char *setting)
{
	strcat(strcat(reported, setting), " ");
}

/* What is only read at the start is reported when it was changed, in the order of the table. */
static void
changes_that_need_a_restart(void **state)
{
	static const char before[] = "[foloosi-webhook]\n"
				     "database = dbname=a\nlisten = /a\nthreads = 3\n"
				     "body_limit = 2k\ndeadline = 1s\nlog_level = debug\n" SHOP;
	static const char after[] = "[foloosi-webhook]\n"
				    "database = dbname=b\nsocket_mode = 600\n"
				    "socket_group = root\nthreads = 4\nbody_limit = 3k\n"
				    "deadline = 2s\nlog_level = info\nspool_dir = /s\n"
				    "spool_max_bytes = 5m\nspool_max_files = 5\nspool_rate = 5\n"
				    "monitor = dbname=m\n[foloosi-worker]\npoll = 1s\n" SHOP
				    "order_prefix = x\n[merchant other]\ntoken = " TOKEN "\n";
	static const char password[] = "[foloosi-webhook]\ndatabase = dbname=a\n"
				       "database_password_file = pw\n" SHOP;
	struct config *old = good(before), *fresh = good(after), *again = good(before);

	(void)state;
	config_changed(old, fresh, CONFIG_FOR_HANDLER, report);
	assert_string_equal(reported,
	    "database listen socket_mode socket_group threads spool_dir spool_max_bytes "
	    "spool_max_files spool_rate monitor ");
	*reported = '\0';
	config_changed(old, fresh, CONFIG_FOR_WORKER, report);
	config_changed(old, again, CONFIG_FOR_HANDLER, report);
	assert_string_equal(reported, "");
	config_unref(old);
	config_unref(fresh);
	config_unref(again);

	/* The same setting, and another password in its file. */
	write_file("pw", "one\n");
	old = good(password);
	write_file("pw", "two\n");
	fresh = good(password);
	config_changed(old, fresh, CONFIG_FOR_HANDLER, report);
	assert_string_equal(reported, "database ");
	config_unref(old);
	config_unref(fresh);
}

static void *
pin_and_release(void *c)
{
	for (int i = 0; i < 20000; i++)
		config_unref(config_ref(c));
	config_unref(c);
	return NULL;
}

/* Under ASan and TSan: freed once, by the last thread. */
static void
references_are_counted_across_threads(void **state)
{
	struct config *c = good(SHOP);
	pthread_t threads[4];

	(void)state;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, pin_and_release, config_ref(c)), 0);
	config_unref(c);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	config_unref(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(bad_files_are_refused),
	    cmocka_unit_test(line_ends_do_not_matter),
	    cmocka_unit_test(long_lines),
	    cmocka_unit_test(nul_bytes),
	    cmocka_unit_test(unusable_files),
	    cmocka_unit_test(open_files),
	    cmocka_unit_test(secret_files),
	    cmocka_unit_test(defaults),
	    cmocka_unit_test(every_setting),
	    cmocka_unit_test(passwords_hold_what_ini_files_dislike),
	    cmocka_unit_test(secrets_from_files),
	    cmocka_unit_test(merchants_are_found_by_their_whole_name),
	    cmocka_unit_test(secrets_come_as_credentials),
	    cmocka_unit_test(database_password),
	    cmocka_unit_test(printed_secrets_are_masked),
	    cmocka_unit_test(printed_file_reads_back),
	    cmocka_unit_test(printed_defaults_name_every_setting),
	    cmocka_unit_test(manual_has_every_setting),
	    cmocka_unit_test(sample_file),
	    cmocka_unit_test(worker_settings),
	    cmocka_unit_test(files_of_the_worker),
	    cmocka_unit_test(orders_of_answers),
	    cmocka_unit_test(changes_that_need_a_restart),
	    cmocka_unit_test(prefixes_are_taken_off),
	    cmocka_unit_test(references_are_counted_across_threads),
	};

	return cmocka_run_group_tests_name("config", tests, make_dir, remove_dir);
}
