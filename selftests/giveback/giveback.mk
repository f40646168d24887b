# SPDX-License-Identifier: Apache-2.0
#
# build/tests/churn: many sessions in a row, ending in every way.

.PHONY: giveback-tests
giveback-tests: $(B)/tests/churn

$(B)/selftests/giveback/churn.o: $(B)/gen/cuda_wire.h

$(B)/tests/churn: $(B)/selftests/giveback/churn.o $(B)/selftests/isolation/session.o $(B)/selftests/isolation/objects.o \
		$(B)/libidm.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^
