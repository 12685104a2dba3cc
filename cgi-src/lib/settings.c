/*
 * settings.c - the settings of the configuration: what each is called and means, and what its type
 * can do.
 *
 * A type parses a value, describes what it must look like, prints it, compares it and frees it. The
 * functions below the two tables run over them and know no setting by its name.
 *
 * Secrets are not printed from where they are kept, which is a digest at best, but as they were given:
 * the path of their file, or MASK.
 */
#include <grp.h>
#include <limits.h>
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
	size_t offset; /* of its field, in struct config or struct merchant */
	size_t
	    in_force; /* of what the program uses: the same, but for a database with its password */
	unsigned flags;
	const char *fallback; /* the default, parsed like a value; NULL: not set */
	long long min, max;   /* in the unit of the type */
	const char *example;
	const char *help;
};

/* Flags of a setting. */
#define FROM_START 1 /* it is only read at the start: a change needs a restart */
#define IN_FILE 2    /* its value names a file with a value of the type in each line */
#define OF_WORKER 4  /* CONFIG_FOR_WORKER only reads the file that it names */

#define PLACE(section, type, field, flags)                                                         \
	section, offsetof(type, field), offsetof(type, field), flags
#define HANDLER(field) PLACE(SECTION_HANDLER, struct config, field, 0)
#define AT_START(field) PLACE(SECTION_HANDLER, struct config, field, FROM_START)
#define WORKER(field) PLACE(SECTION_WORKER, struct config, worker.field, OF_WORKER)
#define MERCHANT(field) PLACE(SECTION_MERCHANT, struct merchant, field, OF_WORKER)
#define MERCHANT_FILE(field) PLACE(SECTION_MERCHANT, struct merchant, field, IN_FILE)
#define WORKERS_FILE(field) PLACE(SECTION_MERCHANT, struct merchant, field, IN_FILE | OF_WORKER)
#define DATABASE(section, in, flags)                                                               \
	SECTION_##section, offsetof(struct config, in database_setting),                           \
	    offsetof(struct config, in database), flags
