/*
 * ctl.c - foloosictl, the operator's tool: a table of subcommands and how one is found.
 *
 * Nothing here knows what a subcommand does. Each lives in its own file.
 */
#include <err.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "mem.h"
#include "query.h"

#ifndef VERSION
#define VERSION "unversioned"
#endif

static int help(int argc, char **argv);
static int completion(int argc, char **argv);
static int version(int argc, char **argv);

static const struct subcommand help_subcommand = {
    .name = "help",
    .synopsis = "[COMMAND]",
    .summary = "say what there is, or what one command takes",
    .options = "",
    .run = help,
};

static const struct subcommand completion_subcommand = {
    .name = "completion",
    .synopsis = "bash",
    .summary = "print what makes a shell complete these commands",
    .options = "",
    .run = completion,
};

static const struct subcommand version_subcommand = {
    .name = "version",
    .synopsis = "",
    .summary = "print the version",
    .options = "",
    .run = version,
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
    &explain_subcommand,
    &replay_subcommand,
    &merchant_subcommand,
    &send_subcommand,
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
find(const char *name)
{
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		if (strcmp(subcommands[i]->name, name) == 0)
			return subcommands[i];
	return NULL;
}

/* "NAME SYNOPSIS", without a space at the end. */
static void
print_synopsis(FILE *out, const struct subcommand *s)
{
	fprintf(
	    out, "foloosictl %s%s%s\n", s->name, s->synopsis[0] != '\0' ? " " : "", s->synopsis);
}

int
ctl_usage(const struct subcommand *s)
{
	fputs("usage: ", stderr);
	print_synopsis(stderr, s);
	return CTL_USAGE;
}

static void
print_overview(FILE *out)
{
	fputs("usage: foloosictl COMMAND [ARGUMENTS]\n\n", out);
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		fprintf(out, "  %-15s %s\n", subcommands[i]->name, subcommands[i]->summary);
	fputs("\nfoloosictl help COMMAND says what it takes; foloosictl(1) has the whole story.\n",
	    out);
}

static void
print_help(const struct subcommand *s)
{
	fputs("usage: ", stdout);
	print_synopsis(stdout, s);
	printf("\n%s\n", s->summary);
	if (s->options[0] != '\0')
		printf("\n%s", s->options);
}

static int
help(int argc, char **argv)
{
	const struct subcommand *s;

	if (argc > 2)
		return ctl_usage(&help_subcommand);
	if (argc == 1) {
		print_overview(stdout);
		return CTL_OK;
	}
	if ((s = find(argv[1])) == NULL) {
		warnx("there is no command \"%s\"", argv[1]);
		return CTL_USAGE;
	}
	print_help(s);
	return CTL_OK;
}

/* Print the words of a text that begin a line of it, or stand between " |[]()" in it, and are not in capitals. */
static void
print_words(const char *text)
{
	static const char stop[] = " |[]()=,\n";

	while (*(text += strspn(text, stop)) != '\0') {
		size_t n = strcspn(text, stop);

		if (strspn(text, "-abcdefghijklmnopqrstuvwxyz") == n && (n > 2 || text[0] != '-'))
			printf(" %.*s", (int)n, text);
		text += n;
	}
}

/*
 * The words of each subcommand are those of its synopsis, and the options that its help lists: whoever
 * adds a subcommand adds its completion.
 */
static void
print_options(const char *options)
{
	for (const char *p = options; (p = strstr(p, "--")) != NULL; p += 2) {
		size_t n = strspn(p, "-abcdefghijklmnopqrstuvwxyz");

		if (p[-1] == ' ' && n > 2 && memchr(" \n", p[n], 2) != NULL)
			printf(" %.*s", (int)n, p);
	}
}

static int
completion(int argc, char **argv)
{
	if (argc != 2 || strcmp(argv[1], "bash") != 0)
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
		printf("        %s) words='", subcommands[i]->name);
		print_words(subcommands[i]->synopsis);
		print_options(subcommands[i]->options);
		puts("' ;;");
	}
	puts("        esac\n"
	     "    fi\n"
	     "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\" "
	     "| sort -u)\n"
	     "}\n"
	     "complete -o default -F _foloosictl foloosictl");
	return CTL_OK;
}

static int
version(int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
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

int
main(int argc, char **argv)
{
	const struct subcommand *s;
	const char *name;
	char *prefix;
	int code;

	if (argc < 2) {
		print_overview(stderr);
		return CTL_USAGE;
	}
	name = argv[1];
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		name = "help";
	else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
		name = "version";

	if ((s = find(name)) == NULL) {
		warnx("there is no command \"%s\"; try: foloosictl help", name);
		return CTL_USAGE;
	}
	argc--;
	argv++;
	if (asks_for_help(argc, argv)) {
		print_help(s);
		code = CTL_OK;
	} else {
		/* getopt_long() begins its complaints with argv[0]. */
		argv[0] = prefix = xasprintf("foloosictl %s", s->name);
		optind = 1;
		code = s->run != NULL ? s->run(argc, argv) : s->run_as(s, argc, argv);
		free(prefix);
	}

	/* A full disk under "> file" must not look like success. */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		warn("standard output");
		return CTL_FAILED;
	}
	return code;
}
