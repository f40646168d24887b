# SPDX-License-Identifier: Apache-2.0
#
# Clients to whom something happens: build/tests/orphan, busy and hoard. Uses the variables of cuda.mk.

.PHONY: errors-tests
errors-tests: $(B)/tests/orphan $(B)/tests/busy $(B)/tests/hoard

$(B)/tests/obj/%.o: selftests/errors/%.cu $(wildcard selftests/cuda/*.h)
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) -Iselftests/cuda -c -o $@.tmp.o $< && mv $@.tmp.o $@

$(B)/tests/orphan $(B)/tests/busy $(B)/tests/hoard: $(B)/tests/%: $(B)/tests/obj/%.o
	@mkdir -p $(@D)
	$(CXX) -o $@ $< -L$(CUDA_LIBDIR) -lcudart_static -lpthread -ldl -lrt
