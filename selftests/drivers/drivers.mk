# SPDX-License-Identifier: Apache-2.0
#
# build/selftests/drivers/layout_test and versions_test are unit tests.
# make check-drivers-xen: the drivers' own tests in the lab (selftests/drivers/run).

CLIENT_TESTS := $(addprefix $(B)/selftests/drivers/,session_test giveback_test ending_test fault_test)
DRIVER_TESTS := $(CLIENT_TESTS) $(addprefix $(B)/selftests/drivers/,drivers-server hostile_test ring_keeper busy_sessions)
DRIVER_TESTS_CC = $(CC) -static -std=gnu11 -D_GNU_SOURCE $(WARN) $(CFLAGS) -Iuapi -I$(KSELFTEST) -o $@ $<

$(B)/selftests/drivers/drivers-server: selftests/drivers/server.c $(addprefix selftests/drivers/,faults.h session.h)
	@mkdir -p $(@D)
	$(DRIVER_TESTS_CC)

$(B)/selftests/drivers/busy_sessions: selftests/drivers/busy_sessions.c selftests/drivers/session.h
	@mkdir -p $(@D)
	$(DRIVER_TESTS_CC)

$(CLIENT_TESTS): $(B)/selftests/drivers/%: selftests/drivers/%.c selftests/drivers/client.c \
		$(addprefix selftests/drivers/,client.h faults.h session.h) $(CACHE)/kselftest/kselftest_harness.h
	@mkdir -p $(@D)
	$(DRIVER_TESTS_CC) $(word 2,$^)

$(B)/selftests/drivers/hostile_test: selftests/drivers/hostile_test.c $(CACHE)/kselftest/kselftest_harness.h
	@mkdir -p $(@D)
	$(DRIVER_TESTS_CC) -lxenstore -lxengnttab -lxenevtchn -lxentoolcore -lxentoollog

$(B)/selftests/drivers/ring_keeper: selftests/drivers/ring_keeper.c
	@mkdir -p $(@D)
	$(DRIVER_TESTS_CC) -lxenstore -lxengnttab -lxentoolcore -lxentoollog

# What the modules share that needs neither a kernel nor Xen.
$(B)/selftests/drivers/layout_test: selftests/drivers/layout_test.c drivers/layout.h uapi/xen/io/vgpuif.h \
		$(CACHE)/kselftest/kselftest_harness.h
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) $(CFLAGS) $(ASAN) -I. -Iuapi -I$(KSELFTEST) -o $@ $<

$(B)/selftests/drivers/versions_test: selftests/drivers/versions_test.c drivers/versions.h $(CACHE)/kselftest/kselftest_harness.h
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) $(CFLAGS) $(ASAN) -I. -Iuapi -I$(KSELFTEST) -o $@ $<

UNIT_TESTS += $(B)/selftests/drivers/layout_test $(B)/selftests/drivers/versions_test

.PHONY: driver-tests check-drivers-xen
driver-tests: $(DRIVER_TESTS)

check-drivers-xen: all drivers driver-tests
	selftests/drivers/run
