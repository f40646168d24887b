# SPDX-License-Identifier: Apache-2.0
#
# build/tests/hostile [SESSIONS]: attacks a worker from a session of its own, over whatever transport there is.

HOSTILE_SRC := $(addprefix selftests/hostile/,hostile.c raw.c neighbour.c rings.c calls.c shown.c fuzz.c)

.PHONY: hostile-tests
hostile-tests: $(B)/tests/hostile

$(HOSTILE_SRC:%.c=$(B)/%.o): $(B)/gen/cuda_wire.h

$(B)/tests/hostile: $(HOSTILE_SRC:%.c=$(B)/%.o) $(B)/libidm.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^
