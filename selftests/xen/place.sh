# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Where podN's kernel is (minimal-kernel/kaslr), and where it is linked for. Two kernels of pods with 384 MiB are both there once in
# 20000 runs.
# shellcheck disable=SC2016 # awk's
text_at() { pod_run "$1" awk '$3 == "_text" { print $1 }' /proc/kallsyms </dev/null; }
linked_at=ffffffff81000000
is_linked_at() { [ "$1" = $linked_at ]; }
moved() { echo "at $1 and $2"; ! is_linked_at "$1" || ! is_linked_at "$2"; }
