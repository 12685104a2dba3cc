/* SPDX-License-Identifier: MIT */
/*
 * settings.c - what each setting is called and means, and what its type can do.
 *
 * A type parses a value, says what it must look like, prints and frees it. The functions below the
 * two tables run over them and know no setting by its name.
 *
 * Secrets are not printed from where they are kept, which is a digest at best, but as they were given:
 * the path of their file, or MASK.
 */
#include <grp.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "log.h"
#include "mail.h"
#include "mem.h"
#include "settings.h"
#include "url.h"

#define SECRET_BYTES_MAX (1 << 16) /* of a file of secrets, or a template */
#define CA_BYTES_MAX (1 << 22)     /* of a file of certificates */
#define SOCKET_PATH_MAX 100        /* sun_path has 108, less the temporary name of http_listen() */

/* ---- the table of settings ---- */

enum type {
	TYPE_TEXT,          /* char *, min and max in bytes */
	TYPE_CONNINFO,      /* the same for libpq, which may be a secret */
	TYPE_PATH,          /* char *, absolute, max in bytes */
	TYPE_GROUP,         /* char *, a group's name, or number of at most 9 digits */
	TYPE_COUNT,         /* int, min to max */
	TYPE_SIZE,          /* size_t, bytes */
	TYPE_DURATION,      /* int, milliseconds */
	TYPE_MODE,          /* mode_t */
	TYPE_LEVEL,         /* int, enum log_level */
	TYPE_FIELD,         /* enum transfer_field */
	TYPE_SWITCH,        /* bool, yes or no */
	TYPE_MEMBER,        /* char *, names of JSON members with dots between them */
	TYPE_URL,           /* char *, http or https */
	TYPE_SMTP_URL,      /* char *, smtp or smtps */
	TYPE_ADDRESS,       /* char *, of mail */
	TYPE_FILE,          /* char *, the path of a file that can be read */
	TYPE_PASSWORD_FILE, /* the same; its password gets into the database of its section */
	TYPE_AUTH_FILE,     /* the same, with user:password for smtp_url */
	TYPE_TEMPLATE,      /* the same, with a struct mail_template beside it */
	/* Secrets: printed as they were given. */
	TYPE_TOKEN,     /* struct credentials; so are the next two */
	TYPE_SIGNATURE, /* base64 */
	TYPE_BASIC,     /* user:password */
	TYPE_USER,      /* char *, until its section ends; so is the password */
	TYPE_PASSWORD,
	TYPE_KEY,       /* char *, a value of an HTTP header */
	TYPE_EVENT_URL, /* one of the merchant's event_urls */
	TYPE__MAX
};

struct setting {
	const char *name;
	enum type type;
	enum section section;
	size_t offset;   /* of its field, in struct config or struct merchant */
	size_t in_force; /* the same; but a database's is where it has its password, too */
	unsigned flags;
	const char *fallback; /* the default, parsed like a value; NULL: not set */
	long long min, max;   /* in the unit of the type */
	const char *example;
	const char *help;
};

/* Flags of a setting. */
#define NEEDS_RESTART 1 /* it is only read at the start */
#define IN_FILE 2       /* its value names a file with a value of the type in each line */
#define OF_WORKER 4     /* the file that it names is read for CONFIG_FOR_WORKER only */

#define PLACE(section, type, field, flags)                                                         \
	section, offsetof(type, field), offsetof(type, field), flags
#define HANDLER(field) PLACE(SECTION_HANDLER, struct config, field, 0)
#define AT_START(field) PLACE(SECTION_HANDLER, struct config, field, NEEDS_RESTART)
#define WORKER(field) PLACE(SECTION_WORKER, struct config, worker.field, OF_WORKER)
#define MERCHANT(field) PLACE(SECTION_MERCHANT, struct merchant, field, OF_WORKER)
#define MERCHANT_FILE(field) PLACE(SECTION_MERCHANT, struct merchant, field, IN_FILE)
#define WORKERS_FILE(field) PLACE(SECTION_MERCHANT, struct merchant, field, IN_FILE | OF_WORKER)
#define DATABASE(section, in, flags)                                                               \
	SECTION_##section, offsetof(struct config, in database_setting),                           \
	    offsetof(struct config, in database), flags
