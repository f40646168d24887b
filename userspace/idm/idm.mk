# SPDX-License-Identifier: Apache-2.0
# libidm: build/libidm.a, for shim, worker and broker.

IDM_SRC := $(addprefix userspace/idm/,arena.c client.c error.c local.c ring.c server.c session.c wait.c xen.c)
IDM_TESTS := $(notdir $(basename $(wildcard userspace/idm/tests/test_*.c)))

$(B)/libidm.a: $(IDM_SRC:%.c=$(B)/%.o)
$(B)/tsan/libidm.a: $(IDM_SRC:%.c=$(B)/tsan/%.o)
$(B)/libidm.a $(B)/tsan/libidm.a:
	@rm -f $@
	ar rcs $@ $^

# ANY_GLIBC: what libcuda.so.1 and libnvidia-ml.so.1 are linked with, so that they load in containers with glibc 2.17 and
# later (cuda/tests/test_table.py holds it). Threads and dlsym() have new versions since 2.32 to 2.34, when they moved into
# libc.so.6, and before 2.30 the loader looks for a symbol only in the library that it was linked from: hence these
# two, which name what is used of the old ones. The loader finds it in the new place, too. The rest is in glibc.c.
GLIBC_libpthread.so.0 := pthread_attr_getstack pthread_create pthread_getattr_np pthread_key_create pthread_once \
			 pthread_setspecific pthread_sigmask
GLIBC_libdl.so.2      := dlerror dlsym
ANY_GLIBC	      := $(B)/userspace/idm/glibc.o $(addprefix $(B)/glibc/,libpthread.so.0 libdl.so.2)
$(B)/glibc/%: userspace/idm/idm.mk
	@mkdir -p $(@D)
	echo 'GLIBC_2.2.5 { *; };' >$@.map
	printf 'void %s(void) {}\n' $(GLIBC_$*) | $(CC) -w -shared -nostdlib -Wl,-soname,$* -Wl,--version-script=$@.map -o $@ -xc -

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
