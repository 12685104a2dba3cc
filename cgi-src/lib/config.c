/*
 * config.c - the configuration file, read once into an immutable struct.
 *
 * The settings are one table: it parses, checks bounds, words the errors and
 * prints itself.
 *
 * The hard part is what inih passes over in silence, since a setting that is
 * silently not what its author wrote may leave an endpoint open. inih 55 keeps only
 * 49 bytes of a section's name (two merchants with long names would become one),
 * does not tell of sections without settings or of repeated ones, drops text behind
 * "]", splits a line that is longer than its buffer in two, and gives its handler no line
 * number. So the lines go through our own reader first, next_line(), which counts them, refuses
 * what inih would bend, and knows the section; inih parses name = value. Its
 * multi-line values and inline comments are switched off: a password may hold
 * " ;", and a continuation line may be a setting that was indented.
 *
 * The first fault ends it. Messages name file, line, fault and remedy, and never a value:
 * the operator may have put a secret into the wrong place.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "mem.h"
#include "url.h"

#define CONFIG_BYTES_MAX (1 << 20) /* of a configuration file */
#define SECRET_BYTES_MAX (1 << 16) /* of a file of secrets */
#define CA_BYTES_MAX (1 << 22)     /* of a file of certificates */
#define LINE_BYTES 4096            /* one line of the configuration, its end not counted */
#define MASK "********"            /* not valid as a token, so that a printed file cannot start */
#define SOCKET_PATH_MAX 100        /* sun_path has 108, less the temporary name of http_listen() */

enum scope {
	SCOPE_NONE,
	SCOPE_GLOBAL,
	SCOPE_WORKER,
	SCOPE_MERCHANT
};

enum type {
	TYPE_TEXT,     /* char *, min and max in bytes */
	TYPE_CONNINFO, /* the same for libpq, which may be a secret */
	TYPE_PATH,     /* char *, absolute, max in bytes */
	TYPE_GROUP,    /* char *, a group's name, or number of at most 9 digits */
	TYPE_COUNT,    /* int, min to max */
	TYPE_SIZE,     /* size_t, bytes */
	TYPE_DURATION, /* int, milliseconds */
	TYPE_MODE,     /* mode_t */
	TYPE_LEVEL,    /* int, enum log_level */
	TYPE_FIELD,    /* enum transfer_field */
	TYPE_SWITCH,   /* bool, yes or no */
	TYPE_MEMBER,   /* char *, names of JSON members with dots between them */
	TYPE_URL,      /* char *, http or https */
	TYPE_SMTP_URL, /* char *, smtp or smtps */
	TYPE_ADDRESS,  /* char *, of mail */
	TYPE_FILE,     /* char *, its path; see file_path() */
	/* Credentials: not stored by offset but handed to auth.c. */
	TYPE_TOKEN,
	TYPE_USER,
	TYPE_PASSWORD,
	TYPE_SIGNATURE,
	TYPE_TOKEN_FILE,
	TYPE_BASIC_FILE,
	TYPE_SIGNATURE_FILE,
	TYPE_EVENT_URL,
	TYPE_EVENT_SECRET,
	TYPE_EVENT_SECRET_FILE,
	TYPE_PROVIDER_SECRET,
	TYPE_PROVIDER_SECRET_FILE,
};

struct setting {
	const char *name;
	enum scope scope;
	enum type type;
	size_t offset;        /* in struct config or struct merchant */
	const char *fallback; /* the default, parsed like a value; NULL: not set */
	long long min, max;   /* in the unit of the type */
	const char *example;
	const char *help;
};

#define GLOBAL(field) SCOPE_GLOBAL, offsetof(struct config, field)
#define WORKER(field) SCOPE_WORKER, offsetof(struct config, worker.field)
#define MERCHANT(field) SCOPE_MERCHANT, offsetof(struct merchant, field)
#define ROW(name_, type_, place, ...) ROW_(name_, type_, place, __VA_ARGS__)
#define ROW_(name_, type_, scope_, offset_, fallback_, min_, max_, example_, help_)                \
	{.name = name_,                                                                            \
	    .type = type_,                                                                         \
	    .scope = scope_,                                                                       \
	    .offset = offset_,                                                                     \
	    .fallback = fallback_,                                                                 \
	    .min = min_,                                                                           \
	    .max = max_,                                                                           \
	    .example = example_,                                                                   \
	    .help = help_}

