/*
 * ctl_snippet.h - "foloosictl nginx-snippet" and "apache-snippet": what goes into the web server's configuration.
 */
#ifndef CTL_SNIPPET_H
#define CTL_SNIPPET_H

#include "ctl.h"

extern const struct subcommand nginx_snippet_subcommand, apache_snippet_subcommand;

#endif
