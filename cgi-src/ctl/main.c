/* SPDX-License-Identifier: MIT */
/*
 * main.c - foloosictl, the operator's tool: the table of subcommands and how one is found.
 */
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "mem.h"

#ifndef VERSION
#define VERSION "unversioned"
#endif

static int print_overview_or_help(const struct ctl_call *);
static int print_completion(const struct ctl_call *);
static int print_version(const struct ctl_call *);

static const struct subcommand help_subcommand = {
    .name = "help",
    .arguments = "[COMMAND]",
    .summary = "list the commands, or print what one command takes",
    .run = print_overview_or_help,
};

static const struct subcommand completion_subcommand = {
    .name = "completion",
    .arguments = "bash",
    .summary = "print the completion of these commands for a shell",
    .run = print_completion,
};

static const struct subcommand version_subcommand = {
    .name = "version",
    .arguments = "",
    .summary = "print the version",
    .run = print_version,
};

/* In the order of "foloosictl help". */
static const struct subcommand *const subcommands[] = {
    &migrate_subcommand,
    &check_subcommand,
    &attention_subcommand,
    &orders_subcommand,
    &order_subcommand,
    &transactions_subcommand,
    &deliveries_subcommand,
    &paybacks_subcommand,
    &stats_subcommand,
    &top_subcommand,
    &resolve_subcommand,
    &assign_subcommand,
    &unassign_subcommand,
    &refund_subcommand,
    &explain_subcommand,
    &replay_subcommand,
    &merchant_subcommand,
    &send_subcommand,
    &cancel_subcommand,
    &retain_subcommand,
    &erase_subcommand,
    &spool_subcommand,
    &events_subcommand,
    &secret_subcommand,
    &nginx_snippet_subcommand,
    &apache_snippet_subcommand,
    &completion_subcommand,
    &help_subcommand,
    &version_subcommand,
};
#define SUBCOMMANDS (sizeof(subcommands) / sizeof(subcommands[0]))

static const struct subcommand *
find_subcommand(const char *name)
{
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		if (strcmp(subcommands[i]->name, name) == 0)
			return subcommands[i];
	return NULL;
}

static void
print_overview(FILE *out)
{
	fputs("usage: foloosictl [OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]\n\n", out);
	for (size_t i = 0; i < SUBCOMMANDS; i++) {
		fprintf(out, "  %-15s ", subcommands[i]->name);
		ctl_print_words(out, subcommands[i]->summary, 18, 18);
		putc('\n', out);
	}
	fputs(
	    "\nfoloosictl help COMMAND prints a command's options; foloosictl(1) describes all.\n",
	    out);
}

static int
print_overview_or_help(const struct ctl_call *call)
{
	const struct subcommand *s;

	if (call->argc > 1)
		return ctl_usage(&help_subcommand);
	if (call->argc == 0) {
		print_overview(stdout);
		return CTL_OK;
	}
	if ((s = find_subcommand(call->argv[0])) == NULL) {
		warnx("there is no command \"%s\"", call->argv[0]);
		return CTL_USAGE;
	}
	ctl_print_help(s);
	return CTL_OK;
}

/* Print the words between " |[]()=," in a text that are not in capitals. */
static void
print_lower_words(const char *text)
{
	static const char stop[] = " |[]()=,\n";

	while (*(text += strspn(text, stop)) != '\0') {
		size_t n = strcspn(text, stop);

		if (strspn(text, "-abcdefghijklmnopqrstuvwxyz") == n)
			printf(" %.*s", (int)n, text);
		text += n;
	}
}

