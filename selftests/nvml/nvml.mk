# SPDX-License-Identifier: Apache-2.0
# build/tests/nvml-layout holds our declarations against NVIDIA's nvml.h, which scripts/nvidia-env fetches.

NVML_ENV = $(shell scripts/nvidia-env)
$(B)/tests/nvml-layout: selftests/nvml/layout.c userspace/libnvml/nvml_abi.h scripts/nvidia-env
	@mkdir -p $(@D)
	$(CC) -DOURS -Iuserspace/libnvml -c -o $@.ours.o $<
	$(CC) -isystem $(NVML_ENV)/include -o $@ $< $@.ours.o

UNIT_TESTS += $(B)/tests/nvml-layout