/* clang-format off */
static const struct setting settings[] = {
    ROW("database", TYPE_CONNINFO, GLOBAL(database_setting), "", 0, LINE_BYTES, "service=foloosi",
	"how libpq connects; empty: by its environment and service file"),
    ROW("database_password_file", TYPE_FILE, GLOBAL(password_file), NULL, 1, LINE_BYTES, "secrets/handler.password",
	"file with the password for it in its first line"),
    ROW("listen", TYPE_PATH, GLOBAL(listen), NULL, 1, SOCKET_PATH_MAX, "/run/foloosi-webhook/foloosi-webhook.sock",
	"unix socket to bind; not set: one is inherited"),
    ROW("socket_mode", TYPE_MODE, GLOBAL(socket_mode), "0660", 0, 0777, "0660",
	"permissions of that socket"),
    ROW("socket_group", TYPE_GROUP, GLOBAL(socket_group), NULL, 1, 255, "www-data",
	"group of that socket, the web server's; not set: the process's own"),
    ROW("threads", TYPE_COUNT, GLOBAL(threads), "128", 1, 1024, "128",
	"how many requests are served at the same time"),
    ROW("body_limit", TYPE_SIZE, GLOBAL(body_limit), "64k", 1024, 16 << 20, "64k",
	"largest body that is accepted"),
    ROW("deadline", TYPE_DURATION, GLOBAL(deadline_ms), "3s", 10, 60000, "3s",
	"longest time from the arrival of a request to its answer"),
    ROW("spool_dir", TYPE_PATH, GLOBAL(spool_dir), NULL, 1, LINE_BYTES, "/var/spool/foloosi-webhook",
	"directory for deliveries while the database is away; not set: they are refused"),
    ROW("spool_max_bytes", TYPE_SIZE, GLOBAL(spool_max_bytes), "1024m", 1024, 1LL << 39, "1024m",
	"how much it may hold"),
    ROW("spool_max_files", TYPE_COUNT, GLOBAL(spool_max_files), "500000", 1, 10000000, "500000",
	"how many deliveries it may hold"),
    ROW("spool_rate", TYPE_COUNT, GLOBAL(spool_rate), "4000", 1, 100000, "4000",
	"how many of them a second go into the database beside live traffic"),
    ROW("monitor", TYPE_CONNINFO, GLOBAL(monitor), NULL, 1, LINE_BYTES, "dbname=shop user=foloosi_monitor",
	"how /metrics asks the database for what waits there, as a role of its own; not set: it does not"),
    ROW("log_level", TYPE_LEVEL, GLOBAL(log_level), "info", 0, 0, "info",
	"least important lines that are logged"),
    ROW("database", TYPE_CONNINFO, WORKER(database_setting), "", 0, LINE_BYTES, "dbname=shop user=foloosi_worker",
	"how foloosi-worker connects, as a role of its own; empty: by libpq's environment and service file"),
    ROW("database_password_file", TYPE_FILE, WORKER(password_file), NULL, 1, LINE_BYTES, "secrets/worker.password",
	"file with the password for it in its first line"),
    ROW("log_level", TYPE_LEVEL, WORKER(log_level), "info", 0, 0, "info",
	"least important lines that it logs"),
    ROW("poll", TYPE_DURATION, WORKER(poll_ms), "200ms", 10, 60000, "200ms",
	"how often it looks for events"),
    ROW("event_timeout", TYPE_DURATION, WORKER(event_timeout_ms), "15s", 10, 60000, "15s",
	"longest time that an endpoint has to answer"),
    ROW("event_attempts", TYPE_COUNT, WORKER(event_attempts), "15", 1, 100, "15",
	"how often an event is posted before it is given up"),
    ROW("event_concurrency", TYPE_COUNT, WORKER(event_concurrency), "32", 1, 512, "32",
	"how many posts to one URL are under way at the same time"),
    ROW("plain_http", TYPE_SWITCH, WORKER(plain_http), "no", 0, 0, "no",
	"whether URLs may be http to other machines than this one"),
    ROW("smtp_url", TYPE_SMTP_URL, WORKER(smtp_url), NULL, 1, URL_MAX, "smtp://127.0.0.1",
	"the server that takes mails to customers"),
    ROW("smtp_tls", TYPE_SWITCH, WORKER(smtp_tls), "yes", 0, 0, "yes",
	"whether an smtp:// server must offer STARTTLS; no is for this machine only"),
    ROW("smtp_auth_file", TYPE_FILE, WORKER(smtp_auth_file), NULL, 1, LINE_BYTES, "secrets/smtp",
	"file with user:password for that server in its first line"),
    ROW("smtp_ca_file", TYPE_FILE, WORKER(smtp_ca_file), NULL, 1, LINE_BYTES, "/etc/ssl/certs/ca-certificates.crt",
	"certificates of who vouches for that server; not set: the system's"),
    ROW("smtp_timeout", TYPE_DURATION, WORKER(smtp_timeout_ms), "60s", 10, 600000, "60s",
	"longest time that a mail may take"),
    ROW("reconcile_days", TYPE_COUNT, WORKER(reconcile_days), "3", 1, 366, "3",
	"how many days before today are reconciled if the command names none"),
    ROW("reconcile_patience", TYPE_DURATION, WORKER(reconcile_patience_ms), "120s", 100, 3600000, "120s",
	"how long a provider or a database that does not answer is tried again before a reconciliation stops"),
    ROW("token", TYPE_TOKEN, MERCHANT(credentials), NULL, TOKEN_MIN, TOKEN_MAX, "(output of: openssl rand -hex 24)",
	"last part of the endpoint's URL; several may be given"),
    ROW("token_file", TYPE_TOKEN_FILE, MERCHANT(credentials), NULL, 1, LINE_BYTES, "secrets/shop.token",
	"file with a token in each line; several may be given"),
    ROW("basic_user", TYPE_USER, MERCHANT(credentials), NULL, 1, BASIC_MAX, "foloosi",
	"user that HTTP Basic authentication asks for, with basic_password"),
    ROW("basic_password", TYPE_PASSWORD, MERCHANT(credentials), NULL, 1, BASIC_MAX, "(output of: openssl rand -hex 24)",
	"its password"),
    ROW("basic_file", TYPE_BASIC_FILE, MERCHANT(credentials), NULL, 1, LINE_BYTES, "secrets/shop.basic",
	"file with user:password in each line; several may be given"),
    ROW("signature_secret", TYPE_SIGNATURE, MERCHANT(credentials), NULL, 0, 0, "whsec_(output of: openssl rand -base64 32)",
	"secret of Standard Webhooks signatures; several may be given"),
    ROW("signature_secret_file", TYPE_SIGNATURE_FILE, MERCHANT(credentials), NULL, 1, LINE_BYTES, "secrets/shop.whsec",
	"file with a signature secret in each line; several may be given"),
    ROW("order_key", TYPE_FIELD, MERCHANT(order_key), "optional1", 0, 0, "optional1",
	"field of the payload that holds the order's number"),
    ROW("order_prefix", TYPE_TEXT, MERCHANT(order_prefix), NULL, 1, LIMIT_OPTIONAL - 1, "SHOP-",
	"what is taken off the front of the order's number"),
    ROW("event_url", TYPE_EVENT_URL, MERCHANT(event_urls), NULL, 1, URL_MAX, "https://shop.example/foloosi/events",
	"where foloosi-worker posts events to; several may be given"),
    ROW("event_secret", TYPE_EVENT_SECRET, MERCHANT(event_credentials), NULL, 0, 0, "whsec_(output of: openssl rand -base64 32)",
	"secret that events are signed with; several may be given, each signs"),
    ROW("event_secret_file", TYPE_EVENT_SECRET_FILE, MERCHANT(event_credentials), NULL, 1, LINE_BYTES, "secrets/shop.events",
	"file with such a secret in each line; several may be given"),
    ROW("provider_url", TYPE_URL, MERCHANT(provider.url), NULL, 1, URL_MAX, "https://api.foloosi.com",
	"whom foloosi-worker asks about payments, where the merchant's policy is verify = callback"),
    ROW("provider_path", TYPE_TEXT, MERCHANT(provider.path), "/v1/api/transaction-detail/{transaction_no}", 1, 1024, "/v2/api/transaction-detail/{transaction_no}",
	"the rest of that URL; {transaction_no} stands for the number"),
    ROW("provider_secret", TYPE_PROVIDER_SECRET, MERCHANT(provider.secret), NULL, 1, 1024, "(from the provider's panel)",
	"the merchant's secret key at the provider"),
    ROW("provider_secret_file", TYPE_PROVIDER_SECRET_FILE, MERCHANT(provider.secret), NULL, 1, LINE_BYTES, "secrets/shop.provider",
	"file with that key in its first line"),
    ROW("provider_status", TYPE_MEMBER, MERCHANT(provider.status), "data.status", 1, 255, "data.status",
	"member of the answer that holds the status"),
    ROW("provider_amount", TYPE_MEMBER, MERCHANT(provider.amount), "data.api_transaction.payable_amount_in_sender_currency", 1, 255, "data.request_amount",
	"member of the answer that holds the amount"),
    ROW("provider_currency", TYPE_MEMBER, MERCHANT(provider.currency), "data.api_transaction.sender_currency", 1, 255, "data.request_currency",
	"member of the answer that holds the currency"),
    ROW("provider_order", TYPE_MEMBER, MERCHANT(provider.order), NULL, 0, 255, "data.api_transaction.optional1",
	"member of the answer that holds the order's number, its prefix included; empty: it has none; default: by order_key"),
    ROW("provider_per_minute", TYPE_COUNT, MERCHANT(provider.per_minute), "60", 1, 6000, "60",
	"how many questions are asked in a minute at most"),
    ROW("mail_from", TYPE_ADDRESS, MERCHANT(mail_from), NULL, 1, 254, "orders@shop.example",
	"whose mails to customers are"),
    ROW("mail_name", TYPE_TEXT, MERCHANT(mail_name), NULL, 1, 128, "Our Shop",
	"name beside that address"),
    ROW("mail_success", TYPE_FILE, MERCHANT(mail_files[MAIL_SUCCESS]), NULL, 1, LINE_BYTES, "mail/paid.txt",
	"template of what a customer is told on order.success; not set: nothing"),
    ROW("mail_cancel", TYPE_FILE, MERCHANT(mail_files[MAIL_CANCEL]), NULL, 1, LINE_BYTES, "mail/cancelled.txt",
	"template of what a customer is told on order.cancel; not set: nothing"),
    ROW("provider_list_path", TYPE_TEXT, MERCHANT(provider.list_path),
	"/v1/api/transaction-list?q={\"fromDate\":\"{from}\",\"toDate\":\"{to}\",\"page\":\"{page}\",\"limit\":\"{limit}\"}",
	1, 1024, "/v2/api/transaction-list?q={\"fromDate\":\"{from}\",\"toDate\":\"{to}\",\"page\":\"{page}\",\"limit\":\"{limit}\"}",
	"where the provider lists transactions, with the places of dates, page and limit"),
    ROW("provider_list_rows", TYPE_MEMBER, MERCHANT(provider.list_rows), "data.transactions", 1, 255, "data.transactions",
	"member of that answer that holds the rows"),
    ROW("provider_list_number", TYPE_MEMBER, MERCHANT(provider.list_number), "transaction_no", 1, 255, "transaction_no",
	"member of a row that holds the transaction's number"),
    ROW("provider_list_status", TYPE_MEMBER, MERCHANT(provider.list_status), "status", 1, 255, "status",
	"member of a row that holds the status"),
    ROW("provider_list_amount", TYPE_MEMBER, MERCHANT(provider.list_amount), "send_amount", 0, 255, "request_amount",
	"member of a row that holds the amount; empty: it has none"),
    ROW("provider_list_currency", TYPE_MEMBER, MERCHANT(provider.list_currency), "sender_currency", 0, 255, "request_currency",
	"member of a row that holds the currency; empty: it has none"),
};
/* clang-format on */
#define SETTINGS (sizeof settings / sizeof *settings)

/*
 * The fields that may name an order: text that the merchant or the provider makes up as a
 * key, and no longer than an order_ref. Nothing personal.
 */