/* clang-format off */
static const struct setting settings[] = {
    {"database", TYPE_CONNINFO, DATABASE(HANDLER, , NEEDS_RESTART), "", 0, CONFIG_LINE_MAX, "service=foloosi",
	"how libpq connects; empty: by its environment and service file"},
    {"database_password_file", TYPE_PASSWORD_FILE, HANDLER(password_file), NULL, 1, CONFIG_LINE_MAX, "secrets/handler.password",
	"file with the password for it in its first line"},
    {"listen", TYPE_PATH, AT_START(listen), NULL, 1, SOCKET_PATH_MAX, "/run/foloosi-webhook/foloosi-webhook.sock",
	"unix socket to bind; not set: one is inherited"},
    {"socket_mode", TYPE_MODE, AT_START(socket_mode), "0660", 0, 0, "0660",
	"permissions of that socket"},
    {"socket_group", TYPE_GROUP, AT_START(socket_group), NULL, 1, 255, "www-data",
	"group of that socket, the web server's; not set: the process's own"},
    {"threads", TYPE_COUNT, AT_START(threads), "128", 1, 1024, "128",
	"how many requests are served at the same time"},
    {"body_limit", TYPE_SIZE, HANDLER(body_limit), "64k", 1024, 16 << 20, "64k",
	"largest body that is accepted"},
    {"deadline", TYPE_DURATION, HANDLER(deadline_ms), "3s", 10, 60000, "3s",
	"longest time from the arrival of a request to its answer"},
    {"spool_dir", TYPE_PATH, AT_START(spool_dir), NULL, 1, CONFIG_LINE_MAX, "/var/spool/foloosi-webhook",
	"directory for deliveries while the database is away; not set: they are refused"},
    {"spool_max_bytes", TYPE_SIZE, AT_START(spool_max_bytes), "1024m", 1024, 1LL << 39, "1024m",
	"how much it may hold"},
    {"spool_max_files", TYPE_COUNT, AT_START(spool_max_files), "500000", 1, 10000000, "500000",
	"how many deliveries it may hold"},
    {"spool_rate", TYPE_COUNT, AT_START(spool_rate), "4000", 1, 100000, "4000",
	"how many of them a second go into the database beside live traffic"},
    {"monitor", TYPE_CONNINFO, AT_START(monitor), NULL, 1, CONFIG_LINE_MAX, "dbname=shop user=foloosi_monitor",
	"how /metrics asks the database for what waits there, as a role of its own; not set: it does not"},
    {"log_level", TYPE_LEVEL, HANDLER(log_level), "info", 0, 0, "info",
	"least important lines that are logged"},
    {"database", TYPE_CONNINFO, DATABASE(WORKER, worker., OF_WORKER), "", 0, CONFIG_LINE_MAX, "dbname=shop user=foloosi_worker",
	"how foloosi-worker connects, as a role of its own; empty: by libpq's environment and service file"},
    {"database_password_file", TYPE_PASSWORD_FILE, WORKER(password_file), NULL, 1, CONFIG_LINE_MAX, "secrets/worker.password",
	"file with the password for it in its first line"},
    {"log_level", TYPE_LEVEL, WORKER(log_level), "info", 0, 0, "info",
	"least important lines that it logs"},
    {"poll", TYPE_DURATION, WORKER(poll_ms), "200ms", 10, 60000, "200ms",
	"how often it looks for events"},
    {"event_timeout", TYPE_DURATION, WORKER(event_timeout_ms), "15s", 10, 60000, "15s",
	"longest time that an endpoint has to answer"},
    {"event_attempts", TYPE_COUNT, WORKER(event_attempts), "15", 1, 100, "15",
	"how often an event is posted before it is given up"},
    {"event_concurrency", TYPE_COUNT, WORKER(event_concurrency), "32", 1, 512, "32",
	"how many posts to one URL are under way at the same time"},
    {"plain_http", TYPE_SWITCH, WORKER(plain_http), "no", 0, 0, "no",
	"whether URLs may be http to other machines than this one"},
    {"smtp_url", TYPE_SMTP_URL, WORKER(smtp_url), NULL, 1, URL_MAX, "smtp://127.0.0.1",
	"the server that takes mails to customers"},
    {"smtp_tls", TYPE_SWITCH, WORKER(smtp_tls), "yes", 0, 0, "yes",
	"whether an smtp:// server must offer STARTTLS; no is for this machine only"},
    {"smtp_auth_file", TYPE_AUTH_FILE, WORKER(smtp_auth_file), NULL, 1, CONFIG_LINE_MAX, "secrets/smtp",
	"file with user:password for that server in its first line"},
    {"smtp_ca_file", TYPE_FILE, WORKER(smtp_ca_file), NULL, 1, CONFIG_LINE_MAX, "/etc/ssl/certs/ca-certificates.crt",
	"certificates of who vouches for that server; not set: the system's"},
    {"smtp_timeout", TYPE_DURATION, WORKER(smtp_timeout_ms), "60s", 10, 600000, "60s",
	"longest time that a mail may take"},
    {"reconcile_every", TYPE_DURATION, WORKER(reconcile_every_ms), "600s", 0, 86400000, "600s",
	"how often it reads the provider's list of the last hours; 0s: only the command reconcile does"},
    {"reconcile_days", TYPE_COUNT, WORKER(reconcile_days), "3", 1, 366, "3",
	"how many days before today are reconciled if the command names none"},
    {"reconcile_patience", TYPE_DURATION, WORKER(reconcile_patience_ms), "120s", 100, 3600000, "120s",
	"how long a provider or a database that does not answer is tried again before a reconciliation stops"},
    {"token", TYPE_TOKEN, MERCHANT(credentials), NULL, TOKEN_MIN, TOKEN_MAX, "(output of: openssl rand -hex 24)",
	"last part of the endpoint's URL; several may be given"},
    {"token_file", TYPE_TOKEN, MERCHANT_FILE(credentials), NULL, TOKEN_MIN, TOKEN_MAX, "secrets/shop.token",
	"file with a token in each line; several may be given"},
    {"basic_user", TYPE_USER, MERCHANT(basic_user), NULL, 1, BASIC_MAX - 1, "foloosi",
	"user that HTTP Basic authentication asks for, with basic_password"},
    {"basic_password", TYPE_PASSWORD, MERCHANT(basic_password), NULL, 1, BASIC_MAX - 1, "(output of: openssl rand -hex 24)",
	"its password"},
    {"basic_file", TYPE_BASIC, MERCHANT_FILE(credentials), NULL, 1, BASIC_MAX - 1, "secrets/shop.basic",
	"file with user:password in each line; several may be given"},
    {"signature_secret", TYPE_SIGNATURE, MERCHANT(credentials), NULL, 0, 0, "whsec_(output of: openssl rand -base64 32)",
	"secret of Standard Webhooks signatures; several may be given"},
    {"signature_secret_file", TYPE_SIGNATURE, MERCHANT_FILE(credentials), NULL, 1, CONFIG_LINE_MAX, "secrets/shop.whsec",
	"file with a signature secret in each line; several may be given"},
    {"order_key", TYPE_FIELD, MERCHANT(order_key), "optional1", 0, 0, "optional1",
	"field of the payload that holds the order's number"},
    {"order_prefix", TYPE_TEXT, MERCHANT(order_prefix), NULL, 1, LIMIT_OPTIONAL - 1, "SHOP-",
	"what is taken off the front of the order's number"},
    {"event_url", TYPE_EVENT_URL, MERCHANT(event_urls), NULL, 1, URL_MAX, "https://shop.example/foloosi/events",
	"where foloosi-worker posts events to; several may be given"},
    {"event_secret", TYPE_SIGNATURE, MERCHANT(event_credentials), NULL, 0, 0, "whsec_(output of: openssl rand -base64 32)",
	"secret that events are signed with; several may be given, each signs"},
    {"event_secret_file", TYPE_SIGNATURE, WORKERS_FILE(event_credentials), NULL, 1, CONFIG_LINE_MAX, "secrets/shop.events",
	"file with such a secret in each line; several may be given"},
    {"provider_url", TYPE_URL, MERCHANT(provider.url), NULL, 1, URL_MAX, "https://api.foloosi.com",
	"whom foloosi-worker asks about payments, where the merchant's policy is verify = callback"},
    {"provider_path", TYPE_TEXT, MERCHANT(provider.path), "/v1/api/transaction-detail/{transaction_no}", 1, 1024, "/v2/api/transaction-detail/{transaction_no}",
	"the rest of that URL; {transaction_no} stands for the number"},
    {"provider_secret", TYPE_KEY, MERCHANT(provider.secret), NULL, 1, 1024, "(from the provider's panel)",
	"the merchant's secret key at the provider"},
    {"provider_secret_file", TYPE_KEY, WORKERS_FILE(provider.secret), NULL, 1, 1024, "secrets/shop.provider",
	"file with that key in its first line"},
    {"provider_status", TYPE_MEMBER, MERCHANT(provider.status), "data.status", 1, 255, "data.status",
	"member of the answer that holds the status"},
    {"provider_amount", TYPE_MEMBER, MERCHANT(provider.amount), "data.api_transaction.payable_amount_in_sender_currency", 1, 255, "data.request_amount",
	"member of the answer that holds the amount"},
    {"provider_currency", TYPE_MEMBER, MERCHANT(provider.currency), "data.api_transaction.sender_currency", 1, 255, "data.request_currency",
	"member of the answer that holds the currency"},
    {"provider_order", TYPE_MEMBER, MERCHANT(provider.order), NULL, 0, 255, "data.api_transaction.optional1",
	"member of the answer that holds the order's number, its prefix included; empty: it has none; default: by order_key"},
    {"provider_refunded", TYPE_MEMBER, MERCHANT(provider.refunded), NULL, 1, 255, "data.refunded_amount",
	"member of the answer that holds how much of the payment went back; not set: it does not say"},
    {"provider_per_minute", TYPE_COUNT, MERCHANT(provider.per_minute), "60", 1, 6000, "60",
	"how many questions are asked in a minute at most"},
    {"mail_from", TYPE_ADDRESS, MERCHANT(mail_from), NULL, 1, 254, "orders@shop.example",
	"whose mails to customers are"},
    {"mail_name", TYPE_TEXT, MERCHANT(mail_name), NULL, 1, 128, "Our Shop",
	"name beside that address"},
    {"mail_success", TYPE_TEMPLATE, MERCHANT(mail_files[MAIL_SUCCESS]), NULL, 1, CONFIG_LINE_MAX, "mail/paid.txt",
	"template of what a customer is told on order.success; not set: nothing"},
    {"mail_cancel", TYPE_TEMPLATE, MERCHANT(mail_files[MAIL_CANCEL]), NULL, 1, CONFIG_LINE_MAX, "mail/cancelled.txt",
	"template of what a customer is told on order.cancel; not set: nothing"},
    {"mail_refund", TYPE_TEMPLATE, MERCHANT(mail_files[MAIL_REFUND]), NULL, 1, CONFIG_LINE_MAX, "mail/refunded.txt",
	"template of what a customer is told on order.refund; not set: nothing"},
    {"provider_list_path", TYPE_TEXT, MERCHANT(provider.list_path),
	"/v1/api/transaction-list?q={\"fromDate\":\"{from}\",\"toDate\":\"{to}\",\"page\":\"{page}\",\"limit\":\"{limit}\"}",
	1, 1024, "/v2/api/transaction-list?q={\"fromDate\":\"{from}\",\"toDate\":\"{to}\",\"page\":\"{page}\",\"limit\":\"{limit}\"}",
	"where the provider lists transactions, with the places of dates, page and limit"},
    {"provider_list_rows", TYPE_MEMBER, MERCHANT(provider.list_rows), "data.transactions", 1, 255, "data.transactions",
	"member of that answer that holds the rows"},
    {"provider_list_number", TYPE_MEMBER, MERCHANT(provider.list_number), "transaction_no", 1, 255, "transaction_no",
	"member of a row that holds the transaction's number"},
    {"provider_list_status", TYPE_MEMBER, MERCHANT(provider.list_status), "status", 1, 255, "status",
	"member of a row that holds the status"},
    {"provider_list_amount", TYPE_MEMBER, MERCHANT(provider.list_amount), "send_amount", 0, 255, "request_amount",
	"member of a row that holds the amount; empty: it has none"},
    {"provider_list_currency", TYPE_MEMBER, MERCHANT(provider.list_currency), "sender_currency", 0, 255, "request_currency",
	"member of a row that holds the currency; empty: it has none"},
};
/* clang-format on */
#define SETTINGS (sizeof settings / sizeof *settings)

