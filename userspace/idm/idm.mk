# SPDX-License-Identifier: Apache-2.0
# libidm: build/libidm.a, for shim, worker and broker.

IDM_SRC := $(addprefix userspace/idm/,arena.c client.c error.c local.c ring.c server.c session.c wait.c xen.c)
IDM_TESTS := $(notdir $(basename $(wildcard userspace/idm/tests/test_*.c)))

$(B)/libidm.a: $(IDM_SRC:%.c=$(B)/%.o)
$(B)/tsan/libidm.a: $(IDM_SRC:%.c=$(B)/tsan/%.o)
$(B)/libidm.a $(B)/tsan/libidm.a:
	@rm -f $@
	ar rcs $@ $^

# Each test with AddressSanitizer; those with threads also with ThreadSanitizer.
IDM_TSAN_TESTS := test_ring test_calls
$(B)/tests/idm-%: $(B)/asan/userspace/idm/tests/%.o $(IDM_SRC:%.c=$(B)/asan/%.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^
$(B)/tests/idm-tsan-%: $(B)/tsan/userspace/idm/tests/%.o $(IDM_SRC:%.c=$(B)/tsan/%.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(TSAN) -o $@ $^

UNIT_TESTS += $(IDM_TESTS:%=$(B)/tests/idm-%) $(IDM_TSAN_TESTS:%=$(B)/tests/idm-tsan-%)
PRODUCTS   += $(B)/libidm.a