static const char *const order_keys[] = {
    "optional1", "optional2", "optional3", "transaction_no", "payment_reference"};
#define ORDER_KEYS (sizeof order_keys / sizeof *order_keys)

/* A credential as the file gave it: the path of its file, a user's name, or MASK. */
struct secret_line {
	const struct setting *setting;
	char *text;
};

/* A file's bytes, with a NUL behind them. Wiped by file_free(). */
struct file {
	char *bytes;
	size_t len;
	mode_t mode;
};

/* One run of config_load(). */
struct loader {
	const char *path;
	struct file file;
	char *at;      /* the next line */
	unsigned line; /* the number of the last one read, from 1 */
	char *error;   /* the first fault, owned; ends the run */
	struct config *config;
	enum config_reader reader;
	enum scope scope; /* the section that we are in */
	unsigned global_line, worker_line;
	unsigned set_line[SETTINGS];       /* where this section set it, 0: not yet */
	char *basic_user, *basic_password; /* this merchant's, until both are known */
};

/* ---- faults ---- */

/* The first fault counts; later ones may follow from it. */
__attribute__((format(printf, 3, 4))) static void
fault(struct loader *l, unsigned line, const char *format, ...)
{
	va_list ap;
	char *text;

	if (l->error != NULL)
		return;
	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		abort();
	va_end(ap);
	l->error = line == 0 ? xasprintf("%s: %s", l->path, text)
			     : xasprintf("%s:%u: %s", l->path, line, text);
	free(text);
}

/* What a setting must look like, as the end of "it must be …". Owned by the caller. */
static char *
wanted(const struct setting *s)
{
	switch (s->type) {
	case TYPE_TEXT:
	case TYPE_CONNINFO:
		return xasprintf("text of %lld to %lld bytes", s->min, s->max);
	case TYPE_PATH:
		return xasprintf("an absolute path of at most %lld bytes", s->max);
	case TYPE_GROUP:
		return xstrdup("the name or number of a group of this machine");
	case TYPE_COUNT:
		return xasprintf("a whole number from %lld to %lld", s->min, s->max);
	case TYPE_SIZE:
		return xasprintf(
		    "a number of bytes from %lld to %lldm, with k for KiB or m for MiB", s->min,
		    s->max >> 20);
	case TYPE_DURATION:
		return xasprintf(
		    "a time from %lldms to %llds, with its unit, ms or s", s->min, s->max / 1000);
	case TYPE_MODE:
		return xasprintf("an octal mode from 000 to 0%llo", (unsigned long long)s->max);
	case TYPE_LEVEL:
		return xasprintf("%s, %s, %s or %s", log_level_names[0], log_level_names[1],
		    log_level_names[2], log_level_names[3]);
	case TYPE_FIELD:
		return xasprintf("%s, %s, %s, %s or %s", order_keys[0], order_keys[1],
		    order_keys[2], order_keys[3], order_keys[4]);
	case TYPE_SWITCH:
		return xstrdup("yes or no");
	case TYPE_MEMBER:
		return xasprintf(
		    "names of members with dots between them, of at most %lld bytes", s->max);
	case TYPE_URL:
	case TYPE_EVENT_URL:
		return xasprintf(
		    "an http or https URL of at most %lld bytes, without user and fragment",
		    s->max);
	case TYPE_SMTP_URL:
		return xstrdup(
		    "smtp:// or smtps:// and a host, with a port or without, and no path");
	case TYPE_ADDRESS:
		return xstrdup("an address of mail, of ASCII, without a name and brackets");
	case TYPE_FILE:
		return xasprintf("a path of at most %lld bytes", s->max);
	case TYPE_PROVIDER_SECRET:
	case TYPE_PROVIDER_SECRET_FILE:
		return xstrdup("printable ASCII without blanks, at most 1024 bytes");
	case TYPE_TOKEN:
	case TYPE_TOKEN_FILE:
		return xasprintf(
		    "%d to %d characters of A-Z a-z 0-9 _ - for a token", TOKEN_MIN, TOKEN_MAX);
	case TYPE_USER:
	case TYPE_PASSWORD:
	case TYPE_BASIC_FILE:
		return xasprintf("a user without colon and a password, both not empty, without "
				 "control characters and at most %d bytes together",
		    BASIC_MAX - 1);
	case TYPE_SIGNATURE:
	case TYPE_SIGNATURE_FILE:
	case TYPE_EVENT_SECRET:
	case TYPE_EVENT_SECRET_FILE:
		return xstrdup("base64 of 24 to 64 bytes, with or without whsec_ before it");
	}
	abort();
}

static void
bad_value(struct loader *l, unsigned line, const struct setting *s)
{
	char *must_be = wanted(s);

	fault(l, line, "%s has a bad value; it must be %s, for example %s = %s", s->name, must_be,
	    s->name, s->example);
	free(must_be);
}

/* ---- values ---- */

struct unit {
	const char *name; /* "": none */
	long long factor;
};

/*
 * Digits and then one of units, into *out as digits times its factor. False for anything else, and
 * for what is not between min and max.
 */
static bool
parse_number(
    const char *text, const struct unit *units, long long min, long long max, long long *out)
{
	size_t digits = strspn(text, "0123456789");

	if (digits == 0 || digits > 12) /* nothing here is that large, and no product overflows */
		return false;
	for (; units->name != NULL; units++)
		if (strcasecmp(text + digits, units->name) == 0) {
			*out = strtoll(text, NULL, 10) * units->factor;
			return *out >= min && *out <= max;
		}
	return false;
}

static void
set_text(char **field, const char *value)
{
	free(*field);
	*field = xstrdup(value);
}

/* Put a value into the field of its type; false if it is malformed or out of bounds. */
static bool
parse_value(const struct setting *s, void *field, const char *value)
{
	static const struct unit counts[] = {{"", 1}, {NULL, 0}};
	static const struct unit sizes[] = {{"", 1}, {"k", 1024}, {"m", 1 << 20}, {NULL, 0}};
	static const struct unit times[] = {{"ms", 1}, {"s", 1000}, {NULL, 0}};
	long long n = (long long)strlen(value);

	switch (s->type) {
	case TYPE_PATH:
		if (*value != '/')
			return false;
		/* FALLTHROUGH */
	case TYPE_TEXT:
	case TYPE_FILE:
	case TYPE_CONNINFO:
		if (n < s->min || n > s->max)
			return false;
		set_text(field, value);
		return true;
	case TYPE_GROUP:
		if (!parse_number(value, counts, 0, INT_MAX, &n) && getgrnam(value) == NULL)
			return false;
		set_text(field, value);
		return true;
	case TYPE_COUNT:
		if (!parse_number(value, counts, s->min, s->max, &n))
			return false;
		*(int *)field = (int)n;
		return true;
	case TYPE_SIZE:
		if (!parse_number(value, sizes, s->min, s->max, &n))
			return false;
		*(size_t *)field = (size_t)n;
		return true;
	case TYPE_DURATION:
		if (!parse_number(value, times, s->min, s->max, &n))
			return false;
		*(int *)field = (int)n;
		return true;
	case TYPE_MODE:
		if (n < 3 || n > 4 || strspn(value, "01234567") != (size_t)n)
			return false;
		n = strtoll(value, NULL, 8);
		if (n < s->min || n > s->max)
			return false;
		*(mode_t *)field = (mode_t)n;
		return true;
	case TYPE_LEVEL:
		for (int i = 0; i < LOG__MAX; i++)
			if (strcmp(value, log_level_names[i]) == 0) {
				*(int *)field = i;
				return true;
			}
		return false;
	case TYPE_FIELD:
		for (size_t i = 0; i < ORDER_KEYS; i++)
			if (strcmp(value, order_keys[i]) == 0) {
				*(enum transfer_field *)field = transfer_field_from_name(value);
				return true;
			}
		return false;
	case TYPE_SWITCH:
		*(bool *)field = strcmp(value, "yes") == 0;
		return *(bool *)field || strcmp(value, "no") == 0;
	case TYPE_MEMBER:
		if (n < s->min || n > s->max || *value == '.' || strstr(value, "..") != NULL ||
		    (n > 0 && value[n - 1] == '.'))
			return false;
		set_text(field, value);
		return true;
	case TYPE_URL:
		if (url_kind(value) == URL_BAD)
			return false;
		set_text(field, value);
		return true;
	case TYPE_SMTP_URL:
		if (url_smtp_kind(value) == URL_BAD)
			return false;
		set_text(field, value);
		return true;
	case TYPE_ADDRESS:
		if (!mail_address_ok(value))
			return false;
		set_text(field, value);
		return true;
	default:
		abort(); /* credentials are add_credential()'s */
	}
}

