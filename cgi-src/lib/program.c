/* SPDX-License-Identifier: MIT */
/*
 * program.c - what foloosi-webhook and foloosi-worker do alike.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "log.h"
#include "program.h"

void
program_open_files(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

int
program_option(struct program *p, int argc, char **argv)
{
	int option;

	if (p->config == NULL)
		p->config = config_path();
	while ((option = getopt_long(argc, argv, "", p->options, NULL)) != -1)
		switch (option) {
		case 'c':
			p->config = optarg;
			break;
		case 'k':
			p->check = true;
			break;
		case 'h':
			fputs(p->usage, stdout);
			exit(0);
		case 'v':
			printf("%s %s\n", p->name, VERSION);
			exit(0);
		case '?':
			program_usage(p);
		default:
			return option;
		}
	return -1;
}

int
program_number(const struct program *p, const char *option, int min, int max)
{
	char *end;
	long number = strtol(optarg, &end, 10);

	if (*optarg < '0' || *optarg > '9' || *end != '\0' || number < min || number > max) {
		fprintf(stderr, "%s: --%s takes %d to %d\n", p->name, option, min, max);
		exit(2);
	}
	return (int)number;
}

noreturn void
program_usage(const struct program *p)
{
	fputs(p->usage, stderr);
	exit(2);
}

struct config *
program_config(const struct program *p)
{
	char *error = NULL;
	struct config *config = config_load(p->config, p->reader, &error);

	if (config == NULL && p->check) {
		fprintf(stderr, "%s: %s\n", p->name, error);
		free(error);
		exit(1);
	}
	if (config == NULL)
		fatal("%s", error);
	return config;
}

int
program_check(const struct program *p, struct config *config, char *error)
{
	int status = error == NULL ? 0 : 1;

	config_print(config, stdout);
	config_unref(config);
	if (error != NULL)
		fprintf(stderr, "%s: %s\n", p->name, error);
	free(error);
	return fflush(stdout) == 0 ? status : 1;
}

struct config *
program_reload(const struct program *p)
{
	char *error = NULL;
	struct config *fresh = config_load(p->config, p->reader, &error);

	if (fresh == NULL)
		log_event(LOG_ERROR, "reload_failed", "reason", error, "remedy",
		    "the old configuration stays in force", (const char *)NULL);
	free(error);
	return fresh;
}

static void
warn_restart(const char *setting)
{
	log_event(LOG_WARNING, "restart_needed", "setting", setting, "reason",
	    "it was changed in the configuration and is only read at the start",
	    (const char *)NULL);
}

void
program_reloaded(const struct program *p, const struct config *old, const struct config *fresh)
{
	log_set_level((enum log_level)(
	    p->reader == CONFIG_FOR_WORKER ? fresh->worker.log_level : fresh->log_level));
	log_event(LOG_INFO, "reloaded", "merchants", log_number((int64_t)fresh->merchant_count),
	    (const char *)NULL);
	config_changed(old, fresh, p->reader, warn_restart);
}

sigset_t
program_block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return set;
}
