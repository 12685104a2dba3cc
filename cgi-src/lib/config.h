/* SPDX-License-Identifier: MIT */
/*
 * config.h - the configuration: what each program is told, with one section per merchant. Its settings
 * are rows of the table in settings.c; a new one is a row there and a field here.
 *
 * A configuration is immutable once loaded and is replaced whole. Threads pin
 * the one in force with config_ref() for the length of a request.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "auth.h"
#include "transfer.h"

#define CONFIG_DEFAULT_PATH "/etc/foloosi-webhook/foloosi-webhook.conf"
#define CONFIG_PATH_ENV "FOLOOSI_WEBHOOK_CONFIG" /* for plain CGI, which has no arguments */

struct given;          /* settings.c's own */
struct mail_template;  /* mail.h */
struct stats_merchant; /* stats.c's own */

#define EVENT_URLS_MAX 8

/* The provider's API, which foloosi-worker asks about transactions, and how its answers read. */
struct provider {
	char *url;    /* base, without path; NULL: it is not asked */
	char *path;   /* {transaction_no} stands for the number */
	char *secret; /* sent as the header secret_key */
	char *status, *amount, *currency,
	    *order;     /* members of the answer, as data.status; order "": it has none */
	char *refunded; /* the same for how much went back; NULL: it does not say */
	int per_minute; /* questions at most */

	/* its list of transactions, for foloosi-worker reconcile */
	char *list_path; /* {from} {to} {page} {limit} stand for them */
	char *list_rows; /* member of the answer that holds the rows; of a row: */
	char *list_number, *list_status, *list_amount, *list_currency;

	const char *secret_place; /* where secret stands: its file, or the setting's name */
};

/* What a customer is told by mail. */
enum mail_kind {
	MAIL_SUCCESS,
	MAIL_CANCEL,
	MAIL_REFUND,
	MAIL_KIND__MAX
};

struct merchant {
	char *name;
	struct credentials credentials;
	enum transfer_field order_key; /* which field names the order */
	char *order_prefix;            /* taken off its front; NULL: none */

	/* foloosi-worker's; what comes from files is CONFIG_FOR_WORKER's only */
	char *event_urls[EVENT_URLS_MAX]; /* where events are posted to */
	size_t event_url_count;
	struct credentials
	    event_credentials; /* its signature keys sign them; at least one, if there is a URL */
	struct provider provider;
	char *mail_from, *mail_name;                 /* mail_from NULL: no mail */
	char *mail_files[MAIL_KIND__MAX];            /* where the templates were read from */
	struct mail_template *mails[MAIL_KIND__MAX]; /* NULL: none is sent */

	struct stats_merchant *stats; /* its counters; NULL: stats_adopt() was not called */

	/* for config.c and the files below it: where it stands, and its secrets as config_print() shows them */
	unsigned line;
	struct given *given;
	size_t given_count;
	char *basic_user, *basic_password; /* NULL once they are among the credentials */
};

struct config {
	/* [foloosi-webhook] */
	char *database; /* libpq connection string, "" for libpq's environment; a secret */
	char *database_setting, *password_file; /* what it was made of; the latter may be NULL */
	char *listen;                           /* socket path, NULL: inherited only */
	mode_t socket_mode;
	char *socket_group; /* NULL: leave it */
	int threads;        /* accept threads */
	size_t body_limit;  /* bytes */
	int deadline_ms;    /* from the arrival at the handler to the answer */
	int log_level;      /* enum log_level */
	char *spool_dir;    /* NULL: no spool */
	size_t spool_max_bytes;
	int spool_max_files;
	int spool_rate; /* deliveries a second that are drained */
	char *monitor;  /* libpq connection string, for foloosi.monitor(); NULL: it is not asked */

	/* [foloosi-worker] */
	struct {
		char *database, *database_setting, *password_file;
		int log_level;
		int poll_ms;
		int event_timeout_ms;
		int event_attempts;
		int event_concurrency; /* posts under way to one URL */
		bool plain_http;       /* http to other machines is allowed */
		char *
		    smtp_url; /* the server that takes mails; not NULL, if a merchant has mail_from */
		bool smtp_tls;                   /* smtp: STARTTLS; no only for this machine */
		char *smtp_user, *smtp_password; /* NULL: none */
		char *smtp_auth_file;            /* where they were read from */
		char *smtp_ca_file;              /* NULL: the system's */
		int smtp_timeout_ms;
		int reconcile_every_ms; /* 0: only the command does */
		int reconcile_days;     /* that are read if none are named */
		int reconcile_patience_ms;
	} worker;

	/* [merchant NAME] … */
	struct merchant *merchants; /* sorted by name */
	size_t merchant_count;

	_Atomic unsigned refs; /* config.c's own */
};

/* Whose files are read: those that only foloosi-worker needs may not keep the handler from payments. */
enum config_reader {
	CONFIG_FOR_HANDLER, /* the settings that name files for foloosi-worker are kept as paths */
	CONFIG_FOR_WORKER   /* all of them */
};

/* The file that is read unless an option names another. Static, or the environment's. */
const char *config_path(void);

/*
 * Read a configuration file.
 *   path   the file
 *   reader whose files are read, too
 *   error  receives a malloc'ed sentence with file, line and remedy if the answer is NULL;
 *          the caller frees it
 * Returns an owned configuration with one reference, or NULL. Secrets in files
 * (token_file = …) and templates are read now. No merchant without a token: fail closed.
 * One thread at a time: inih's switches are globals.
 */
struct config *config_load(const char *path, enum config_reader, char **error);

/*
 * One more reference; returns its argument. The caller must hold one already, or the
 * lock under which the configuration in force is replaced.
 */
struct config *config_ref(struct config *);
void config_unref(
    struct config *); /* frees with the last reference; wipes secrets; NULL is ignored */

/* The merchant with this name (not NUL-terminated), or NULL. */
const struct merchant *config_merchant(const struct config *, const char *name, size_t len);

/*
 * The order's number in a text that was trimmed, less the prefix, which may be NULL; by
 * transfer_clean_key(). NULL: nothing is left, or there was nothing. Points into text.
 */
static inline const char *
order_without_prefix(const char *text, const char *prefix)
{
	size_t len = prefix == NULL ? 0 : strlen(prefix);

	if (text != NULL && len > 0 && strncmp(text, prefix, len) == 0)
		text += len;
	return transfer_clean_key(text);
}

/*
 * The order's number of a transfer that was decoded by the merchant's order_key, less order_prefix; NULL:
 * there is none. Points into the transfer.
 */
const char *merchant_order_ref(const struct merchant *, const struct transfer *);

/*
 * The order's key of such a transfer if order_prefix is set and the key lacks it: then it is none, unless
 * the database knows it for a subscription's. NULL: there is none, or it has the prefix.
 */
const char *merchant_unprefixed(const struct merchant *, const struct transfer *);

/* Print every effective setting, secrets masked, as a file that could be read again. */
void config_print(const struct config *, FILE *);

/* Call report with the name of each setting of the reader's program that was changed and is only read at its start. */
void config_changed(const struct config *old, const struct config *fresh, enum config_reader,
    void (*report)(const char *setting));

#endif
