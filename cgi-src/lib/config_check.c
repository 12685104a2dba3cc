/* SPDX-License-Identifier: MIT */
/*
 * config_check.c - what the settings of a configuration mean together.
 *
 * Faults are noted in the order of the checks, and only the first of them counts.
 */
#include <stdlib.h>
#include <string.h>

#include "config_check.h"
#include "mem.h"
#include "url.h"

static void
check_worker(struct loading *l)
{
	const struct config *c = l->config;

	if (c->worker.smtp_url != NULL && !c->worker.smtp_tls &&
	    url_smtp_kind(c->worker.smtp_url) == URL_PLAIN)
		config_fault(&l->file, settings_line(l, "smtp_url"),
		    "smtp_url is another machine, and everybody on the way would read the mails; "
		    "remove smtp_tls = no");
}

/* basic_user and basic_password become one of the credentials. */
static void
join_basic(struct loading *l, struct merchant *m)
{
	unsigned user = settings_line(l, "basic_user");
	unsigned password = settings_line(l, "basic_password");

	if (user != 0 && password == 0)
		config_fault(&l->file, user,
		    "basic_user has no password; add basic_password to [merchant %s]", m->name);
	else if (user == 0 && password != 0)
		config_fault(&l->file, password,
		    "basic_password has no user; add basic_user to [merchant %s]", m->name);
	else if (user != 0 && m->credentials.basic_count == SECRETS_MAX)
		settings_too_many(l, user, "basic_user");
	else if (user != 0 &&
		 !credentials_add_basic(&m->credentials, m->basic_user, m->basic_password))
		settings_bad_value(l, user, "basic_user");
	secret_free(&m->basic_user);
	secret_free(&m->basic_password);
}

static void
check_events(struct loading *l, const struct merchant *m)
{
	if (m->event_url_count > 0 && settings_line(l, "event_secret") == 0 &&
	    settings_line(l, "event_secret_file") == 0)
		config_fault(&l->file, settings_line(l, "event_url"),
		    "merchant %s has an event_url and no secret to sign events with; add "
		    "event_secret_file = FILE with whsec_ and the output of openssl rand -base64 "
		    "32 in FILE",
		    m->name);
}

/* Where the answer holds what order_key is in the webhook, unless provider_order says it. */
static void
find_order(struct loading *l, struct merchant *m)
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
			config_fault(&l->file, settings_line(l, "provider_url"),
			    "merchant %s has a provider_url, and where the answers hold its "
			    "order_key is not known; add provider_order = MEMBER, or leave it "
			    "empty if they do not",
			    m->name);
	}
}

static void
check_provider(struct loading *l, struct merchant *m)
{
	const char *file = settings_given(m, "provider_secret_file");
	bool given = settings_line(l, "provider_secret") != 0;

	m->provider.secret_place = file != NULL ? file : given ? "provider_secret" : NULL;
	if (m->provider.url != NULL && !given && file == NULL)
		config_fault(&l->file, settings_line(l, "provider_url"),
		    "merchant %s has a provider_url and no key for it; add provider_secret_file = "
		    "FILE",
		    m->name);
	if (m->provider.url != NULL &&
	    (*m->provider.path != '/' || strstr(m->provider.path, "{transaction_no}") == NULL))
		config_fault(&l->file, settings_line(l, "provider_path"),
		    "provider_path must begin with / and have {transaction_no} in it");
	find_order(l, m);
}

static void
check_provider_list(struct loading *l, const struct merchant *m)
{
	const char *path = m->provider.list_path;

	if (m->provider.url != NULL &&
	    (*path != '/' || strstr(path, "{from}") == NULL || strstr(path, "{to}") == NULL ||
		strstr(path, "{page}") == NULL))
		config_fault(&l->file, settings_line(l, "provider_list_path"),
		    "provider_list_path must begin with / and have {from}, {to} and {page} in it");
}

static void
check_mails(struct loading *l, const struct merchant *m)
{
	bool mails = false;

	for (int k = 0; k < MAIL_KIND__MAX; k++)
		mails |= m->mail_files[k] != NULL;
	if (m->mail_from == NULL && mails)
		config_fault(&l->file, m->line,
		    "merchant %s has a mail for customers and no sender; add mail_from = ADDRESS",
		    m->name);
	if (m->mail_from != NULL && !mails)
		config_fault(&l->file, settings_line(l, "mail_from"),
		    "merchant %s has a mail_from and no mail; add mail_success = FILE, "
		    "mail_cancel = FILE or mail_refund = FILE",
		    m->name);
}

static void
check_merchant(struct loading *l, struct merchant *m)
{
	join_basic(l, m);
	check_events(l, m);
	check_provider(l, m);
	settings_read_files(l);
	check_mails(l, m);
	check_provider_list(l, m);
	if (m->credentials.token_count == 0)
		config_fault(&l->file, m->line,
		    "merchant %s has no token, and without one anybody could post to it; add "
		    "token_file = FILE with the output of openssl rand -hex 24 in FILE",
		    m->name);
}

void
config_check_section(struct loading *l)
{
	if (l->section == SECTION_MERCHANT) {
		check_merchant(l, l->base);
		return;
	}
	settings_read_files(l);
	if (l->section == SECTION_WORKER)
		check_worker(l);
}

/* http to other machines is read, and changed, by everybody on the way. */
static bool
has_plain_http(const struct merchant *m)
{
	bool plain = m->provider.url != NULL && url_kind(m->provider.url) == URL_PLAIN;

	for (size_t i = 0; i < m->event_url_count; i++)
		plain |= url_kind(m->event_urls[i]) == URL_PLAIN;
	return plain;
}

void
config_check_whole(struct loading *l)
{
	struct config *c = l->config;

	for (size_t i = 0; i < c->merchant_count && !c->worker.plain_http; i++)
		if (has_plain_http(&c->merchants[i]))
			config_fault(&l->file, c->merchants[i].line,
			    "merchant %s has a URL that is http to another machine; use https, or "
			    "allow it by plain_http = yes in [foloosi-worker]",
			    c->merchants[i].name);
	for (size_t i = 0; i < c->merchant_count && c->worker.smtp_url == NULL; i++)
		if (c->merchants[i].mail_from != NULL)
			config_fault(&l->file, c->merchants[i].line,
			    "merchant %s has a mail_from, and nobody takes mails; add smtp_url = "
			    "URL to [foloosi-worker]",
			    c->merchants[i].name);
	if (c->merchant_count == 0)
		config_fault(&l->file, l->file.line > 0 ? l->file.line : 1,
		    "there is no merchant in this file; add a section [merchant NAME] with a "
		    "token_file");
	if (c->database == NULL)
		c->database = xstrdup(c->database_setting);
	if (c->worker.database == NULL)
		c->worker.database = xstrdup(c->worker.database_setting);
}
