# SPDX-License-Identifier: Apache-2.0
#
# NVIDIA's libraries on the null GPU: `make check-libs`. 2.0 GB to fetch, once (scripts/cuda-libs), 3.0 GB on disk, so
# this is no part of `make check`; its last result is in Documentation/benchmarks/.

LIBS_DIR   := selftests/libs
LIBS_TESTS := cublas cublaslt cudnn curand cusparse cusolver cufft cupti nccl
LIBS_PROGRAMS = $(LIBS_TESTS:%=$(B)/tests/libs/%) $(B)/tests/libs/cudart-static $(B)/tests/libs/cudart-shared
NULLGPU	   := $(B)/nullgpu/libnullgpu.so

# Where they are, once they are there.
CUDA_LIBS  = $(shell scripts/cuda-libs --if-there)/nvidia
LIBS_FLAGS = -std=gnu11 -O1 -g -Wall -Wextra -Wno-unused-parameter -Wno-deprecated-declarations -D_GNU_SOURCE \
	     -isystem $(CUDA_LIBS)/cu13/include -isystem $(CUDA_LIBS)/cudnn/include -isystem $(CUDA_LIBS)/nccl/include -isystem $(CUDA)/include

$(B)/gen/null_gen.c: $(CUDA_TBL) $(LIBS_DIR)/gen_null.py userspace/cuda/gen.py $(CUDA)/include/cuda.h
	python3 $(LIBS_DIR)/gen_null.py --table $(CUDA_TBL) --header $(CUDA)/include/cuda.h --out $@ --cc "$(CC)"

$(NULLGPU): $(addprefix $(B)/$(LIBS_DIR)/,nullgpu.o device.o cubin.o ptx.o) $(B)/gen/null_gen.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -shared -Wl,-soname,libcuda.so.1 -Wl,-z,defs -o $@ $^ -lzstd -llz4
PRODUCTS += $(NULLGPU)

# The libraries carry no link without their number; what they need of each other is found beside them.
LIBS_LINK-cublas   := cu13/lib/libcublas.so.13
LIBS_LINK-cublaslt := cu13/lib/libcublasLt.so.13
LIBS_LINK-cudnn	   := cudnn/lib/libcudnn.so.9
LIBS_LINK-curand   := cu13/lib/libcurand.so.10
LIBS_LINK-cusparse := cu13/lib/libcusparse.so.12
LIBS_LINK-cusolver := cu13/lib/libcusolver.so.12
LIBS_LINK-cufft	   := cu13/lib/libcufft.so.12
LIBS_LINK-cupti	   := cu13/lib/libcupti.so.13
LIBS_LINK-nccl	   := nccl/lib/libnccl.so.2

$(B)/tests/libs/cudart-static: $(LIBS_DIR)/cudart.c $(LIBS_DIR)/libs.h
	@mkdir -p $(@D)
	$(CC) $(LIBS_FLAGS) -o $@ $< $(CUDA_LIBS)/cu13/lib/libcudart_static.a -lpthread -ldl -lrt
$(B)/tests/libs/cudart-shared: $(LIBS_DIR)/cudart.c $(LIBS_DIR)/libs.h
	@mkdir -p $(@D)
	$(CC) $(LIBS_FLAGS) -o $@ $< $(CUDA_LIBS)/cu13/lib/libcudart.so.13
$(LIBS_TESTS:%=$(B)/tests/libs/%): $(B)/tests/libs/%: $(LIBS_DIR)/%.c $(LIBS_DIR)/libs.h
	@mkdir -p $(@D)
	$(CC) $(LIBS_FLAGS) -o $@ $< $(CUDA_LIBS)/$(LIBS_LINK-$*) $(CUDA_LIBS)/cu13/lib/libcudart.so.13 \
		-Wl,-rpath-link,$(CUDA_LIBS)/cu13/lib -Wl,--allow-shlib-undefined

.PHONY: libs-programs check-libs
libs-programs: $(LIBS_PROGRAMS)
check-libs: all
	@scripts/cuda-libs
	@$(MAKE) --no-print-directory libs-programs
	selftests/libs/run
