/*
 * ctl_top.h - "foloosictl top": a live view.
 */
#ifndef CTL_TOP_H
#define CTL_TOP_H

#include "ctl.h"

extern const struct subcommand top_subcommand;

#endif
