# SPDX-License-Identifier: MIT
# Throughput and p99 against connections. bench.py gives data, out, names and one.
set terminal svg size 860,350 font "sans-serif,12" background "white"
set output out
set multiplot
set logscale x 2
set xtics (32, 64, 128)
set xrange [28:146]
set xlabel "connections"
set grid ytics lc rgb "#dddddd"
set border 3 lc rgb "#888888"
set tics nomirror textcolor rgb "black"
unset key
array colour[6] = ["#c02020", "#7a5bb0", "#3a8a3a", "#2878b8", "#999999", "#000000"]

set size 0.42, 1
set origin 0, 0
set title "events a second, durable"
set yrange [0:*]
set format y "%.0s%c"
plot for [i=1:words(names)] data using 1:(column(2 * i)) with linespoints lw (i == 1 ? 3 : 1.5) pt 7 ps 0.5 lc rgb colour[i] notitle, \
     one with lines dashtype 2 lc rgb "black" notitle

set size 0.58, 1
set origin 0.42, 0
set key outside right center Left reverse samplen 1.5
set title "p99 of the answer at full load, ms"
set format y "%g"
set logscale y
set yrange [*:*]
plot for [i=1:words(names)] data using 1:(column(2 * i + 1)) with linespoints lw (i == 1 ? 3 : 1.5) pt 7 ps 0.5 lc rgb colour[i] title word(names, i), \
     NaN with lines dashtype 2 lc rgb "black" title "pgbench, one by one, at best"
unset multiplot
