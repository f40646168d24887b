# SPDX-License-Identifier: Apache-2.0
#
# Programs of `make gpu-check` that the other suites do not have: build/tests/gpu/. Uses the variables of cuda.mk.

GPU_TESTS := $(addprefix $(B)/tests/gpu/,bits residue share)

.PHONY: gpu-tests
gpu-tests: $(GPU_TESTS)

$(B)/tests/gpu/%.o: selftests/gpu/%.cu $(wildcard selftests/cuda/*.h)
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) -Iselftests/cuda -c -o $@.tmp.o $< && mv $@.tmp.o $@

$(GPU_TESTS): %: %.o
	$(CXX) -o $@ $< -L$(CUDA_LIBDIR) -lcudart_static -lpthread -ldl -lrt