static void
set_defaults(enum scope scope, void *base)
{
	for (size_t i = 0; i < SETTINGS; i++) {
		const struct setting *s = &settings[i];

		if (s->scope == scope && s->fallback != NULL &&
		    !parse_value(s, (char *)base + s->offset, s->fallback))
			abort(); /* the table contradicts itself */
	}
}

/* ---- files ---- */

static void
file_free(struct file *f)
{
	if (f->bytes != NULL)
		explicit_bzero(f->bytes, f->len);
	free(f->bytes);
	*f = (struct file){0};
}

/*
 * Read a whole regular file of at most limit bytes. Returns NULL, or what is wrong with
 * it and how to mend that (static, or of strerror()).
 */
static const char *
file_read(struct file *f, const char *path, size_t limit)
{
	/* O_NONBLOCK: a pipe must be refused, not waited for. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const char *why = NULL;
	struct stat st;
	ssize_t n;

	*f = (struct file){0};
	if (fd < 0 || fstat(fd, &st) != 0) {
		why = strerror(errno);
	} else if (!S_ISREG(st.st_mode)) {
		why = "it is no regular file";
	} else {
		/* One more than allowed, to see that a file is too long; and the NUL. */
		f->bytes = xrealloc(NULL, limit + 2);
		f->mode = st.st_mode;
		while (
		    f->len <= limit && (n = read(fd, f->bytes + f->len, limit + 1 - f->len)) != 0) {
			if (n > 0)
				f->len += (size_t)n;
			else if (errno != EINTR) {
				why = strerror(errno);
				break;
			}
		}
		f->bytes[f->len] = '\0';
		if (why == NULL && f->len > limit)
			why = "it is too long";
	}
	if (fd >= 0)
		close(fd);
	if (why != NULL)
		file_free(f);
	return why;
}

/*
 * Cut the next line out of a text that ends with NUL at end: moves *at behind it, ends it with
 * NUL, drops its CR. Returns it, or NULL at the end. *wrong is set to a clause if
 * the line cannot be text, else to NULL.
 */
static char *
cut_line(char **at, char *end, const char **wrong)
{
	static const char bom[] = "\xef\xbb\xbf";
	char *line = *at, *stop;
	size_t len;

	if (line == end)
		return NULL;
	stop = memchr(line, '\n', (size_t)(end - line));
	*at = stop == NULL ? end : stop + 1;
	if (stop == NULL)
		stop = end;
	if (stop > line && stop[-1] == '\r')
		stop--;
	*stop = '\0';
	len = (size_t)(stop - line);
	*wrong = NULL;
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)line[i] < ' ' && line[i] != '\t') || line[i] == 0x7f)
			*wrong = "holds a control character; save the file as plain UTF-8 text";
	if (strncmp(line, bom, sizeof bom - 1) == 0)
		*wrong = "begins with a byte order mark; save the file as UTF-8 without it";
	return line;
}

/*
 * Where the service manager would have loaded a file of this name, or NULL: systemd's
 * LoadCredential=secrets:/etc/…/secrets makes secrets_shop.token of shop.token there. Owned by
 * the caller.
 */
static char *
credential_path(const char *name)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	char *path;

	if (directory == NULL || *directory != '/')
		return NULL;
	path = xasprintf("%s/%s", directory, name);
	for (char *p = path + strlen(directory) + 1; (p = strchr(p, '/')) != NULL;)
		*p = '_';
	return path;
}

/*
 * Where a file is that the configuration names. A relative name starts at the directory of the
 * configuration; what we cannot read there may be among the credentials that the service
 * manager has loaded. Owned by the caller.
 */
static char *
file_path(const struct loader *l, const char *name)
{
	const char *slash = strrchr(l->path, '/');
	char *path, *loaded;

	if (*name == '/')
		return xstrdup(name);
	path = slash == NULL ? xstrdup(name)
			     : xasprintf("%.*s/%s", (int)(slash - l->path), l->path, name);
	loaded = credential_path(name);
	if (loaded != NULL && access(path, R_OK) != 0 && access(loaded, F_OK) == 0) {
		free(path);
		return loaded;
	}
	free(loaded);
	return path;
}

/* Say that a file cannot be read. */
static void
unreadable(struct loader *l, unsigned line, const char *name, const char *path, const char *why)
{
	fault(l, line,
	    "%s %s cannot be read: %s; create it, or let the program's user read it, or restart "
	    "the "
	    "service that loads it as a credential",
	    name, path, why);
}

/* A file of secrets that everybody may read holds none. */
static void
refuse_open_file(
    struct loader *l, unsigned line, const char *name, const char *path, const struct file *f)
{
	if (f->mode & (S_IROTH | S_IWOTH))
		fault(l, line, "%s %s is open to every user of this machine; chmod o= %s", name,
		    path, path);
}

/* ---- credentials ---- */

static struct merchant *
merchant_in_work(struct loader *l)
{
	return &l->config->merchants[l->config->merchant_count - 1];
}

/* A copy in a new block, the old one wiped: it may hold digests of weak passwords. */
static struct merchant *
grow_merchants(struct config *c)
{
	size_t size = c->merchant_count * sizeof *c->merchants;
	struct merchant *bigger = xcalloc(c->merchant_count + 1, sizeof *bigger);

	if (size > 0) {
		memcpy(bigger, c->merchants, size);
		explicit_bzero(c->merchants, size);
	}
	free(c->merchants);
	c->merchants = bigger;
	return &c->merchants[c->merchant_count++];
}

static void
remember_line(struct merchant *m, const struct setting *s, const char *text)
{
	m->secret_lines =
	    xrealloc(m->secret_lines, (m->secret_line_count + 1) * sizeof *m->secret_lines);
	m->secret_lines[m->secret_line_count] =
	    (struct secret_line){.setting = s, .text = xstrdup(text)};
	if (s->type == TYPE_PROVIDER_SECRET || s->type == TYPE_PROVIDER_SECRET_FILE)
		m->provider.secret_place = s->type == TYPE_PROVIDER_SECRET
					       ? s->name
					       : m->secret_lines[m->secret_line_count].text;
	m->secret_line_count++;
}

/* A secret in a file that everybody may read is none. */
static void
refuse_readable(struct loader *l, const struct setting *s)
{
	if (l->file.mode & S_IROTH)
		fault(l, l->line,
		    "%s is a secret, and every user of this machine may read it here; chmod o= %s",
		    s->name, l->path);
}

/* What may stand in a header line without any quoting. */
static bool
header_text_ok(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		if (*p <= ' ' || *p >= 0x7f)
			return false; /* a signed char beyond ASCII is negative */
	return *text != '\0' && strlen(text) <= 1024;
}

/* One token, user:password, signature secret … False if it is malformed. */
static bool
add_secret(struct loader *l, const struct setting *s, char *text)
{
	struct merchant *m = merchant_in_work(l);
	struct credentials *c = &m->credentials;
	size_t count;
	bool ok;

	switch (s->type) {
	case TYPE_EVENT_URL:
		count = m->event_url_count == EVENT_URLS_MAX ? SECRETS_MAX : 0;
		ok = count == 0 && url_kind(text) != URL_BAD &&
		     strstr(text, MASK) == NULL; /* not a printed one */
		if (ok)
			m->event_urls[m->event_url_count++] = xstrdup(text);
		break;
	case TYPE_EVENT_SECRET:
	case TYPE_EVENT_SECRET_FILE:
		count = m->event_credentials.signature_count;
		ok = credentials_add_signature(&m->event_credentials, text);
		break;
	case TYPE_PROVIDER_SECRET:
	case TYPE_PROVIDER_SECRET_FILE:
		count = m->provider.secret != NULL ? SECRETS_MAX : 0; /* there is one only */
		ok = count == 0 && header_text_ok(text);
		if (ok)
			m->provider.secret = xstrdup(text);
		break;
	case TYPE_TOKEN:
	case TYPE_TOKEN_FILE:
		count = c->token_count;
		ok = credentials_add_token(c, text);
		break;
	case TYPE_SIGNATURE:
	case TYPE_SIGNATURE_FILE:
		count = c->signature_count;
		ok = credentials_add_signature(c, text);
		break;
	default: {
		char *colon = strchr(text, ':');

		count = c->basic_count;
		if (colon != NULL)
			*colon = '\0';
		ok = colon != NULL && credentials_add_basic(c, text, colon + 1);
	}
	}
	if (!ok && count == SECRETS_MAX)
		fault(l, l->line,
		    "%s: this merchant has more than %d of the kind; remove those that are no "
		    "longer "
		    "in use",
		    s->name, SECRETS_MAX);
	return ok;
}