/* A subcommand's words are its options, their words, and those of its arguments that are to be typed as they stand. */
static int
print_completion(const struct ctl_call *call)
{
	if (call->argc != 1 || strcmp(call->argv[0], "bash") != 0)
		return ctl_usage(&completion_subcommand);
	fputs("# bash completion of foloosictl; made by: foloosictl completion bash\n"
	      "_foloosictl() {\n"
	      "    local words=\n"
	      "    COMPREPLY=()\n"
	      "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
	      "        words='",
	    stdout);
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		printf("%s%s", i > 0 ? " " : "", subcommands[i]->name);
	fputs("'\n    else\n        case ${COMP_WORDS[1]} in\n        help) words='", stdout);
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		printf("%s%s", i > 0 ? " " : "", subcommands[i]->name);
	fputs("' ;;\n", stdout);
	for (size_t i = 0; i < SUBCOMMANDS; i++) {
		const struct ctl_option *o = subcommands[i]->options;

		printf("        %s) words='", subcommands[i]->name);
		print_lower_words(subcommands[i]->arguments);
		for (; o != NULL && o->name != NULL; o++)
			printf(" --%s", o->name);
		puts("' ;;");
	}
	puts("        esac\n        case \"${COMP_WORDS[1]} ${COMP_WORDS[COMP_CWORD - 1]}\" in");
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		for (const struct ctl_option *o = subcommands[i]->options;
		    o != NULL && o->name != NULL; o++)
			if (o->words != NULL)
				printf("        '%s --%s') words='%s' ;;\n", subcommands[i]->name,
				    o->name, o->words);
	puts("        esac\n"
	     "    fi\n"
	     "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\" "
	     "| sort -u)\n"
	     "}\n"
	     "complete -o default -F _foloosictl foloosictl");
	return CTL_OK;
}

static int
print_version(const struct ctl_call *call)
{
	if (call->argc > 0)
		return ctl_usage(&version_subcommand);
	puts("foloosictl " VERSION);
	return CTL_OK;
}

/* --help or -h anywhere before "--". */
static bool
asks_for_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return true;
	return false;
}

/* Is this an option of some subcommand, whose argument is the next word? */
static bool
takes_next_word(const char *word)
{
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		for (const struct ctl_option *o = subcommands[i]->options;
		    o != NULL && o->name != NULL; o++)
			if (o->argument != NULL && word[0] == '-' &&
			    ((word[1] == '-' && strcmp(word + 2, o->name) == 0) ||
				(o->letter != 0 && word[1] == o->letter && word[2] == '\0')))
				return true;
	return false;
}

int
main(int argc, char **argv)
{
	struct ctl_call call = {0};
	const char *name;
	char *prefix;
	int at = 1, code;

	/* Options before the subcommand are read as if they stood behind it. */
	while (at < argc && argv[at][0] == '-' && strcmp(argv[at], "--help") != 0 &&
	       strcmp(argv[at], "-h") != 0 && strcmp(argv[at], "--version") != 0 &&
	       strcmp(argv[at], "-V") != 0)
		at += takes_next_word(argv[at]) ? 2 : 1;
	if (at >= argc) {
		print_overview(stderr);
		return CTL_USAGE;
	}
	name = argv[at];
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		name = "help";
	else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
		name = "version";

	if ((call.self = find_subcommand(name)) == NULL) {
		warnx("there is no command \"%s\"; try: foloosictl help", name);
		return CTL_USAGE;
	}
	if (call.self->options != NULL)
		memmove(argv + 2, argv + 1, (size_t)(at - 1) * sizeof *argv);
	at = call.self->options != NULL ? 1 : at; /* help and version have no use for them */
	argc -= at;
	argv += at;
	if (asks_for_help(argc, argv)) {
		ctl_print_help(call.self);
		code = CTL_OK;
	} else {
		/* getopt_long() begins its messages with argv[0]. */
		argv[0] = prefix = xasprintf("foloosictl %s", call.self->name);
		code = ctl_read_options(&call, argc, argv) ? call.self->run(&call) : CTL_USAGE;
		free(call.given);
		free(prefix);
	}

	/* A full disk under "> file" must not look like success. */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		warn("standard output");
		return CTL_FAILED;
	}
	return code;
}
