# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# For scripts/lab/selftest: a pod that triple-faults, and a script that would call that a success or a failure.

cat >/run/triple.cfg <<CFG
name = "triple"
type = "pvh"
kernel = "/lab/script/kernel.elf"
memory = 64
vcpus = 1
on_crash = "destroy"
on_reboot = "destroy"
CFG
echo "attempt"
xl create /run/triple.cfg >&2 || exit 1
tries=0
until [ "$(lab_triple_faults)" -gt 0 ] || [ $tries -ge 300 ]; do
	tries=$((tries + 1))
	sleep 0.2
done
exit 1