/* Every line of a file of secrets that is not empty. */
static void
add_secret_file(struct loader *l, const struct setting *s, const char *path)
{
	struct file f;
	const char *wrong = file_read(&f, path, SECRET_BYTES_MAX);
	char *at = f.bytes, *line;
	unsigned n = 0, secrets = 0;

	if (wrong != NULL) {
		unreadable(l, l->line, s->name, path, wrong);
		return;
	}
	refuse_open_file(l, l->line, s->name, path, &f);
	while (l->error == NULL && (line = cut_line(&at, f.bytes + f.len, &wrong)) != NULL) {
		n++;
		if (wrong != NULL) {
			fault(l, l->line, "%s %s: line %u %s", s->name, path, n, wrong);
		} else if (*line != '\0' && !add_secret(l, s, line)) {
			char *must_be = wanted(s);

			fault(l, l->line, "%s %s: line %u is bad; it must be %s", s->name, path, n,
			    must_be);
			free(must_be);
		} else if (*line != '\0') {
			secrets++;
		}
	}
	if (secrets == 0)
		fault(l, l->line, "%s %s is empty; write a secret into it", s->name, path);
	file_free(&f);
}

/* A URL as config_print() shows it. Owned by the caller. */
static char *
masked_url(const char *url)
{
	char *site = url_site(url), *masked = xasprintf("%s/" MASK, site);

	free(site);
	return masked;
}

static bool
is_workers_file(const struct setting *s)
{
	return s->type == TYPE_EVENT_SECRET_FILE || s->type == TYPE_PROVIDER_SECRET_FILE;
}

static void
add_credential(struct loader *l, const struct setting *s, const char *value)
{
	struct merchant *m = merchant_in_work(l);
	char *text;

	switch (s->type) {
	case TYPE_EVENT_URL:
		text = xstrdup(value);
		refuse_readable(
		    l, s); /* its path may be all that keeps others from posting there */
		if (!add_secret(l, s, text))
			bad_value(l, l->line, s);
		free(text);
		text = l->error != NULL ? xstrdup("") : masked_url(value);
		remember_line(m, s, text);
		free(text);
		break;
	case TYPE_TOKEN:
	case TYPE_SIGNATURE:
	case TYPE_EVENT_SECRET:
	case TYPE_PROVIDER_SECRET:
		text = xstrdup(value);
		refuse_readable(l, s);
		if (!add_secret(l, s, text))
			bad_value(l, l->line, s);
		explicit_bzero(text, strlen(text));
		free(text);
		remember_line(m, s, MASK);
		break;
	case TYPE_USER:
		l->basic_user = xstrdup(value);
		remember_line(m, s, value);
		break;
	case TYPE_PASSWORD:
		refuse_readable(l, s);
		l->basic_password = xstrdup(value);
		remember_line(m, s, MASK);
		break;
	default:
		text = file_path(l, value);
		if (l->reader == CONFIG_FOR_WORKER || !is_workers_file(s))
			add_secret_file(l, s, text);
		remember_line(m, s, text);
		free(text);
	}
}

/* ---- files of mail ---- */

static const struct setting *
find_setting(const char *name, enum scope scope)
{
	for (size_t i = 0; i < SETTINGS; i++)
		if (settings[i].scope == scope && strcmp(settings[i].name, name) == 0)
			return &settings[i];
	return NULL;
}

static unsigned
line_of(const struct loader *l, const char *name)
{
	return l->set_line[find_setting(name, l->scope) - settings];
}

/* A file that the section names; its setting gets the whole path. False: it cannot be read, or is not ours. */
static bool
read_named(struct loader *l, const char *name, char **path, size_t limit, struct file *f)
{
	char *whole = file_path(l, *path);
	const char *wrong;

	free(*path);
	*path = whole;
	if (l->reader != CONFIG_FOR_WORKER && l->scope != SCOPE_GLOBAL)
		return false;
	wrong = file_read(f, whole, limit);
	if (wrong != NULL)
		unreadable(l, line_of(l, name), name, whole, wrong);
	return wrong == NULL;
}

static void
load_template(struct loader *l, const char *name, char **path, struct mail_template *t)
{
	struct file f;
	const char *wrong;
	unsigned line;

	if (*path == NULL || !read_named(l, name, path, SECRET_BYTES_MAX, &f))
		return;
	if (strlen(f.bytes) != f.len)
		fault(l, line_of(l, name), "%s %s holds a NUL; save it as plain UTF-8 text", name,
		    *path);
	else if ((wrong = mail_template_parse(t, f.bytes, &line)) != NULL)
		fault(l, line_of(l, name), "%s %s: line %u %s", name, *path, line, wrong);
	file_free(&f);
}

static void
load_smtp_auth(struct loader *l)
{
	static const char name[] = "smtp_auth_file";
	char **path = &l->config->worker.smtp_auth_file;
	const char *wrong = NULL;
	struct file f;
	char *at, *line, *colon;

	if (*path == NULL || !read_named(l, name, path, SECRET_BYTES_MAX, &f))
		return;
	at = f.bytes;
	line = cut_line(&at, f.bytes + f.len, &wrong);
	colon = line == NULL ? NULL : strchr(line, ':');
	refuse_open_file(l, line_of(l, name), name, *path, &f);
	if (wrong != NULL || colon == NULL || colon == line || colon[1] == '\0') {
		fault(l, line_of(l, name), "%s %s: line 1 is bad; it must be user:password", name,
		    *path);
	} else {
		*colon = '\0';
		set_text(&l->config->worker.smtp_user, line);
		set_text(&l->config->worker.smtp_password, colon + 1);
	}
	file_free(&f);
}

/* The text in quotes, as libpq's connection strings have it. Owned by the caller. */
static char *
quoted(const char *text)
{
	char *quote = xrealloc(NULL, 2 * strlen(text) + 3), *p = quote;

	*p++ = '\'';
	for (; *text != '\0'; *p++ = *text++)
		if (*text == '\'' || *text == '\\')
			*p++ = '\\';
	*p++ = '\'';
	*p = '\0';
	return quote;
}

/*
 * The connection string of a section is what was set, and the password of its file. libpq's own
 * passfile would not do: it must be 0600, which the files that systemd loads for us are not. The
 * password comes first: behind a "user=" without a name it would be the name, which servers log.
 */
static void
load_database_password(struct loader *l, char **database, const char *setting, char **path)
{
	static const char name[] = "database_password_file";
	const char *wrong = NULL;
	char *at, *line, *password;
	struct file f;

	if (*path == NULL || !read_named(l, name, path, SECRET_BYTES_MAX, &f))
		return;
	at = f.bytes;
	line = cut_line(&at, f.bytes + f.len, &wrong);
	refuse_open_file(l, line_of(l, name), name, *path, &f);
	if (line == NULL || *line == '\0' || wrong != NULL) {
		fault(l, line_of(l, name), "%s %s: line 1 %s", name, *path,
		    wrong != NULL ? wrong : "is empty; write the password into it");
	} else if (strstr(setting, "://") != NULL) {
		fault(l, line_of(l, name),
		    "%s adds nothing to a database that is an URL; write that as name=value pairs",
		    name);
	} else {
		password = quoted(line);
		*database = xasprintf("password=%s %s", password, setting);
		explicit_bzero(password, strlen(password));
		free(password);
	}
	file_free(&f);
}

static void
end_global(struct loader *l)
{
	struct config *c = l->config;

	load_database_password(l, &c->database, c->database_setting, &c->password_file);
}

