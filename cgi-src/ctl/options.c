/* SPDX-License-Identifier: MIT */
/*
 * options.c - the options of foloosictl's subcommands: read by getopt_long(), printed as usage and help.
 */
#include <assert.h>
#include <err.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "mem.h"

#define LINE 80        /* columns of usage and help */
#define HELP_COLUMN 29 /* where an option's help begins */

const char *
ctl_value(const struct ctl_call *call, const char *name)
{
	const char *value = NULL;
	bool known = false;

	for (const struct ctl_option *o = call->self->options; o != NULL && o->name != NULL; o++)
		known |= strcmp(o->name, name) == 0;
	assert(known);
	for (size_t i = 0; i < call->given_count; i++)
		if (strcmp(call->given[i].option->name, name) == 0)
			value = call->given[i].value;
	return value;
}

bool
ctl_has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *w = words; *w != '\0'; w += strspn(w, " ")) {
		size_t len = strcspn(w, " ");

		if (len == n && memcmp(w, word, n) == 0)
			return true;
		w += len;
	}
	return false;
}

bool
ctl_is_number(const char *text)
{
	size_t n = strlen(text);

	return n > 0 && n <= 18 && strspn(text, "0123456789") == n;
}

/* "a, b or c", owned. */
static char *
enumerate(const char *words)
{
	char *list = xstrdup("");

	for (const char *w = words; *w != '\0';) {
		size_t n = strcspn(w, " ");
		bool last = w[n] == '\0';
		char *longer = xasprintf("%s%s%.*s", list,
		    *list == '\0' ? ""
		    : last        ? " or "
				  : ", ",
		    (int)n, w);

		free(list);
		list = longer;
		w += n + !last;
	}
	return list;
}

bool
ctl_read_options(struct ctl_call *call, int argc, char **argv)
{
	const struct ctl_option *options = call->self->options;
	struct option longs[32] = {{NULL, 0, NULL, 0}};
	char letters[2 * 32 + 1] = "", *words;
	size_t n = 0;
	int c;

	for (; options != NULL && options[n].name != NULL; n++) {
		assert(n + 1 < sizeof longs / sizeof *longs);
		longs[n] = (struct option){options[n].name,
		    options[n].argument != NULL ? required_argument : no_argument, NULL,
		    256 + (int)n};
		if (options[n].letter != 0)
			snprintf(letters + strlen(letters), 3, "%c%s", options[n].letter,
			    options[n].argument != NULL ? ":" : "");
	}
	call->given = xcalloc((size_t)argc, sizeof *call->given);
	optind = 1;
	while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
		const struct ctl_option *o = options;

		if (c >= 256)
			o += c - 256;
		else
			while (o != NULL && o->name != NULL && o->letter != c)
				o++;
		if (o == NULL || o->name == NULL) {
			ctl_usage(call->self);
			return false;
		}
		if (o->words != NULL && !ctl_has_word(o->words, optarg)) {
			words = enumerate(o->words);
			warnx("--%s is %s, not \"%s\"", o->name, words, optarg);
			free(words);
			return false;
		}
		call->given[call->given_count++] =
		    (struct ctl_given){o, o->argument != NULL ? optarg : ""};
	}
	call->argc = argc - optind;
	call->argv = argv + optind;
	return true;
}

/* ---- usage and help ---- */

/* Print a text that is not broken, after a blank or on a new line. Returns the column at its end. */
static int
print_unbroken(FILE *out, const char *text, int len, int column, int indent)
{
	if (column + 1 + len <= LINE || column <= indent)
		return column + fprintf(out, "%s%.*s", column > indent ? " " : "", len, text);
	return fprintf(out, "\n%*s%.*s", indent, "", len, text) - 1;
}

void
ctl_print_words(FILE *out, const char *words, int column, int indent)
{
	while (*(words += strspn(words, " ")) != '\0') {
		int n = (int)strcspn(words, " ");

		column = print_unbroken(out, words, n, column, indent);
		words += n;
	}
}

static void
print_usage(FILE *out, const struct subcommand *s)
{
	int column = fprintf(out, "usage: foloosictl %s", s->name), indent = 11;

	for (const struct ctl_option *o = s->options; o != NULL && o->name != NULL; o++) {
		char *text = xasprintf("[--%s%s%s]", o->name, o->argument != NULL ? " " : "",
		    o->argument != NULL ? o->argument : "");

		column = print_unbroken(out, text, (int)strlen(text), column, indent);
		free(text);
	}
	ctl_print_words(out, s->arguments, column, indent);
	putc('\n', out);
}

int
ctl_usage(const struct subcommand *s)
{
	print_usage(stderr, s);
	return CTL_USAGE;
}

void
ctl_print_help(const struct subcommand *s)
{
	print_usage(stdout, s);
	printf("\n%s\n", s->summary);
	if (s->options != NULL || s->help != NULL)
		putchar('\n');
	for (const struct ctl_option *o = s->options; o != NULL && o->name != NULL; o++) {
		char letter[] = {'-', o->letter, ',', '\0'};
		char *words = o->words != NULL ? enumerate(o->words) : xstrdup("");
		char *text = xasprintf("%s %s", words, o->help != NULL ? o->help : "");
		int column = printf("  %-3s --%s %s", o->letter != 0 ? letter : "", o->name,
		    o->argument != NULL ? o->argument : "");

		if (column > HELP_COLUMN - 1)
			column = printf("\n") - 1;
		printf("%*s", HELP_COLUMN - column, "");
		ctl_print_words(stdout, text, HELP_COLUMN, HELP_COLUMN);
		putchar('\n');
		free(words);
		free(text);
	}
	if (s->help != NULL)
		fputs(s->help, stdout);
}
