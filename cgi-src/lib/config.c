/* SPDX-License-Identifier: MIT */
/*
 * config.c - the configuration file, read once into an immutable struct.
 *
 *     config.c ─┬─ config_file.c    whole files, lines and sections      (inih)
 *               ├─ settings.c       the tables of settings and of their types
 *               └─ config_check.c   what settings mean together
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "config_check.h"
#include "config_file.h"
#include "mail.h"
#include "mem.h"
#include "settings.h"

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
on_section(void *arg, enum section section, const char *name)
{
	struct loading *l = arg;
	struct config *c = l->config;
	struct merchant *m;

	settings_begin(l, section, c);
	for (size_t i = 0; section == SECTION_MERCHANT && i < c->merchant_count; i++)
		if (strcmp(c->merchants[i].name, name) == 0)
			config_fault(&l->file, l->file.line,
			    "[merchant %s] is here for the second time; put its settings to those "
			    "in line %u",
			    name, c->merchants[i].line);
	if (section != SECTION_MERCHANT || l->file.error != NULL)
		return;
	m = grow_merchants(c);
	m->name = xstrdup(name);
	m->line = l->file.line;
	settings_defaults(SECTION_MERCHANT, m);
	l->base = m;
}

static void
on_setting(void *arg, const char *name, const char *value)
{
	settings_set(arg, name, value);
}

static void
on_section_end(void *arg, enum section section)
{
	(void)section;
	config_check_section(arg);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct merchant *)a)->name, ((const struct merchant *)b)->name);
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
	static const struct config_events events = {
	    .section = on_section, .setting = on_setting, .section_end = on_section_end};
	struct config *c = xcalloc(1, sizeof *c);
	struct loading l = {.file = {.path = path}, .config = c, .reader = reader};

	atomic_init(&c->refs, 1);
	settings_defaults(SECTION_HANDLER, c);
	settings_defaults(SECTION_WORKER, c);
	config_file_read(&l.file, &events, &l);
	if (l.file.error == NULL)
		config_check_whole(&l);
	free(l.lines);
	if (l.file.error != NULL) {
		config_unref(c);
		*error = l.file.error;
		return NULL;
	}
	qsort(c->merchants, c->merchant_count, sizeof *c->merchants, by_name);
	return c;
}

struct config *
config_ref(struct config *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void
config_unref(struct config *c)
{
	/* Release: our reads come before the free; acquire: the free comes after those of all others. */
	if (c == NULL || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (struct merchant *m = c->merchants; m < c->merchants + c->merchant_count; m++) {
		settings_free(SECTION_MERCHANT, m);
		for (int k = 0; k < MAIL_KIND__MAX; k++)
			if (m->mails[k] != NULL) {
				mail_template_free(m->mails[k]);
				free(m->mails[k]);
			}
		free(m->name);
	}
	settings_free(SECTION_HANDLER, c);
	settings_free(SECTION_WORKER, c);
	/* What was made of settings and files. */
	secret_free(&c->database);
	secret_free(&c->worker.database);
	secret_free(&c->worker.smtp_user);
	secret_free(&c->worker.smtp_password);
	free(c->merchants);
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

const struct merchant *
config_merchant(const struct config *c, const char *name, size_t len)
{
	struct name key = {.bytes = name, .len = len};

	return bsearch(
	    &key, c->merchants, c->merchant_count, sizeof *c->merchants, name_to_merchant);
}

const char *
merchant_order_ref(const struct merchant *m, const struct transfer *t)
{
	if (merchant_unprefixed(m, t) != NULL)
		return NULL;
	return order_without_prefix(t->order_key, m->order_prefix);
}

const char *
merchant_unprefixed(const struct merchant *m, const struct transfer *t)
{
	if (t->order_key == NULL || m->order_prefix == NULL ||
	    strncmp(t->order_key, m->order_prefix, strlen(m->order_prefix)) == 0)
		return NULL;
	return t->order_key;
}

void
config_print(const struct config *c, FILE *out)
{
	fputs("[foloosi-webhook]\n", out);
	settings_print(SECTION_HANDLER, c, true, out);
	fputs("\n[foloosi-worker]\n", out);
	settings_print(SECTION_WORKER, c, true, out);
	for (size_t i = 0; i < c->merchant_count; i++) {
		fprintf(out, "\n[merchant %s]\n", c->merchants[i].name);
		settings_print(SECTION_MERCHANT, &c->merchants[i], i == 0, out);
	}
}

void
config_changed(const struct config *old, const struct config *fresh, enum config_reader reader,
    void (*report)(const char *setting))
{
	settings_changed(
	    reader == CONFIG_FOR_WORKER ? SECTION_WORKER : SECTION_HANDLER, old, fresh, report);
}