static void
end_worker(struct loader *l)
{
	const struct config *c = l->config;
	struct file f;

	load_database_password(l, &l->config->worker.database, c->worker.database_setting,
	    &l->config->worker.password_file);
	load_smtp_auth(l);
	if (c->worker.smtp_ca_file != NULL &&
	    read_named(l, "smtp_ca_file", &l->config->worker.smtp_ca_file, CA_BYTES_MAX, &f))
		file_free(&f);
	if (c->worker.smtp_url != NULL && !c->worker.smtp_tls &&
	    url_smtp_kind(c->worker.smtp_url) == URL_PLAIN)
		fault(l, line_of(l, "smtp_url"),
		    "smtp_url is another machine, and everybody on the way would read the mails; "
		    "remove smtp_tls = no");
}

static void
end_mails(struct loader *l, struct merchant *m)
{
	load_template(l, "mail_success", &m->mail_files[MAIL_SUCCESS], &m->mails[MAIL_SUCCESS]);
	load_template(l, "mail_cancel", &m->mail_files[MAIL_CANCEL], &m->mails[MAIL_CANCEL]);
	if (m->mail_from == NULL)
		for (int k = 0; k < MAIL_KIND__MAX; k++)
			if (m->mail_files[k] != NULL)
				fault(l, m->line,
				    "merchant %s has a mail for customers and no sender; add "
				    "mail_from = "
				    "ADDRESS",
				    m->name);
	if (m->mail_from != NULL && m->mail_files[MAIL_SUCCESS] == NULL &&
	    m->mail_files[MAIL_CANCEL] == NULL)
		fault(l, line_of(l, "mail_from"),
		    "merchant %s has a mail_from and no mail; add mail_success = FILE or "
		    "mail_cancel = "
		    "FILE",
		    m->name);
}

/* Where the answer holds what order_key is in the webhook, unless provider_order says it. */
static void
find_order(struct loader *l, struct merchant *m)
{
	if (m->provider.order != NULL)
		return;
	switch (m->order_key) {
	case TRANSFER_OPTIONAL1:
	case TRANSFER_OPTIONAL2:
	case TRANSFER_OPTIONAL3:
		m->provider.order = xasprintf("data.api_transaction.optional%d",
		    (int)m->order_key - (int)TRANSFER_OPTIONAL1 + 1);
		return;
	default:
		/* The number that was asked about is the order's; elsewhere nothing can be known. */
		m->provider.order = xstrdup("");
		if (m->provider.url != NULL && m->order_key != TRANSFER_NO)
			fault(l, line_of(l, "provider_url"),
			    "merchant %s has a provider_url, and where the answers hold its "
			    "order_key is not known; add provider_order = MEMBER, or leave it "
			    "empty if they do not",
			    m->name);
	}
}

static bool
list_path_ok(const char *path)
{
	return *path == '/' && strstr(path, "{from}") != NULL && strstr(path, "{to}") != NULL &&
	       strstr(path, "{page}") != NULL;
}

/* ---- sections and settings ---- */

/* The section ends: what its settings mean together. */
static void
end_section(struct loader *l)
{
	struct merchant *m;

	if (l->scope == SCOPE_GLOBAL && l->error == NULL)
		end_global(l);
	if (l->scope == SCOPE_WORKER && l->error == NULL)
		end_worker(l);
	if (l->scope != SCOPE_MERCHANT || l->error != NULL)
		return;
	m = merchant_in_work(l);
	if (l->basic_user != NULL && l->basic_password != NULL) {
		if (m->credentials.basic_count == SECRETS_MAX)
			fault(l, line_of(l, "basic_user"),
			    "basic_user: this merchant has more than %d of the kind; remove those "
			    "that are no longer in use",
			    SECRETS_MAX);
		else if (!credentials_add_basic(&m->credentials, l->basic_user, l->basic_password))
			bad_value(l, line_of(l, "basic_user"),
			    find_setting("basic_user", SCOPE_MERCHANT));
	} else if (l->basic_user != NULL) {
		fault(l, line_of(l, "basic_user"),
		    "basic_user has no password; add basic_password to [merchant %s]", m->name);
	} else if (l->basic_password != NULL) {
		fault(l, line_of(l, "basic_password"),
		    "basic_password has no user; add basic_user to [merchant %s]", m->name);
	}
	if (m->event_url_count > 0 && line_of(l, "event_secret") == 0 &&
	    line_of(l, "event_secret_file") == 0)
		fault(l, line_of(l, "event_url"),
		    "merchant %s has an event_url and no secret to sign events with; add "
		    "event_secret_file = FILE with whsec_ "
		    "and the output of openssl rand -base64 32 in FILE",
		    m->name);
	if (m->provider.url != NULL && line_of(l, "provider_secret") == 0 &&
	    line_of(l, "provider_secret_file") == 0)
		fault(l, line_of(l, "provider_url"),
		    "merchant %s has a provider_url and no key for it; add provider_secret_file = "
		    "FILE",
		    m->name);
	if (m->provider.url != NULL &&
	    (*m->provider.path != '/' || strstr(m->provider.path, "{transaction_no}") == NULL))
		fault(l, line_of(l, "provider_path"),
		    "provider_path must begin with / and have {transaction_no} in it");
	find_order(l, m);
	end_mails(l, m);
	if (m->provider.url != NULL && !list_path_ok(m->provider.list_path))
		fault(l, line_of(l, "provider_list_path"),
		    "provider_list_path must begin with / and have {from}, {to} and {page} in it");
	if (m->credentials.token_count == 0)
		fault(l, m->line,
		    "merchant %s has no token, and without one anybody could post to it; add "
		    "token_file = FILE with the output of openssl rand -hex 24 in FILE",
		    m->name);
}

static void
free_basic(struct loader *l)
{
	if (l->basic_password != NULL)
		explicit_bzero(l->basic_password, strlen(l->basic_password));
	free(l->basic_password);
	free(l->basic_user);
	l->basic_user = l->basic_password = NULL;
}

/* "." and ".." are taken off a URL's path by clients and servers. */
static bool
merchant_name_ok(const char *name, size_t len)
{
	return len > 0 && len <= LIMIT_MERCHANT && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0 &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		   len;
}

/* head: the line from its "[" on. */
static void
begin_section(struct loader *l, const char *head)
{
	static const char blank[] = " \t";
	const char *end = strchr(head, ']');
	char name[LINE_BYTES + 1];
	struct merchant *m;
	size_t len;

	end_section(l);
	free_basic(l);
	memset(l->set_line, 0, sizeof l->set_line);
	if (end == NULL || end[1 + strspn(end + 1, blank)] != '\0') {
		fault(l, l->line,
		    "this section's head does not end with ]; write [foloosi-webhook] or "
		    "[merchant NAME] on a line of its own");
		return;
	}
	head += 1 + strspn(head + 1, blank);
	while (end > head && strchr(blank, end[-1]) != NULL)
		end--;
	len = (size_t)(end - head);
	memcpy(name, head, len);
	name[len] = '\0';

	if (strcmp(name, "foloosi-webhook") == 0) {
		if (l->global_line != 0)
			fault(l, l->line,
			    "[foloosi-webhook] is here for the second time; put its settings to "
			    "those "
			    "in line %u",
			    l->global_line);
		l->global_line = l->line;
		l->scope = SCOPE_GLOBAL;
		return;
	}
	if (strcmp(name, "foloosi-worker") == 0) {
		if (l->worker_line != 0)
			fault(l, l->line,
			    "[foloosi-worker] is here for the second time; put its settings to "
			    "those in line %u",
			    l->worker_line);
		l->worker_line = l->line;
		l->scope = SCOPE_WORKER;
		return;
	}
	if (strncmp(name, "merchant", 8) != 0 || (name[8] != ' ' && name[8] != '\t')) {
		fault(l, l->line,
		    "this section is unknown; write [foloosi-webhook], [foloosi-worker] or "
		    "[merchant NAME]");
		return;
	}
	head = name + 8 + strspn(name + 8, blank);
	len = strlen(head);
	if (!merchant_name_ok(head, len)) {
		fault(l, l->line,
		    "this merchant's name cannot stand in a URL; take 1 to %d characters of A-Z "
		    "a-z "
		    "0-9 . _ -",
		    LIMIT_MERCHANT);
		return;
	}
	for (size_t i = 0; i < l->config->merchant_count; i++)
		if (strcmp(l->config->merchants[i].name, head) == 0) {
			fault(l, l->line,
			    "[merchant %s] is here for the second time; put its settings to those "
			    "in "
			    "line %u",
			    head, l->config->merchants[i].line);
			return;
		}
	l->scope = SCOPE_MERCHANT;
	m = grow_merchants(l->config);
	m->name = xstrdup(head);
	m->line = l->line;
	set_defaults(SCOPE_MERCHANT, m);
}

