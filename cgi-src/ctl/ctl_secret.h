/*
 * ctl_secret.h - "foloosictl secret": make a token or a signing secret.
 */
#ifndef CTL_SECRET_H
#define CTL_SECRET_H

#include "ctl.h"

extern const struct subcommand secret_subcommand;

#endif
