# SPDX-License-Identifier: Apache-2.0
#
# build/tests/isolation: victim, attacker and scavenger. selftests/run-local and run-xen set them on one another.

ISOLATION_SRC := $(addprefix selftests/isolation/,isolation.c session.c objects.c token.c attacker.c)

.PHONY: isolation-tests
isolation-tests: $(B)/tests/isolation

$(ISOLATION_SRC:%.c=$(B)/%.o): $(B)/gen/cuda_wire.h

$(B)/tests/isolation: $(ISOLATION_SRC:%.c=$(B)/%.o) $(B)/libidm.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^