/* clang-format off */
static const struct setting settings[] = {
    {"database", TYPE_CONNINFO, DATABASE(HANDLER, , FROM_START), "", 0, CONFIG_LINE_MAX, "service=foloosi",
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

/*
 * The fields that may name an order: text that the merchant or the provider makes up as a
 * key, and no longer than an order_ref. Nothing personal.
 */
static const char *const order_keys[] = {
    "optional1", "optional2", "optional3", "transaction_no", "payment_reference"};
#define ORDER_KEYS (sizeof order_keys / sizeof *order_keys)

/* ---- types: parse ---- */

/* Each puts a value into its field; base is the struct that holds it. */
enum parsed {
	PARSED_BAD, /* malformed, or out of bounds */
	PARSED_OK,
	PARSED_FULL /* there is no room for one more */
};

static void *
field_of(const struct setting *s, void *base)
{
	return (char *)base + s->offset;
}

void
secret_free(char **text)
{
	if (*text != NULL)
		explicit_bzero(*text, strlen(*text));
	free(*text);
	*text = NULL;
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
	long long n = (long long)strlen(value);

	return n < s->min || n > s->max ? PARSED_BAD : set_text(s, base, value);
}

static enum parsed
parse_path(const struct setting *s, void *base, const char *value)
{
	return *value != '/' ? PARSED_BAD : parse_text(s, base, value);
}

struct unit {
	const char *name; /* "": none */
	long long factor;
};
static const struct unit counts[] = {{"", 1}, {NULL, 0}};
static const struct unit sizes[] = {{"", 1}, {"k", 1024}, {"m", 1 << 20}, {NULL, 0}};
static const struct unit times[] = {{"ms", 1}, {"s", 1000}, {NULL, 0}};

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

static enum parsed
parse_group(const struct setting *s, void *base, const char *value)
{
	long long n;

	if (!parse_number(value, counts, 0, INT_MAX, &n) && getgrnam(value) == NULL)
		return PARSED_BAD;
	return set_text(s, base, value);
}

static enum parsed
parse_int(const struct setting *s, void *base, const char *value, const struct unit *units)
{
	long long n;

	if (!parse_number(value, units, s->min, s->max, &n))
		return PARSED_BAD;
	*(int *)field_of(s, base) = (int)n;
	return PARSED_OK;
}

static enum parsed
parse_count(const struct setting *s, void *base, const char *value)
{
	return parse_int(s, base, value, counts);
}

static enum parsed
parse_duration(const struct setting *s, void *base, const char *value)
{
	return parse_int(s, base, value, times);
}

static enum parsed
parse_size(const struct setting *s, void *base, const char *value)
{
	long long n;

	if (!parse_number(value, sizes, s->min, s->max, &n))
		return PARSED_BAD;
	*(size_t *)field_of(s, base) = (size_t)n;
	return PARSED_OK;
}

static enum parsed
parse_mode(const struct setting *s, void *base, const char *value)
{
	size_t len = strlen(value);
	long n = strtol(value, NULL, 8);

	if (len < 3 || len > 4 || strspn(value, "01234567") != len || n > 0777)
		return PARSED_BAD;
	*(mode_t *)field_of(s, base) = (mode_t)n;
	return PARSED_OK;
}

static enum parsed
parse_level(const struct setting *s, void *base, const char *value)
{
	for (int i = 0; i < LOG__MAX; i++)
		if (strcmp(value, log_level_names[i]) == 0) {
			*(int *)field_of(s, base) = i;
			return PARSED_OK;
		}
	return PARSED_BAD;
}

static enum parsed
parse_field(const struct setting *s, void *base, const char *value)
{
	for (size_t i = 0; i < ORDER_KEYS; i++)
		if (strcmp(value, order_keys[i]) == 0) {
			*(enum transfer_field *)field_of(s, base) = transfer_field_from_name(value);
			return PARSED_OK;
		}
	return PARSED_BAD;
}

static enum parsed
parse_switch(const struct setting *s, void *base, const char *value)
{
	bool yes = strcmp(value, "yes") == 0;

	*(bool *)field_of(s, base) = yes;
	return yes || strcmp(value, "no") == 0 ? PARSED_OK : PARSED_BAD;
}

static enum parsed
parse_member(const struct setting *s, void *base, const char *value)
{
	size_t len = strlen(value);

	if (*value == '.' || strstr(value, "..") != NULL || (len > 0 && value[len - 1] == '.'))
		return PARSED_BAD;
	return parse_text(s, base, value);
}

static enum parsed
parse_url(const struct setting *s, void *base, const char *value)
{
	return url_kind(value) == URL_BAD ? PARSED_BAD : set_text(s, base, value);
}

static enum parsed
parse_smtp_url(const struct setting *s, void *base, const char *value)
{
	return url_smtp_kind(value) == URL_BAD ? PARSED_BAD : set_text(s, base, value);
}

static enum parsed
parse_address(const struct setting *s, void *base, const char *value)
{
	return mail_address_ok(value) ? set_text(s, base, value) : PARSED_BAD;
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

/* What may stand in a header line without any quoting. */
static enum parsed
parse_key(const struct setting *s, void *base, const char *value)
{
	if (*(char **)field_of(s, base) != NULL)
		return PARSED_FULL;
	for (const char *p = value; *p != '\0'; p++)
		if (*p <= ' ' || *p >= 0x7f)
			return PARSED_BAD; /* a signed char beyond ASCII is negative */
	return parse_text(s, base, value);
}

static enum parsed
parse_event_url(const struct setting *s, void *base, const char *value)
{
	struct merchant *m = base;

	(void)s;
	if (m->event_url_count == EVENT_URLS_MAX)
		return PARSED_FULL;
	if (url_kind(value) == URL_BAD || strstr(value, MASK) != NULL) /* a printed one */
		return PARSED_BAD;
	m->event_urls[m->event_url_count++] = xstrdup(value);
	return PARSED_OK;
}

/* ---- types: secrets ---- */

/* libpq would accept it there; then the line is a secret like the others. */
static bool
holds_password(const char *database)
{
	return strcasestr(database, "password") != NULL || strcasestr(database, "secret") != NULL ||
	       (strstr(database, "://") != NULL && strchr(database, '@') != NULL);
}

/* A URL without its path, which may be all that keeps others from posting there. Owned by the caller. */
static char *
show_site(const char *url)
{
	char *site = url_site(url), *masked = xasprintf("%s/" MASK, site);

	free(site);
	return masked;
}

/* ---- types: print ---- */

static void
print_text(const struct setting *s, const void *field, FILE *out)
{
	const char *text = *(char *const *)field;

	if (text == NULL)
		fprintf(out, "#%s =\n", s->name);
	else
		fprintf(out, "%s = %s\n", s->name, text);
}

static void
print_conninfo(const struct setting *s, const void *field, FILE *out)
{
	const char *text = *(char *const *)field, *mask = MASK;

	/* Its whole text: to cut a password out of it takes libpq's own parser. */
	print_text(s, text != NULL && holds_password(text) ? (const void *)&mask : field, out);
}

static void
print_count(const struct setting *s, const void *field, FILE *out)
{
	fprintf(out, "%s = %d\n", s->name, *(const int *)field);
}

static void
print_size(const struct setting *s, const void *field, FILE *out)
{
	fprintf(out, "%s = %zu\n", s->name, *(const size_t *)field);
}

static void
print_duration(const struct setting *s, const void *field, FILE *out)
{
	fprintf(out, "%s = %dms\n", s->name, *(const int *)field);
}

static void
print_mode(const struct setting *s, const void *field, FILE *out)
{
	fprintf(out, "%s = %04o\n", s->name, (unsigned)*(const mode_t *)field);
}

static void
print_level(const struct setting *s, const void *field, FILE *out)
{
	fprintf(out, "%s = %s\n", s->name, log_level_names[*(const int *)field]);
}

static void
print_field(const struct setting *s, const void *field, FILE *out)
{
	for (size_t i = 0; i < ORDER_KEYS; i++)
		if (transfer_field_from_name(order_keys[i]) == *(const enum transfer_field *)field)
			fprintf(out, "%s = %s\n", s->name, order_keys[i]);
}

static void
print_switch(const struct setting *s, const void *field, FILE *out)
{
	fprintf(out, "%s = %s\n", s->name, *(const bool *)field ? "yes" : "no");
}

/* ---- types: free ---- */

static void
free_text(void *field)
{
	secret_free(field);
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

/* ---- types: files that are read at the section's end ---- */

static void
refuse_open_file(struct loading *l, const struct setting *s, unsigned line, const char *path,
    const struct whole_file *f)
{
	if (f->mode & (S_IROTH | S_IWOTH))
		config_fault(&l->file, line,
		    "%s %s is open to every user of this machine; chmod o= %s", s->name, path,
		    path);
}

static const struct setting *setting_find(const char *name, enum section);
static unsigned line_of(const struct loading *, const struct setting *);

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
read_password(struct loading *l, const struct setting *s, void *base, const struct whole_file *f)
{
	const struct setting *database = setting_find("database", s->section);
	const char *path = *(char **)field_of(s, base),
		   *setting = *(char **)field_of(database, base);
	const char *wrong = NULL;
	char *at = f->bytes, *line = whole_file_line(f, &at, &wrong), *password;

	refuse_open_file(l, s, line_of(l, s), path, f);
	if (line == NULL || *line == '\0' || wrong != NULL) {
		config_fault(&l->file, line_of(l, s), "%s %s: line 1 %s", s->name, path,
		    wrong != NULL ? wrong : "is empty; write the password into it");
	} else if (strstr(setting, "://") != NULL) {
		config_fault(&l->file, line_of(l, s),
		    "%s adds nothing to a database that is an URL; write that as name=value pairs",
		    s->name);
	} else {
		password = quoted(line);
		*(char **)((char *)base + database->in_force) =
		    xasprintf("password=%s %s", password, setting);
		secret_free(&password);
	}
}

static void
read_auth(struct loading *l, const struct setting *s, void *base, const struct whole_file *f)
{
	struct config *c = base;
	const char *path = *(char **)field_of(s, base), *wrong = NULL;
	char *at = f->bytes, *line = whole_file_line(f, &at, &wrong);
	char *colon = line == NULL ? NULL : strchr(line, ':');

	refuse_open_file(l, s, line_of(l, s), path, f);
	if (wrong != NULL || colon == NULL || colon == line || colon[1] == '\0') {
		config_fault(&l->file, line_of(l, s),
		    "%s %s: line 1 is bad; it must be user:password", s->name, path);
	} else {
		*colon = '\0';
		c->worker.smtp_user = xstrdup(line);
		c->worker.smtp_password = xstrdup(colon + 1);
	}
}

static void
read_template(struct loading *l, const struct setting *s, void *base, const struct whole_file *f)
{
	struct merchant *m = base;
	char **path = field_of(s, base);
	struct mail_template *t = xcalloc(1, sizeof *t);
	const char *wrong;
	unsigned line;

	m->mails[path - m->mail_files] = t;
	if (strlen(f->bytes) != f->len)
		config_fault(&l->file, line_of(l, s),
		    "%s %s holds a NUL; save it as plain UTF-8 text", s->name, *path);
	else if ((wrong = mail_template_parse(t, f->bytes, &line)) != NULL)
		config_fault(
		    &l->file, line_of(l, s), "%s %s: line %u %s", s->name, *path, line, wrong);
}

/* ---- the table of types ---- */

#define BASIC_FORM                                                                                 \
	"a user without colon and a password, both not empty, without control characters and at "  \
	"most {max} bytes together"

/* Flags of a type. */
#define MAY_BE_EMPTY 1    /* parse is asked about an empty value, too */
#define EMPTY_IF_MIN_0 2  /* only where the setting's min is 0 */
#define MAY_BE_REPEATED 4 /* in a section */
#define SECRET 8          /* its value is */

struct setting_type {
	const char *
	    form; /* what a value must look like, as the end of "it must be …", with {min} and {max} */
	enum parsed (*parse)(const struct setting *, void *base, const char *value);
	void (*print)(
	    const struct setting *, const void *field, FILE *); /* NULL: as it was given */
	void (*free)(void *field);                              /* NULL: it owns nothing */
	size_t size; /* of the field, to compare it; 0: it is a char * */
	unsigned flags;
	long long unit;              /* of {max}; 0: none */
	char *(*show)(const char *); /* how to print what was given; NULL: secrets as MASK */
	/* the file that a value names is read at the section's end: */
	size_t file_max; /* in bytes; 0: the value names none */
	void (*read)(struct loading *, const struct setting *, void *base,
	    const struct whole_file *); /* NULL: it only has to be there */
};

/* clang-format off */
static const struct setting_type types[TYPE__MAX] = {
    [TYPE_TEXT] = {"text of {min} to {max} bytes", parse_text, print_text, free_text, .flags = MAY_BE_EMPTY},
    [TYPE_CONNINFO] = {"text of {min} to {max} bytes", parse_text, print_conninfo, free_text, .flags = MAY_BE_EMPTY},
    [TYPE_PATH] = {"an absolute path of at most {max} bytes", parse_path, print_text, free_text, .flags = 0},
    [TYPE_GROUP] = {"the name or number of a group of this machine", parse_group, print_text, free_text, .flags = 0},
    [TYPE_COUNT] = {"a whole number from {min} to {max}", parse_count, print_count, .size = sizeof(int)},
    [TYPE_SIZE] = {"a number of bytes from {min} to {max}m, with k for KiB or m for MiB",
	parse_size, print_size, .size = sizeof(size_t), .unit = 1 << 20},
    [TYPE_DURATION] = {"a time from {min}ms to {max}s, with its unit, ms or s",
	parse_duration, print_duration, .size = sizeof(int), .unit = 1000},
    [TYPE_MODE] = {"an octal mode from 000 to 0777", parse_mode, print_mode, .size = sizeof(mode_t)},
    [TYPE_LEVEL] = {"error, warning, info or debug", parse_level, print_level, .size = sizeof(int)},
    [TYPE_FIELD] = {"optional1, optional2, optional3, transaction_no or payment_reference",
	parse_field, print_field, .size = sizeof(enum transfer_field)},
    [TYPE_SWITCH] = {"yes or no", parse_switch, print_switch, .size = sizeof(bool)},
    [TYPE_MEMBER] = {"names of members with dots between them, of at most {max} bytes",
	parse_member, print_text, free_text, .flags = EMPTY_IF_MIN_0},
    [TYPE_URL] = {"an http or https URL of at most {max} bytes, without user and fragment", parse_url, print_text, free_text, .flags = 0},
    [TYPE_SMTP_URL] = {"smtp:// or smtps:// and a host, with a port or without, and no path",
	parse_smtp_url, print_text, free_text, .flags = 0},
    [TYPE_ADDRESS] = {"an address of mail, of ASCII, without a name and brackets", parse_address, print_text, free_text, .flags = 0},
    [TYPE_FILE] = {"a path of at most {max} bytes", parse_text, print_text, free_text, .file_max = CA_BYTES_MAX},
    [TYPE_PASSWORD_FILE] = {"a path of at most {max} bytes", parse_text, print_text, free_text,
	.file_max = SECRET_BYTES_MAX, .read = read_password},
    [TYPE_AUTH_FILE] = {"a path of at most {max} bytes", parse_text, print_text, free_text,
	.file_max = SECRET_BYTES_MAX, .read = read_auth},
    [TYPE_TEMPLATE] = {"a path of at most {max} bytes", parse_text, print_text, free_text,
	.file_max = SECRET_BYTES_MAX, .read = read_template},
    [TYPE_TOKEN] = {"{min} to {max} characters of A-Z a-z 0-9 _ - for a token",
	parse_token, NULL, free_credentials, .flags = SECRET | MAY_BE_REPEATED},
    [TYPE_SIGNATURE] = {"base64 of 24 to 64 bytes, with or without whsec_ before it",
	parse_signature, NULL, free_credentials, .flags = SECRET | MAY_BE_REPEATED},
    [TYPE_BASIC] = {BASIC_FORM, parse_basic, NULL, free_credentials, .flags = SECRET | MAY_BE_REPEATED},
    [TYPE_USER] = {BASIC_FORM, set_text, NULL, free_text},
    [TYPE_PASSWORD] = {BASIC_FORM, set_text, NULL, free_text, .flags = SECRET},
    [TYPE_KEY] = {"printable ASCII without blanks, at most {max} bytes", parse_key, NULL, free_text, .flags = SECRET},
    [TYPE_EVENT_URL] = {"an http or https URL of at most {max} bytes, without user and fragment",
	parse_event_url, NULL, free_event_urls, .flags = SECRET | MAY_BE_REPEATED, .show = show_site},
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

static unsigned
line_of(const struct loading *l, const struct setting *s)
{
	return l->lines[s - settings];
}

struct merchant *
loading_merchant(struct loading *l)
{
	return &l->config->merchants[l->config->merchant_count - 1];
}

static void *
base_of(struct loading *l)
{
	return l->section == SECTION_MERCHANT ? (void *)loading_merchant(l) : (void *)l->config;
}

unsigned
settings_line(const struct loading *l, const char *name)
{
	return line_of(l, setting_find(name, l->section));
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
settings_begin(struct loading *l, enum section section)
{
	l->section = section;
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
	const struct setting_type *type = &types[s->type];
	const char *form = type->form, *min = strstr(form, "{min}"), *max = strstr(form, "{max}");
	long long most = type->unit > 0 ? s->max / type->unit : s->max;

	if (max == NULL)
		return xstrdup(form);
	if (min == NULL)
		return xasprintf("%.*s%lld%s", (int)(max - form), form, most, max + 5);
	return xasprintf("%.*s%lld%.*s%lld%s", (int)(min - form), form, s->min,
	    (int)(max - min - 5), min + 5, most, max + 5);
}

static void
bad_value(struct loading *l, unsigned line, const struct setting *s)
{
	char *must_be = describe(s);

	config_fault(&l->file, line, "%s has a bad value; it must be %s, for example %s = %s",
	    s->name, must_be, s->name, s->example);
	free(must_be);
}

void
settings_bad_value(struct loading *l, unsigned line, const char *name)
{
	bad_value(l, line, setting_find(name, l->section));
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
	enum parsed parsed = types[s->type].parse(s, base_of(l), value);

	if (parsed == PARSED_FULL)
		settings_too_many(l, l->file.line, s->name);
	return parsed == PARSED_OK;
}

static void
unreadable(struct loading *l, const struct setting *s, const char *path, const char *why)
{
	config_fault(&l->file, line_of(l, s),
	    "%s %s cannot be read: %s; create it, or let the program's user read it, or restart "
	    "the "
	    "service that loads it as a credential",
	    s->name, path, why);
}

/* Every line of a file of secrets that is not empty. */
static void
parse_lines(struct loading *l, const struct setting *s, const char *path)
{
	struct config_file *conf = &l->file;
	struct whole_file f;
	const char *wrong = whole_file_read(&f, path, SECRET_BYTES_MAX);
	char *at = f.bytes, *line;
	unsigned n = 0, secrets = 0;

	if (wrong != NULL) {
		unreadable(l, s, path, wrong);
		return;
	}
	refuse_open_file(l, s, conf->line, path, &f);
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
	const struct setting_type *type = &types[s->type];
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
	const struct setting_type *type;
	struct config_file *f = &l->file;
	bool secret;
	char *path;

	if (s == NULL) {
		unknown_setting(l, name);
		return;
	}
	type = &types[s->type];
	if (line_of(l, s) != 0 && !(type->flags & MAY_BE_REPEATED)) {
		config_fault(f, f->line, "%s is already set in line %u; remove one of them", name,
		    line_of(l, s));
		return;
	}
	l->lines[s - settings] = f->line;
	if (!value_ok(l, s, value))
		return;
	if (s->flags & IN_FILE) {
		path = config_file_path(f->path, value);
		if (l->reader == CONFIG_FOR_WORKER || !(s->flags & OF_WORKER))
			parse_lines(l, s, path);
		remember(loading_merchant(l), s, path);
		return;
	}
	secret = type->flags & SECRET || (s->type == TYPE_CONNINFO && holds_password(value));
	if (secret && f->mode & S_IROTH)
		config_fault(f, f->line,
		    "%s is a secret, and every user of this machine may read it here; chmod o= %s",
		    name, f->path);
	if (!parse(l, s, value))
		bad_value(l, f->line, s);
	if (type->print == NULL && f->error == NULL)
		remember(loading_merchant(l), s,
		    type->show != NULL ? type->show(value) : xstrdup(secret ? MASK : value));
}

void
settings_read_files(struct loading *l)
{
	for (const struct setting *s = settings; s < settings + SETTINGS; s++) {
		const struct setting_type *type = &types[s->type];
		char **path = field_of(s, base_of(l)), *whole;
		struct whole_file f;
		const char *wrong;

		if (s->section != l->section || type->file_max == 0 || *path == NULL)
			continue;
		whole = config_file_path(l->file.path, *path);
		free(*path);
		*path = whole;
		if (l->reader != CONFIG_FOR_WORKER && s->flags & OF_WORKER)
			continue;
		if ((wrong = whole_file_read(&f, whole, type->file_max)) != NULL) {
			unreadable(l, s, whole, wrong);
			continue;
		}
		if (type->read != NULL)
			type->read(l, s, base_of(l), &f);
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

static void
print_given(const struct setting *s, const struct merchant *m, FILE *out)
{
	bool set = false;

	for (size_t i = 0; i < m->given_count; i++)
		if (m->given[i].setting == s) {
			fprintf(out, "%s = %s\n", s->name, m->given[i].text);
			set = true;
		}
	if (!set)
		fprintf(out, "#%s =\n", s->name);
}

void
settings_print(enum section section, const void *base, bool with_help, FILE *out)
{
	for (const struct setting *s = settings; s < settings + SETTINGS; s++) {
		if (s->section != section)
			continue;
		if (with_help)
			print_help(s, out);
		if (types[s->type].print == NULL)
			print_given(s, base, out);
		else
			types[s->type].print(s, (const char *)base + s->offset, out);
	}
}

static bool
equal(const struct setting *s, const char *field, const char *other)
{
	size_t size = types[s->type].size;
	const char *a, *b;

	if (size > 0)
		return memcmp(field, other, size) == 0;
	a = *(char *const *)(const void *)field;
	b = *(char *const *)(const void *)other;
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

void
settings_changed(
    enum section section, const void *old, const void *fresh, void (*report)(const char *setting))
{
	for (const struct setting *s = settings; s < settings + SETTINGS; s++)
		if (s->section == section && s->flags & FROM_START &&
		    !equal(s, (const char *)old + s->in_force, (const char *)fresh + s->in_force))
			report(s->name);
}

void
settings_free(enum section section, void *base)
{
	for (const struct setting *s = settings; s < settings + SETTINGS; s++)
		if (s->section == section && types[s->type].free != NULL)
			types[s->type].free(field_of(s, base));
	if (section == SECTION_MERCHANT) {
		struct merchant *m = base;

		for (size_t i = 0; i < m->given_count; i++)
			free(m->given[i].text);
		free(m->given);
	}
}
