# SPDX-License-Identifier: Apache-2.0
# The call table and what is generated from it.

CUDA_TBL   := userspace/cuda/cuda.tbl
CUDA_GEN   := $(addprefix $(B)/gen/,cuda_wire.h shim_gen.h shim_gen.c names_gen.c refused_gen.c resolve_gen.c worker_gen.h \
		worker_gen.c cuda-coverage.rst)
GENERATED  += $(CUDA_GEN)

# One run makes them all.
$(CUDA_GEN) &: $(CUDA_TBL) userspace/cuda/wire.h userspace/cuda/gen.py $(CUDA)/include/cuda.h
	python3 userspace/cuda/gen.py --table $(CUDA_TBL) --wire userspace/cuda/wire.h --header $(CUDA)/include/cuda.h --out $(B)/gen --cc "$(CC)"

$(B)/gen/%.o: $(B)/gen/%.c $(CUDA_GEN)
	$(CC) $(CPPFLAGS_) -Iuserspace/libcuda $(CFLAGS_) $(CFLAGS-gen/$*) -MMD -MP -c -o $@ $<

.PHONY: coverage-page
coverage-page: $(B)/gen/cuda-coverage.rst
	cp $< Documentation/cuda-coverage.rst

UNIT_TESTS += $(B)/tests/cuda-table
$(B)/tests/cuda-table: userspace/cuda/tests/test_table.py $(CUDA_TBL) userspace/cuda/gen.py $(B)/lib/libcuda.so.1 $(B)/lib/libnvidia-ml.so.1 scripts/nvidia-env
	@mkdir -p $(@D)
	printf '#!/bin/sh\nCUDA=%s CC="%s" NVIDIA_LIBCUDA="$$(scripts/nvidia-env)/lib/libcuda.so.1" PYTHONDONTWRITEBYTECODE=1 exec python3 %s\n' '$(CUDA)' '$(CC)' '$(CURDIR)/$<' > $@
	chmod +x $@
