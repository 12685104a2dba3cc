/* SPDX-License-Identifier: MIT */
/*
 * top.c - "foloosictl top": deliveries, open cases and consumers, once a second.
 *
 * Plain ANSI, no library. The whole screen is made in memory and written at once over the old one, so that
 * nothing flickers. However the view ends (q, ctrl-c, a signal, a failure), the terminal is restored.
 */
#include <sys/ioctl.h>

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "ctl.h"
#include "mem.h"

#define PERIOD_MS 1000
#define ROWS_LEAST 10

/* The alternate screen, no cursor, no wrapping; and all of that undone. */
#define ENTER "\033[?1049h\033[?25l\033[?7l"
#define LEAVE "\033[?7h\033[?25h\033[?1049l"

static volatile sig_atomic_t ended;

static void
on_signal(int number)
{
	if (number != SIGWINCH) /* that one only ends the poll */
		ended = 1;
}

static void
listen_to_signals(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
	/* A write goes on after a signal; poll() ends all the same (signal(7)). */
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		sigaction(numbers[i], &action, NULL);
	action.sa_handler = SIG_IGN; /* a stopped view would leave the terminal in its own modes */
	sigaction(SIGTSTP, &action, NULL);
}

static int
screen_rows(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row < ROWS_LEAST)
		return ROWS_LEAST;
	return size.ws_row;
}

/* One part of the screen. Returns how many rows of the screen are left. */
static int
print_glance(
    FILE *out, const struct table_style *style, struct pg *s, enum ctl_glance which, int left)
{
	struct table t = {0};
	const char *title;

	if (left < 4) /* a blank line, the title, the names, a row */
		return left;
	title = ctl_glance(which, s, left - 3, &t);
	if (title == NULL) {
		fputs("\n", out);
		table_text(out, style, pg_error(s));
		fputs("\n", out);
		left -= 2;
	} else {
		fprintf(out, "\n%s%s%s\n", style->colour ? TABLE_BOLD : "", title,
		    style->colour ? TABLE_PLAIN : "");
		left -= 2;
		if (t.rows > 0) {
			table_print(out, style, &t);
			left -= (int)t.rows + 1;
		} else {
			fputs(which == GLANCE_RATES ? "none in the last hour\n" : "none\n", out);
			left--;
		}
	}
	table_free(&t);
	return left;
}

/* The screen as it is now, owned. */
static char *
make_screen(struct pg *s)
{
	struct table_style style = table_style(stdout);
	int left =
	    screen_rows() - 2; /* the first line, and the last, on which a newline would scroll */
	time_t now = clock_wall_s();
	char clock[32], *text;
	struct tm tm;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		abort();
	style.one_line = true;
	strftime(clock, sizeof clock, "%FT%TZ", gmtime_r(&now, &tm));
	fprintf(out, "foloosi-webhook  %s  q ends\n", clock);
	if (!pg_ready(s)) {
		fputs("\nThe database is away: ", out);
		table_text(out, &style, pg_error(s));
		putc('\n', out);
	} else {
		for (int which = 0; which < GLANCE__MAX; which++)
			left = print_glance(out, &style, s, (enum ctl_glance)which, left);
	}
	if (fclose(out) != 0)
		abort();
	return text;
}

/*
 * Over the old screen: each line is cleared before it is printed, the last one clears what is below. Cleared after,
 * a line as wide as the screen would lose its last character: the cursor still stands on it.
 */
static void
print_screen(const char *text)
{
	fputs("\033[H\033[K", stdout);
	for (; *text != '\0'; text++)
		if (*text == '\n')
			fputs("\r\n\033[K", stdout);
		else
			putchar(*text);
	fputs("\033[J", stdout);
	fflush(stdout);
}

/* Wait until the next second, or a signal. False: a key ends the view, or the terminal is gone. */
static bool
wait_period(void)
{
	struct pollfd keyboard = {.fd = STDIN_FILENO, .events = POLLIN};
	char key;

	if (poll(&keyboard, 1, PERIOD_MS) <= 0)
		return true;
	return read(STDIN_FILENO, &key, 1) == 1 && key != 'q' && key != 'Q' && key != '\004' &&
	       key != '\033';
}

static int
run_top(const struct ctl_call *call)
{
	struct termios before, raw;
	struct pg *s;

	if (call->argc > 0)
		return ctl_usage(call->self);
	if (!isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before) != 0) {
		warnx("needs a terminal; \"foloosictl stats\" does not");
		return CTL_FAILED;
	}
	if ((s = ctl_connect(call)) == NULL)
		return CTL_FAILED;
	listen_to_signals();
	raw = before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	fputs(ENTER, stdout);
	do {
		char *text = make_screen(s);

		print_screen(text);
		free(text);
	} while (!ended && wait_period() && !ended);
	fputs(LEAVE, stdout);
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSANOW, &before);
	pg_free(s);
	return CTL_OK;
}

const struct subcommand top_subcommand = {
    .name = "top",
    .arguments = "",
    .summary = "watch what comes in, each second; q ends",
    .options = CTL_OPTIONS(CTL_DATABASE),
    .run = run_top,
};
