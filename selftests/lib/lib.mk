# SPDX-License-Identifier: Apache-2.0
#
# The runners as make targets, and the kernel's own test harness, taken from the installed kernel source.

KSELFTEST := $(CACHE)/kselftest
KSELFTEST_SOURCE := $(firstword $(wildcard /usr/src/linux-source-6.1.tar.xz /usr/src/linux-source-*.tar.xz))

# kselftest.h, kselftest_harness.h and lib.mk. About 10 seconds, once.
$(KSELFTEST)/kselftest_harness.h:
	@[ -n "$(KSELFTEST_SOURCE)" ] || { echo "no /usr/src/linux-source-*.tar.xz: run scripts/deps" >&2; exit 1; }
	@mkdir -p $(@D)
	tar -xJf $(KSELFTEST_SOURCE) -C $(@D) --strip-components=4 --wildcards --occurrence=1 \
		'*/tools/testing/selftests/lib.mk' '*/tools/testing/selftests/kselftest.h' \
		'*/tools/testing/selftests/kselftest_harness.h'
	@touch $(KSELFTEST)/*

.PHONY: selftest-programs check-local check-xen
selftest-programs: cuda-tests errors-tests giveback-tests hostile-tests isolation-tests gpu-tests toolstack-tests

check-local: all selftest-programs
	selftests/run-local

check-xen: all selftest-programs
	selftests/run-xen