/* libpq would accept it there; then the line is a secret like the others. */
static bool
holds_password(const char *database)
{
	return strcasestr(database, "password") != NULL || strcasestr(database, "secret") != NULL ||
	       (strstr(database, "://") != NULL && strchr(database, '@') != NULL);
}

static bool
is_repeatable(const struct setting *s)
{
	return s->type >= TYPE_TOKEN && s->type != TYPE_USER && s->type != TYPE_PASSWORD &&
	       s->type != TYPE_PROVIDER_SECRET && s->type != TYPE_PROVIDER_SECRET_FILE;
}

static void
unknown_setting(struct loader *l, const char *name)
{
	static const char *const sections[] = {[SCOPE_GLOBAL] = "[foloosi-webhook]",
	    [SCOPE_WORKER] = "[foloosi-worker]",
	    [SCOPE_MERCHANT] = "[merchant NAME]"};
	enum scope other = SCOPE_GLOBAL;
	bool printable = strspn(name, "abcdefghijklmnopqrstuvwxyz_") == strlen(name) &&
			 strlen(name) <= 24; /* else it may be a secret that lost its line */

	while (other < SCOPE_MERCHANT && find_setting(name, other) == NULL)
		other++;
	if (find_setting(name, other) != NULL)
		fault(l, l->line, "%s is no setting of this section; it belongs into %s", name,
		    sections[other]);
	else
		fault(l, l->line,
		    "%s is no setting; correct its name by foloosi-webhook.conf(5), or remove the "
		    "line",
		    printable ? name : "what stands here");
}

/* Faults that any value may have: what looks like another file format's syntax. */
static bool
value_ok(struct loader *l, const struct setting *s, const char *value)
{
	size_t len = strlen(value);

	if (len == 0 && s->type != TYPE_TEXT && s->type != TYPE_CONNINFO &&
	    !(s->type == TYPE_MEMBER && s->min == 0)) {
		fault(l, l->line, "%s has no value; give it one, or remove the line", s->name);
		return false;
	}
	if (strcmp(value, MASK) == 0) {
		fault(l, l->line,
		    "%s holds the mask of a printed configuration; write the secret itself",
		    s->name);
		return false;
	}
	if (len > 1 && (*value == '"' || *value == '\'') && value[len - 1] == *value) {
		fault(l, l->line, "%s stands in quotes; remove them%s", s->name,
		    s->type == TYPE_PASSWORD ? ", or use basic_file if they belong to it" : "");
		return false;
	}
	for (const char *p = value; (p = strpbrk(p, ";#")) != NULL; p++)
		if (p > value && (p[-1] == ' ' || p[-1] == '\t')) {
			fault(l, l->line,
			    "%s is followed by a comment; put it on a line of its own%s", s->name,
			    s->type == TYPE_PASSWORD
				? ", or use basic_file if it belongs to the password"
				: "");
			return false;
		}
	return true;
}

/* inih's handler; its own idea of the section may be truncated and is not used. */
static int
on_setting(void *arg, const char *section, const char *name, const char *value)
{
	struct loader *l = arg;
	const struct setting *s;
	void *base;

	(void)section;
	if (l->error != NULL)
		return 0;
	if (l->scope == SCOPE_NONE) {
		fault(l, l->line,
		    "a setting stands before any section; begin with [foloosi-webhook]");
		return 0;
	}
	if ((s = find_setting(name, l->scope)) == NULL) {
		unknown_setting(l, name);
		return 0;
	}
	if (l->set_line[s - settings] != 0 && !is_repeatable(s)) {
		fault(l, l->line, "%s is already set in line %u; remove one of them", s->name,
		    l->set_line[s - settings]);
		return 0;
	}
	l->set_line[s - settings] = l->line;
	if (!value_ok(l, s, value))
		return 0;
	if (s->type >= TYPE_TOKEN) {
		add_credential(l, s, value);
		return l->error == NULL;
	}
	base = s->scope == SCOPE_MERCHANT ? (void *)merchant_in_work(l) : (void *)l->config;
	if (!parse_value(s, (char *)base + s->offset, value))
		bad_value(l, l->line, s);
	else if (s->type == TYPE_CONNINFO && holds_password(value))
		refuse_readable(l, s);
	return l->error == NULL;
}

/*
 * inih's reader, in fgets()'s manner: the next line for its buffer, or NULL at the end and
 * after a fault. The buffer belongs to inih, which does not wipe it; this does with its last
 * call.
 */
static char *
next_line(char *buffer, int room, void *arg)
{
	struct loader *l = arg;
	char *end = l->file.bytes + l->file.len;
	const char *wrong = NULL, *text;
	char *line;

	if (l->error != NULL || (line = cut_line(&l->at, end, &wrong)) == NULL) {
		explicit_bzero(buffer, (size_t)room);
		return NULL;
	}
	l->line++;
	text = line + strspn(line, " \t");
	if (wrong != NULL)
		fault(l, l->line, "this line %s", wrong);
	else if (strlen(line) > LINE_BYTES || strlen(line) >= (size_t)room)
		fault(l, l->line, "this line is longer than %d bytes; shorten it", LINE_BYTES);
	else if (*text == '[')
		begin_section(l, text);
	else if (*text != '\0' && *text != ';' && *text != '#' && strpbrk(text, "=:") == NULL)
		fault(l, l->line,
		    "this line is no setting; write name = value, or # before a comment");
	if (l->error != NULL) {
		explicit_bzero(buffer, (size_t)room);
		return NULL;
	}
	return memcpy(buffer, line, strlen(line) + 1);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct merchant *)a)->name, ((const struct merchant *)b)->name);
}

/* http to other machines is read, and changed, by whoever is on the way. */
static void
refuse_plain_http(struct loader *l)
{
	const struct config *c = l->config;

	for (size_t i = 0; i < c->merchant_count && !c->worker.plain_http; i++) {
		const struct merchant *m = &c->merchants[i];
		bool plain = m->provider.url != NULL && url_kind(m->provider.url) == URL_PLAIN;

		for (size_t k = 0; k < m->event_url_count; k++)
			plain |= url_kind(m->event_urls[k]) == URL_PLAIN;
		if (plain)
			fault(l, m->line,
			    "merchant %s has a URL that is http to another machine; use https, or "
			    "allow it by plain_http = yes in [foloosi-worker]",
			    m->name);
	}
}

static void
need_smtp_url(struct loader *l)
{
	const struct config *c = l->config;

	for (size_t i = 0; i < c->merchant_count; i++)
		if (c->merchants[i].mail_from != NULL && c->worker.smtp_url == NULL)
			fault(l, c->merchants[i].line,
			    "merchant %s has a mail_from, and nobody takes mails; add smtp_url = "
			    "URL to "
			    "[foloosi-worker]",
			    c->merchants[i].name);
}

const char *
config_path(void)
{
	const char *path = getenv(CONFIG_PATH_ENV);

	return path != NULL && *path != '\0' ? path : CONFIG_DEFAULT_PATH;
}