/* A secret as its line gave it, for settings_print(). */
struct given {
	const struct setting *setting;
	char *text;
};

void
secret_free(char **text)
{
	if (*text != NULL)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

/* ---- the functions of types ---- */

enum parsed {
	PARSED_BAD, /* malformed, or out of bounds */
	PARSED_OK,
	PARSED_FULL /* there is no room for one more */
};

/* What a number may end with; the first unit is what it is printed in, the last what its maximum is told in. */
struct unit {
	const char *name; /* "": none */
	long long factor;
};
static const struct unit counts[] = {{"", 1}, {NULL, 0}};
static const struct unit sizes[] = {{"", 1}, {"k", 1024}, {"m", 1 << 20}, {NULL, 0}};
static const struct unit times[] = {{"ms", 1}, {"s", 1000}, {NULL, 0}};

/* A word and the number that is kept for it. */
struct choice {
	const char *name;
	int value;
};
static const struct choice switches[] = {{"no", false}, {"yes", true}, {NULL, 0}};
static const struct choice levels[] = {{"error", LOG_ERROR}, {"warning", LOG_WARNING},
    {"info", LOG_INFO}, {"debug", LOG_DEBUG}, {NULL, 0}};
/*
 * The fields that may name an order: text that the merchant or the provider makes up as a
 * key, and no longer than an order_ref. Nothing personal.
 */
static const struct choice order_keys[] = {{"optional1", TRANSFER_OPTIONAL1},
    {"optional2", TRANSFER_OPTIONAL2}, {"optional3", TRANSFER_OPTIONAL3},
    {"transaction_no", TRANSFER_NO}, {"payment_reference", TRANSFER_REFERENCE}, {NULL, 0}};

/* Flags of a type. */
#define MAY_BE_EMPTY 1    /* parse is asked about an empty value, too */
#define EMPTY_IF_MIN_0 2  /* only where the setting's min is 0 */
#define MAY_BE_REPEATED 4 /* in a section */
#define SECRET 8          /* its value is */
#define SECRET_FILE 16    /* the file that its value names is */

struct type_row {
	const char *form; /* the end of "it must be …"; {min} and {max} are the setting's */
	enum parsed (*parse)(const struct setting *, void *base, const char *value);
	void (*print)(const struct setting *, const void *base, FILE *); /* NULL: as it was given */
	size_t size; /* of a field that is a number; 0: it is another */
	unsigned flags;
	bool (*ok)(const char *);     /* of a text; NULL: any */
	const struct unit *units;     /* of a number */
	const struct choice *choices; /* instead of one */
	char *(*show)(const char *);  /* how to print what was given; NULL: secrets as MASK */
	void (*free)(void *field);    /* NULL: a text is freed, a number is not */
	/* The file that the value names, which is read at the section's end. */
	size_t file_max; /* its bytes; 0: the value names none */
	/* Take what is in it; a sentence if it is wrong, owned by the caller. NULL: it only has to be there. */
	char *(*read)(const struct setting *, void *base, struct whole_file *);
};
static const struct type_row types[TYPE__MAX];

/* Where the value is. base: the struct that holds it. */
static void *
field_of(const struct setting *s, const void *base)
{
	return (char *)base + s->offset;
}

static enum parsed
set_text(const struct setting *s, void *base, const char *value)
{
	char **field = field_of(s, base);

	secret_free(field);
	*field = xstrdup(value);
	return PARSED_OK;
}

static enum parsed
parse_text(const struct setting *s, void *base, const char *value)
{
	bool (*ok)(const char *) = types[s->type].ok;
	long long n = (long long)strlen(value);

	if (n < s->min || n > s->max || (ok != NULL && !ok(value)))
		return PARSED_BAD;
	return set_text(s, base, value);
}

static void
print_text(const struct setting *s, const void *base, FILE *out)
{
	const char *text = *(char *const *)field_of(s, base);

	if (text == NULL)
		fprintf(out, "#%s =\n", s->name);
	else
		fprintf(out, "%s = %s\n", s->name, text);
}

/* libpq would accept it there; then the line is a secret like the others. */
static bool
holds_password(const char *database)
{
	return strcasestr(database, "password") != NULL || strcasestr(database, "secret") != NULL ||
	       (strstr(database, "://") != NULL && strchr(database, '@') != NULL);
}

static void
print_conninfo(const struct setting *s, const void *base, FILE *out)
{
	const char *text = *(char *const *)field_of(s, base);

	/* Its whole text: to cut a password out of it takes libpq's own parser. */
	if (text != NULL && holds_password(text))
		fprintf(out, "%s = %s\n", s->name, MASK);
	else
		print_text(s, base, out);
}

static bool
is_absolute(const char *path)
{
	return *path == '/';
}

static bool
is_group(const char *name)
{
	size_t digits = strspn(name, "0123456789");

	return (digits > 0 && digits <= 9 && name[digits] == '\0') || getgrnam(name) != NULL;
}

static bool
is_member(const char *name)
{
	size_t len = strlen(name);

	return *name != '.' && strstr(name, "..") == NULL && (len == 0 || name[len - 1] != '.');
}

static bool
is_url(const char *url)
{
	return url_kind(url) != URL_BAD;
}

static bool
is_smtp_url(const char *url)
{
	return url_smtp_kind(url) != URL_BAD;
}

/* What may stand in a header line without any quoting. */
static bool
is_header_value(const char *text)
{
	while (*text > ' ' && *text < 0x7f) /* a signed char beyond ASCII is negative */
		text++;
	return *text == '\0';
}

static void
set_number(const struct setting *s, void *base, long long n)
{
	if (types[s->type].size == sizeof(bool))
		*(bool *)field_of(s, base) = n != 0;
	else if (types[s->type].size == sizeof(size_t))
		*(size_t *)field_of(s, base) = (size_t)n;
	else
		*(int *)field_of(s, base) = (int)n;
}

static long long
number_of(const struct setting *s, const void *base)
{
	if (types[s->type].size == sizeof(bool))
		return *(const bool *)field_of(s, base);
	if (types[s->type].size == sizeof(size_t))
		return (long long)*(const size_t *)field_of(s, base);
	return *(const int *)field_of(s, base);
}

static enum parsed
parse_number(const struct setting *s, void *base, const char *value)
{
	const struct unit *unit = types[s->type].units;
	size_t digits = strspn(value, "0123456789");
	long long n;

	if (digits == 0 || digits > 12) /* nothing here is that large, and no product overflows */
		return PARSED_BAD;
	while (unit->name != NULL && strcasecmp(value + digits, unit->name) != 0)
		unit++;
	n = strtoll(value, NULL, 10) * unit->factor;
	if (unit->name == NULL || n < s->min || n > s->max)
		return PARSED_BAD;
	set_number(s, base, n);
	return PARSED_OK;
}

static void
print_number(const struct setting *s, const void *base, FILE *out)
{
	fprintf(out, "%s = %lld%s\n", s->name, number_of(s, base), types[s->type].units->name);
}

static enum parsed
parse_mode(const struct setting *s, void *base, const char *value)
{
	size_t len = strlen(value);
	long mode = strtol(value, NULL, 8);

	if (len < 3 || len > 4 || strspn(value, "01234567") != len || mode > 0777)
		return PARSED_BAD;
	set_number(s, base, mode);
	return PARSED_OK;
}

static void
print_mode(const struct setting *s, const void *base, FILE *out)
{
	fprintf(out, "%s = %04llo\n", s->name, (unsigned long long)number_of(s, base));
}

static enum parsed
parse_choice(const struct setting *s, void *base, const char *value)
{
	for (const struct choice *c = types[s->type].choices; c->name != NULL; c++)
		if (strcmp(value, c->name) == 0) {
			set_number(s, base, c->value);
			return PARSED_OK;
		}
	return PARSED_BAD;
}

static void
print_choice(const struct setting *s, const void *base, FILE *out)
{
	const struct choice *c = types[s->type].choices;

	while (c->value != number_of(s, base))
		c++;
	fprintf(out, "%s = %s\n", s->name, c->name);
}

static enum parsed
parse_token(const struct setting *s, void *base, const char *value)
{
	struct credentials *c = field_of(s, base);

	if (c->token_count == SECRETS_MAX)
		return PARSED_FULL;
	return credentials_add_token(c, value) ? PARSED_OK : PARSED_BAD;
}

static enum parsed
parse_signature(const struct setting *s, void *base, const char *value)
{
	struct credentials *c = field_of(s, base);

	if (c->signature_count == SECRETS_MAX)
		return PARSED_FULL;
	return credentials_add_signature(c, value) ? PARSED_OK : PARSED_BAD;
}

static enum parsed
parse_basic(const struct setting *s, void *base, const char *value)
{
	struct credentials *c = field_of(s, base);
	size_t user_len = strcspn(value, ":");
	char *user;
	bool ok;

	if (c->basic_count == SECRETS_MAX)
		return PARSED_FULL;
	user = xasprintf("%.*s", (int)user_len, value);
	ok = value[user_len] == ':' && credentials_add_basic(c, user, value + user_len + 1);
	secret_free(&user);
	return ok ? PARSED_OK : PARSED_BAD;
}

static enum parsed
parse_key(const struct setting *s, void *base, const char *value)
{
	return *(char **)field_of(s, base) != NULL ? PARSED_FULL : parse_text(s, base, value);
}

static enum parsed
parse_event_url(const struct setting *s, void *base, const char *value)
{
	struct merchant *m = base;

	(void)s;
	if (m->event_url_count == EVENT_URLS_MAX)
		return PARSED_FULL;
	if (!is_url(value) || strstr(value, MASK) != NULL) /* a printed one */
		return PARSED_BAD;
	m->event_urls[m->event_url_count++] = xstrdup(value);
	return PARSED_OK;
}

static void
free_credentials(void *field)
{
	credentials_wipe(field);
}

static void
free_event_urls(void *field)
{
	for (size_t i = 0; i < EVENT_URLS_MAX; i++)
		secret_free((char **)field + i);
}

/* A URL without its path, which may be all that keeps others from posting there. Owned by the caller. */
static char *
show_site(const char *url)
{
	char *site = url_site(url), *masked = xasprintf("%s/" MASK, site);

	free(site);
	return masked;
}

static const struct setting *setting_find(const char *name, enum section);

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
static char *
read_password(const struct setting *s, void *base, struct whole_file *f)
{
	const struct setting *database = setting_find("database", s->section);
	const char *setting = *(char **)field_of(database, base), *wrong = NULL;
	char *at = f->bytes, *line = whole_file_line(f, &at, &wrong), *password;

	if (line == NULL || *line == '\0' || wrong != NULL)
		return xasprintf("%s %s: line 1 %s", s->name, f->path,
		    wrong != NULL ? wrong : "is empty; write the password into it");
	if (strstr(setting, "://") != NULL)
		return xasprintf("%s adds nothing to a database that is an URL; write that as "
				 "name=value pairs",
		    s->name);
	password = quoted(line);
	*(char **)((char *)base + database->in_force) =
	    xasprintf("password=%s %s", password, setting);
	secret_free(&password);
	return NULL;
}

static char *
read_auth(const struct setting *s, void *base, struct whole_file *f)
{
	struct config *c = base;
	const char *wrong = NULL;
	char *at = f->bytes, *line = whole_file_line(f, &at, &wrong);
	char *colon = line == NULL ? NULL : strchr(line, ':');

	if (wrong != NULL || colon == NULL || colon == line || colon[1] == '\0')
		return xasprintf(
		    "%s %s: line 1 is bad; it must be user:password", s->name, f->path);
	*colon = '\0';
	c->worker.smtp_user = xstrdup(line);
	c->worker.smtp_password = xstrdup(colon + 1);
	return NULL;
}

static char *
read_template(const struct setting *s, void *base, struct whole_file *f)
{
	struct merchant *m = base;
	struct mail_template *t = xcalloc(1, sizeof *t);
	const char *wrong;
	unsigned line;

	m->mails[(char **)field_of(s, base) - m->mail_files] = t;
	if (strlen(f->bytes) != f->len)
		return xasprintf(
		    "%s %s holds a NUL; save it as plain UTF-8 text", s->name, f->path);
	wrong = mail_template_parse(t, f->bytes, &line);
	return wrong == NULL ? NULL : xasprintf("%s %s: line %u %s", s->name, f->path, line, wrong);
}

/* ---- the table of types ---- */

#define BASIC_FORM                                                                                 \
	"a user without colon and a password, both not empty, without control characters and at "  \
	"most {max} bytes together"

/* clang-format off */
static const struct type_row types[TYPE__MAX] = {
    [TYPE_TEXT] = {"text of {min} to {max} bytes", parse_text, print_text, .flags = MAY_BE_EMPTY},
    [TYPE_CONNINFO] = {"text of {min} to {max} bytes", parse_text, print_conninfo, .flags = MAY_BE_EMPTY},
    [TYPE_PATH] = {"an absolute path of at most {max} bytes", parse_text, print_text, .ok = is_absolute},
    [TYPE_GROUP] = {"the name or number of a group of this machine", parse_text, print_text, .ok = is_group},
    [TYPE_MEMBER] = {"names of members with dots between them, of at most {max} bytes",
	parse_text, print_text, .ok = is_member, .flags = EMPTY_IF_MIN_0},
    [TYPE_URL] = {"an http or https URL of at most {max} bytes, without user and fragment",
	parse_text, print_text, .ok = is_url},
    [TYPE_SMTP_URL] = {"smtp:// or smtps:// and a host, with a port or without, and no path",
	parse_text, print_text, .ok = is_smtp_url},
    [TYPE_ADDRESS] = {"an address of mail, of ASCII, without a name and brackets",
	parse_text, print_text, .ok = mail_address_ok},
    [TYPE_COUNT] = {"a whole number from {min} to {max}", parse_number, print_number, .size = sizeof(int), .units = counts},
    [TYPE_SIZE] = {"a number of bytes from {min} to {max}m, with k for KiB or m for MiB",
	parse_number, print_number, .size = sizeof(size_t), .units = sizes},
    [TYPE_DURATION] = {"a time from {min}ms to {max}s, with its unit, ms or s",
	parse_number, print_number, .size = sizeof(int), .units = times},
    [TYPE_MODE] = {"an octal mode from 000 to 0777", parse_mode, print_mode, .size = sizeof(mode_t)},
    [TYPE_LEVEL] = {"error, warning, info or debug", parse_choice, print_choice, .size = sizeof(int), .choices = levels},
    [TYPE_FIELD] = {"optional1, optional2, optional3, transaction_no or payment_reference",
	parse_choice, print_choice, .size = sizeof(enum transfer_field), .choices = order_keys},
    [TYPE_SWITCH] = {"yes or no", parse_choice, print_choice, .size = sizeof(bool), .choices = switches},
    [TYPE_FILE] = {"a path of at most {max} bytes", parse_text, print_text, .file_max = CA_BYTES_MAX},
    [TYPE_PASSWORD_FILE] = {"a path of at most {max} bytes", parse_text, print_text,
	.flags = SECRET_FILE, .file_max = SECRET_BYTES_MAX, .read = read_password},
    [TYPE_AUTH_FILE] = {"a path of at most {max} bytes", parse_text, print_text,
	.flags = SECRET_FILE, .file_max = SECRET_BYTES_MAX, .read = read_auth},
    [TYPE_TEMPLATE] = {"a path of at most {max} bytes", parse_text, print_text,
	.file_max = SECRET_BYTES_MAX, .read = read_template},
    [TYPE_TOKEN] = {"{min} to {max} characters of A-Z a-z 0-9 _ - for a token",
	parse_token, .free = free_credentials, .flags = SECRET | MAY_BE_REPEATED},
    [TYPE_SIGNATURE] = {"base64 of 24 to 64 bytes, with or without whsec_ before it",
	parse_signature, .free = free_credentials, .flags = SECRET | MAY_BE_REPEATED},
    [TYPE_BASIC] = {BASIC_FORM, parse_basic, .free = free_credentials, .flags = SECRET | MAY_BE_REPEATED},
    [TYPE_USER] = {BASIC_FORM, set_text, .flags = 0},
    [TYPE_PASSWORD] = {BASIC_FORM, set_text, .flags = SECRET},
    [TYPE_KEY] = {"printable ASCII without blanks, at most {max} bytes",
	parse_key, .ok = is_header_value, .flags = SECRET},
    [TYPE_EVENT_URL] = {"an http or https URL of at most {max} bytes, without user and fragment",
	parse_event_url, .free = free_event_urls, .flags = SECRET | MAY_BE_REPEATED, .show = show_site},
};
/* clang-format on */

/* ---- over the tables ---- */

static const struct setting *
setting_find(const char *name, enum section section)
{
	for (size_t i = 0; i < SETTINGS; i++)
		if (settings[i].section == section && strcmp(settings[i].name, name) == 0)
			return &settings[i];
	return NULL;
}

unsigned
settings_line(const struct loading *l, const char *name)
{
	return l->lines[setting_find(name, l->section) - settings];
}

void
settings_defaults(enum section section, void *base)
{
	for (const struct setting *s = settings; s < settings + SETTINGS; s++)
		if (s->section == section && s->fallback != NULL &&
		    types[s->type].parse(s, base, s->fallback) != PARSED_OK)
			abort(); /* the table contradicts itself */
}

void
settings_begin(struct loading *l, enum section section, void *base)
{
	l->section = section;
	l->base = base;
	free(l->lines);
	l->lines = xcalloc(SETTINGS, sizeof *l->lines);
}

static void
remember(struct merchant *m, const struct setting *s, char *text)
{
	m->given = xrealloc(m->given, (m->given_count + 1) * sizeof *m->given);
	m->given[m->given_count++] = (struct given){.setting = s, .text = text};
}

const char *
settings_given(const struct merchant *m, const char *name)
{
	for (size_t i = 0; i < m->given_count; i++)
		if (strcmp(m->given[i].setting->name, name) == 0)
			return m->given[i].text;
	return NULL;
}

/* The form of its values. Owned by the caller. */
static char *
describe(const struct setting *s)
{
	const struct type_row *type = &types[s->type];
	const char *form = type->form, *min = strstr(form, "{min}"), *max = strstr(form, "{max}");
	long long most = s->max;

	for (const struct unit *u = type->units; u != NULL && u->name != NULL; u++)
		most = s->max / u->factor;
	if (max == NULL)
		return xstrdup(form);
	if (min == NULL)
		return xasprintf("%.*s%lld%s", (int)(max - form), form, most, max + 5);
	return xasprintf("%.*s%lld%.*s%lld%s", (int)(min - form), form, s->min,
	    (int)(max - min - 5), min + 5, most, max + 5);
}

void
settings_bad_value(struct loading *l, unsigned line, const char *name)
{
	const struct setting *s = setting_find(name, l->section);
	char *must_be = describe(s);

	config_fault(&l->file, line, "%s has a bad value; it must be %s, for example %s = %s", name,
	    must_be, name, s->example);
	free(must_be);
}

void
settings_too_many(struct loading *l, unsigned line, const char *name)
{
	config_fault(&l->file, line,
	    "%s: this merchant has more than %d of the kind; remove those that are no longer in "
	    "use",
	    name, SECRETS_MAX);
}

/* False: the value is malformed, or there is no room for it. */
static bool
parse(struct loading *l, const struct setting *s, const char *value)
{
	enum parsed parsed = types[s->type].parse(s, l->base, value);

	if (parsed == PARSED_FULL && types[s->type].flags & MAY_BE_REPEATED)
		settings_too_many(l, l->file.line, s->name);
	else if (parsed == PARSED_FULL)
		config_fault(&l->file, l->file.line,
		    "%s: this merchant has a key already; leave one, in one line of one file",
		    s->name);
	return parsed == PARSED_OK;
}

/* Read a file that a setting of this section names. False: it is not as it should be. */
static bool
read_file(struct loading *l, const struct setting *s, const char *path, size_t limit, bool secret,
    struct whole_file *f)
{
	const char *wrong = whole_file_read(f, path, limit);

	if (wrong != NULL)
		config_fault(&l->file, l->lines[s - settings], "%s %s cannot be read: %s; %s",
		    s->name, path, wrong, whole_file_remedy(path));
	else if (secret && f->mode & (S_IROTH | S_IWOTH))
		config_fault(&l->file, l->lines[s - settings],
		    "%s %s is open to every user of this machine; chmod o= %s", s->name, path,
		    path);
	return wrong == NULL;
}

/* Every line of a file of secrets that is not empty. */
static void
parse_lines(struct loading *l, const struct setting *s, const char *path)
{
	struct config_file *conf = &l->file;
	struct whole_file f;
	const char *wrong;
	char *at, *line;
	unsigned n = 0, secrets = 0;

	if (!read_file(l, s, path, SECRET_BYTES_MAX, true, &f))
		return;
	at = f.bytes;
	while (conf->error == NULL && (line = whole_file_line(&f, &at, &wrong)) != NULL) {
		n++;
		if (wrong != NULL) {
			config_fault(
			    conf, conf->line, "%s %s: line %u %s", s->name, path, n, wrong);
		} else if (*line != '\0' && !parse(l, s, line)) {
			char *must_be = describe(s);

			config_fault(conf, conf->line, "%s %s: line %u is bad; it must be %s",
			    s->name, path, n, must_be);
			free(must_be);
		} else if (*line != '\0') {
			secrets++;
		}
	}
	if (secrets == 0)
		config_fault(
		    conf, conf->line, "%s %s is empty; write a secret into it", s->name, path);
	whole_file_free(&f);
}

static void
unknown_setting(struct loading *l, const char *name)
{
	static const char *const heads[] = {[SECTION_HANDLER] = "[foloosi-webhook]",
	    [SECTION_WORKER] = "[foloosi-worker]",
	    [SECTION_MERCHANT] = "[merchant NAME]"};
	enum section other = SECTION_HANDLER;
	bool printable = strspn(name, "abcdefghijklmnopqrstuvwxyz_") == strlen(name) &&
			 strlen(name) <= 24; /* else it may be a secret that lost its line */

	while (other < SECTION_MERCHANT && setting_find(name, other) == NULL)
		other++;
	if (setting_find(name, other) != NULL)
		config_fault(&l->file, l->file.line,
		    "%s is no setting of this section; it belongs into %s", name, heads[other]);
	else
		config_fault(&l->file, l->file.line,
		    "%s is no setting; correct its name by foloosi-webhook.conf(5), or remove the "
		    "line",
		    printable ? name : "what stands here");
}

/* Faults that any value may have: what looks like another file format's syntax. */
static bool
value_ok(struct loading *l, const struct setting *s, const char *value)
{
	const struct type_row *type = &types[s->type];
	size_t len = strlen(value);
	const char *wrong = NULL, *instead = "";

	if (len == 0 && !(type->flags & MAY_BE_EMPTY) &&
	    !((type->flags & EMPTY_IF_MIN_0) && s->min == 0))
		wrong = "has no value; give it one, or remove the line";
	else if (strcmp(value, MASK) == 0)
		wrong = "holds the mask of a printed configuration; write the secret itself";
	else if (len > 1 && (*value == '"' || *value == '\'') && value[len - 1] == *value) {
		wrong = "stands in quotes; remove them";
		instead = ", or use basic_file if they belong to it";
	} else
		for (const char *p = value; (p = strpbrk(p, ";#")) != NULL; p++)
			if (p > value && (p[-1] == ' ' || p[-1] == '\t')) {
				wrong = "is followed by a comment; put it on a line of its own";
				instead = ", or use basic_file if it belongs to the password";
			}
	if (wrong != NULL)
		config_fault(&l->file, l->file.line, "%s %s%s", s->name, wrong,
		    s->type == TYPE_PASSWORD ? instead : "");
	return wrong == NULL;
}

void
settings_set(struct loading *l, const char *name, const char *value)
{
	const struct setting *s = setting_find(name, l->section);
	const struct type_row *type;
	struct config_file *f = &l->file;
	bool secret;
	char *path;

	if (s == NULL) {
		unknown_setting(l, name);
		return;
	}
	type = &types[s->type];
	if (l->lines[s - settings] != 0 && !(type->flags & MAY_BE_REPEATED)) {
		config_fault(f, f->line, "%s is already set in line %u; remove one of them", name,
		    l->lines[s - settings]);
		return;
	}
	l->lines[s - settings] = f->line;
	if (!value_ok(l, s, value))
		return;
	if (s->flags & IN_FILE) {
		path = config_file_path(f->path, value);
		if (l->reader == CONFIG_FOR_WORKER || !(s->flags & OF_WORKER))
			parse_lines(l, s, path);
		remember(l->base, s, path);
		return;
	}
	secret = type->flags & SECRET || (s->type == TYPE_CONNINFO && holds_password(value));
	if (secret && f->mode & S_IROTH)
		config_fault(f, f->line,
		    "%s is a secret, and every user of this machine may read it here; chmod o= %s",
		    name, f->path);
	if (!parse(l, s, value))
		settings_bad_value(l, f->line, name);
	if (type->print == NULL && f->error == NULL)
		remember(l->base, s,
		    type->show != NULL ? type->show(value) : xstrdup(secret ? MASK : value));
}

void
settings_read_files(struct loading *l)
{
	for (const struct setting *s = settings; s < settings + SETTINGS; s++) {
		const struct type_row *type = &types[s->type];
		char **path, *whole;
		struct whole_file f;
		char *wrong;

		if (s->section != l->section || type->file_max == 0)
			continue;
		path = field_of(s, l->base);
		if (*path == NULL)
			continue;
		whole = config_file_path(l->file.path, *path);
		free(*path);
		*path = whole;
		if ((l->reader != CONFIG_FOR_WORKER && s->flags & OF_WORKER) ||
		    !read_file(l, s, whole, type->file_max, type->flags & SECRET_FILE, &f))
			continue;
		wrong = type->read == NULL ? NULL : type->read(s, l->base, &f);
		if (wrong != NULL)
			config_fault(&l->file, l->lines[s - settings], "%s", wrong);
		free(wrong);
		whole_file_free(&f);
	}
}

static void
print_help(const struct setting *s, FILE *out)
{
	char *must_be;

	if (types[s->type].print == NULL) { /* the manual page has the forms of secrets */
		fprintf(out, "# %s\n", s->help);
		return;
	}
	must_be = describe(s);
	fprintf(out, "# %s (%s", s->help, must_be);
	if (s->fallback != NULL)
		fprintf(out, "; default %s", *s->fallback == '\0' ? "empty" : s->fallback);
	fputs(")\n", out);
	free(must_be);
}

void
settings_print(enum section section, const void *base, bool with_help, FILE *out)
{
	for (const struct setting *s = settings; s < settings + SETTINGS; s++) {
		const struct merchant *m = base;
		bool set = false;

		if (s->section != section)
			continue;
		if (with_help)
			print_help(s, out);
		if (types[s->type].print != NULL) {
			types[s->type].print(s, base, out);
			continue;
		}
		for (size_t i = 0; i < m->given_count; i++)
			if (m->given[i].setting == s) {
				fprintf(out, "%s = %s\n", s->name, m->given[i].text);
				set = true;
			}
		if (!set)
			fprintf(out, "#%s =\n", s->name);
	}
}

/* Are two fields of the setting's type equal? */
static bool
equal(const struct setting *s, const void *field, const void *other)
{
	size_t size = types[s->type].size;
	const char *a, *b;

	if (size > 0)
		return memcmp(field, other, size) == 0;
	a = *(char *const *)field;
	b = *(char *const *)other;
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

void
settings_changed(
    enum section section, const void *old, const void *fresh, void (*report)(const char *setting))
{
	for (const struct setting *s = settings; s < settings + SETTINGS; s++) {
		if (s->section == section && s->flags & NEEDS_RESTART &&
		    !equal(s, (const char *)old + s->in_force, (const char *)fresh + s->in_force))
			report(s->name);
	}
}

void
settings_free(enum section section, void *base)
{
	for (const struct setting *s = settings; s < settings + SETTINGS; s++)
		if (s->section == section && types[s->type].free != NULL)
			types[s->type].free(field_of(s, base));
		else if (s->section == section && types[s->type].size == 0)
			secret_free(field_of(s, base));
	if (section == SECTION_MERCHANT) {
		struct merchant *m = base;

		for (size_t i = 0; i < m->given_count; i++)
			free(m->given[i].text);
		free(m->given);
	}
}