struct config *
config_load(const char *path, enum config_reader reader, char **error)
{
	struct loader l = {
	    .path = path, .reader = reader, .config = xcalloc(1, sizeof(struct config))};
	const char *wrong;

	atomic_init(&l.config->refs, 1);
	set_defaults(SCOPE_GLOBAL, l.config);
	set_defaults(SCOPE_WORKER, l.config);
	if ((wrong = file_read(&l.file, path, CONFIG_BYTES_MAX)) != NULL) {
		fault(&l, 0,
		    "the configuration cannot be read: %s; create it, or name another file", wrong);
	} else if (l.file.mode & S_IWOTH) {
		fault(&l, 0,
		    "every user of this machine may change the configuration; chmod o-w %s", path);
	} else {
		/* Debian's inih takes its switches at run time; a heap buffer has the size we say. */
		ini_allow_multiline = false;
		ini_allow_inline_comments = false;
		ini_allow_no_value = false;
		ini_use_stack = false;
		ini_allow_realloc = false;
		ini_initial_alloc = ini_max_line = LINE_BYTES + 3;
		l.at = l.file.bytes;
		if (ini_parse_stream(next_line, &l, on_setting, &l) == -2)
			out_of_memory();
		end_section(&l);
		refuse_plain_http(&l);
		need_smtp_url(&l);
		if (l.config->database == NULL)
			l.config->database = xstrdup(l.config->database_setting);
		if (l.config->worker.database == NULL)
			l.config->worker.database = xstrdup(l.config->worker.database_setting);
		if (l.config->merchant_count == 0)
			fault(&l, l.line > 0 ? l.line : 1,
			    "there is no merchant in this file; add a section [merchant NAME] with "
			    "a "
			    "token_file");
	}
	free_basic(&l);
	file_free(&l.file);
	if (l.error != NULL) {
		config_unref(l.config);
		*error = l.error;
		return NULL;
	}
	qsort(l.config->merchants, l.config->merchant_count, sizeof *l.config->merchants, by_name);
	return l.config;
}

struct config *
config_ref(struct config *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

/* What only foloosi-worker needs of a merchant. */
static void
free_worker_parts(struct merchant *m)
{
	for (size_t i = 0; i < m->event_url_count; i++) {
		explicit_bzero(m->event_urls[i], strlen(m->event_urls[i]));
		free(m->event_urls[i]);
	}
	credentials_wipe(&m->event_credentials);
	if (m->provider.secret != NULL)
		explicit_bzero(m->provider.secret, strlen(m->provider.secret));
	free(m->provider.secret);
	free(m->provider.url);
	free(m->provider.path);
	free(m->provider.status);
	free(m->provider.amount);
	free(m->provider.currency);
	free(m->provider.order);
	free(m->mail_from);
	free(m->mail_name);
	for (int k = 0; k < MAIL_KIND__MAX; k++) {
		free(m->mail_files[k]);
		mail_template_free(&m->mails[k]);
	}
	free(m->provider.list_path);
	free(m->provider.list_rows);
	free(m->provider.list_number);
	free(m->provider.list_status);
	free(m->provider.list_amount);
	free(m->provider.list_currency);
}

static void
free_database(char *database, char *setting, char *password_file)
{
	if (database != NULL)
		explicit_bzero(database, strlen(database));
	explicit_bzero(setting, strlen(setting));
	free(database);
	free(setting);
	free(password_file);
}

void
config_unref(struct config *c)
{
	/* Release: our reads come before the free; acquire: the free comes after those of all others. */
	if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < c->merchant_count; i++) {
		struct merchant *m = &c->merchants[i];

		credentials_wipe(&m->credentials);
		for (size_t k = 0; k < m->secret_line_count; k++)
			free(m->secret_lines[k].text);
		free(m->secret_lines);
		free(m->order_prefix);
		free(m->name);
		free_worker_parts(m);
	}
	free_database(c->worker.database, c->worker.database_setting, c->worker.password_file);
	free_database(c->database, c->database_setting, c->password_file);
	if (c->worker.smtp_password != NULL)
		explicit_bzero(c->worker.smtp_password, strlen(c->worker.smtp_password));
	free(c->worker.smtp_password);
	free(c->worker.smtp_user);
	free(c->worker.smtp_url);
	free(c->worker.smtp_auth_file);
	free(c->worker.smtp_ca_file);
	if (c->monitor != NULL)
		explicit_bzero(c->monitor, strlen(c->monitor));
	free(c->monitor);
	free(c->merchants);
	free(c->listen);
	free(c->socket_group);
	free(c->spool_dir);
	free(c);
}

struct name {
	const char *bytes;
	size_t len;
};

static int
name_to_merchant(const void *key, const void *element)
{
	const struct name *name = key;
	const char *other = ((const struct merchant *)element)->name;
	size_t len = strlen(other);
	int order = memcmp(name->bytes, other, name->len < len ? name->len : len);

	return order != 0 ? order : (name->len > len) - (name->len < len);
}

const char *
merchant_order_ref(const struct merchant *m, const struct transfer *t)
{
	return order_without_prefix(t->field[m->order_key], m->order_prefix);
}

const struct merchant *
config_merchant(const struct config *c, const char *name, size_t len)
{
	struct name key = {.bytes = name, .len = len};

	return bsearch(
	    &key, c->merchants, c->merchant_count, sizeof *c->merchants, name_to_merchant);
}

/* ---- printing ---- */

static void
print_help(const struct setting *s, FILE *out)
{
	char *must_be;

	if (s->type >= TYPE_TOKEN) { /* the manual page has the forms of secrets */
		fprintf(out, "# %s\n", s->help);
		return;
	}
	must_be = wanted(s);
	fprintf(out, "# %s (%s", s->help, must_be);
	if (s->fallback != NULL)
		fprintf(out, "; default %s", *s->fallback == '\0' ? "empty" : s->fallback);
	fputs(")\n", out);
	free(must_be);
}

static void
print_value(const struct setting *s, const void *field, FILE *out)
{
	const char *text;

	switch (s->type) {
	case TYPE_SWITCH:
		fprintf(out, "%s = %s\n", s->name, *(const bool *)field ? "yes" : "no");
		break;
	case TYPE_TEXT:
	case TYPE_CONNINFO:
	case TYPE_PATH:
	case TYPE_GROUP:
	case TYPE_MEMBER:
	case TYPE_URL:
	case TYPE_SMTP_URL:
	case TYPE_ADDRESS:
	case TYPE_FILE:
		text = *(char *const *)field;
		if (text == NULL)
			fprintf(out, "#%s =\n", s->name);
		else
			/* Its whole text: to cut a password out of it takes libpq's own parser. */
			fprintf(out, "%s = %s\n", s->name,
			    s->type == TYPE_CONNINFO && holds_password(text) ? MASK : text);
		break;
	case TYPE_COUNT:
		fprintf(out, "%s = %d\n", s->name, *(const int *)field);
		break;
	case TYPE_SIZE:
		fprintf(out, "%s = %zu\n", s->name, *(const size_t *)field);
		break;
	case TYPE_DURATION:
		fprintf(out, "%s = %dms\n", s->name, *(const int *)field);
		break;
	case TYPE_MODE:
		fprintf(out, "%s = %04o\n", s->name, (unsigned)*(const mode_t *)field);
		break;
	case TYPE_LEVEL:
		fprintf(out, "%s = %s\n", s->name, log_level_names[*(const int *)field]);
		break;
	case TYPE_FIELD:
		for (size_t i = 0; i < ORDER_KEYS; i++)
			if (transfer_field_from_name(order_keys[i]) ==
			    *(const enum transfer_field *)field)
				fprintf(out, "%s = %s\n", s->name, order_keys[i]);
		break;
	default:
		abort(); /* credentials are print_section()'s */
	}
}

/* m: NULL for the sections that are no merchant's. */
static void
print_section(
    const struct config *c, enum scope scope, const struct merchant *m, bool with_help, FILE *out)
{
	const char *base = m == NULL ? (const char *)c : (const char *)m;

	for (size_t i = 0; i < SETTINGS; i++) {
		const struct setting *s = &settings[i];
		bool set = false;

		if (s->scope != scope)
			continue;
		if (with_help)
			print_help(s, out);
		if (s->type < TYPE_TOKEN) {
			print_value(s, base + s->offset, out);
			continue;
		}
		for (size_t k = 0; m != NULL && k < m->secret_line_count; k++)
			if (m->secret_lines[k].setting == s) {
				fprintf(out, "%s = %s\n", s->name, m->secret_lines[k].text);
				set = true;
			}
		if (!set)
			fprintf(out, "#%s =\n", s->name);
	}
}

void
config_print(const struct config *c, FILE *out)
{
	fputs("[foloosi-webhook]\n", out);
	print_section(c, SCOPE_GLOBAL, NULL, true, out);
	fputs("\n[foloosi-worker]\n", out);
	print_section(c, SCOPE_WORKER, NULL, true, out);
	for (size_t i = 0; i < c->merchant_count; i++) {
		fprintf(out, "\n[merchant %s]\n", c->merchants[i].name);
		print_section(c, SCOPE_MERCHANT, &c->merchants[i], i == 0, out);
	}
}
