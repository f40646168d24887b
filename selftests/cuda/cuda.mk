# SPDX-License-Identifier: Apache-2.0
#
# The CUDA programs, built as a user would build them: with nvcc, once with the static runtime and once with the
# shared one, into build/tests/cuda/{static,shared}. Driver API programs link libcuda.so.1 and are in static/ only.

CUDA_TESTS_DIR := selftests/cuda
CUDA_TESTS     := $(B)/tests/cuda
CUDA_RUNTIME_TESTS := vectoradd matmul reduce histogram softmax structparam streams threads handoff printf ptds \
		      copies attributes errors managed graphs textures steady reset ipc heap
CUDA_DRIVER_TESTS  := driver_ptx driver_memory driver_library driver_callback driver_register driver_link driver_vmm driver_vmm_host driver_graph driver_graph_nodes driver_graph_copies driver_graph_memory driver_capture driver_legacy driver_green driver_launch driver_batch driver_ipc driver_ipc_handles driver_image driver_load driver_refused driver_query driver_array driver_managed driver_pool driver_mapped \
		      driver_context driver_nocontext driver_function driver_stream driver_ptds driver_forms driver_texref driver_peer \
		      driver_capture_cost driver_latched driver_cluster driver_pinned
# The same programs with per-thread default streams: stream 0 is the thread's own, by the calls' _ptsz and _ptds forms.
CUDA_PTDS_TESTS	   := $(addsuffix -ptds,driver_stream driver_memory driver_batch driver_capture driver_array driver_pool \
		      driver_launch driver_callback driver_graph driver_graph_nodes)
# Not for NVIDIA's own library, nor for the software GPU's: what they are given they follow.
CUDA_SHIM_TESTS	   := driver_sweep driver_full driver_told driver_embedded driver_tables driver_visible
# The same source in other clothes: fatbin without compression, with LZ4, PTX for debugging, PTX of a newer target,
# one without PTX, which only a GPU of that kind can run, and one of separately compiled parts, which nvlink links.
CUDA_VARIANTS := vectoradd-plain vectoradd-lz4 matmul-debug reduce-sm120 vectoradd-noptx vectoradd-rdc

NVCC	  = PATH="$(CUDA)/nvvm/bin:$(CUDA)/bin:$$PATH" $(CUDA)/bin/nvcc
NVCCFLAGS = -O2 -ccbin $(or $(shell command -v g++),c++) -I$(CUDA_TESTS_DIR) -I$(CUDA)/include
# An installed toolkit has lib64, NVIDIA's wheels have lib.
CUDA_LIBDIR = $(firstword $(wildcard $(CUDA)/lib64) $(CUDA)/lib)

NVCCFLAGS-ptds		   := --default-stream per-thread
NVCCFLAGS-vectoradd-plain  := --compress-mode=none
NVCCFLAGS-vectoradd-lz4	   := --compress-mode=speed
NVCCFLAGS-matmul-debug	   := -G
NVCCFLAGS-reduce-sm120	   := -arch=compute_120
NVCCFLAGS-vectoradd-noptx  := -gencode arch=compute_75,code=sm_75
# Code for every kind of GPU: what is linked has no PTX.
NVCCFLAGS-vectoradd-rdc    := -rdc=true -arch=all-major

CUDA_TEST_PROGRAMS := $(foreach k,static shared,$(CUDA_RUNTIME_TESTS:%=$(CUDA_TESTS)/$k/%)) \
		      $(addprefix $(CUDA_TESTS)/static/,$(CUDA_DRIVER_TESTS) $(CUDA_PTDS_TESTS) $(CUDA_SHIM_TESTS) $(CUDA_VARIANTS))

CUDA_C_TESTS := $(CUDA_DRIVER_TESTS) $(CUDA_PTDS_TESTS) $(CUDA_SHIM_TESTS)

# Threads beside a program that know nothing of it.
CUDA_CROWD := $(CUDA_TESTS)/crowd.so

.PHONY: cuda-tests
cuda-tests: $(CUDA_TEST_PROGRAMS) $(CUDA_CROWD) $(B)/toldgpu/libsoftgpu-told.so $(B)/tests/cuda/exercised

CUDA_TEST_HEADERS := $(wildcard $(CUDA_TESTS_DIR)/*.h)

# nvcc leaves nothing behind when it fails half-way, but writes in place: hence the rename.
$(CUDA_RUNTIME_TESTS:%=$(CUDA_TESTS)/obj/%.o): $(CUDA_TESTS)/obj/%.o: $(CUDA_TESTS_DIR)/%.cu $(CUDA_TEST_HEADERS)
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) $(NVCCFLAGS-$*) -c -o $@.tmp.o $< && mv $@.tmp.o $@

define CUDA_VARIANT
$(CUDA_TESTS)/obj/$(1).o: $(CUDA_TESTS_DIR)/$(firstword $(subst -, ,$(1))).cu $(CUDA_TEST_HEADERS)
	@mkdir -p $$(@D)
	$$(NVCC) $$(NVCCFLAGS) $$(NVCCFLAGS-$(1)) -c -o $$@.tmp.o $$< && mv $$@.tmp.o $$@
endef
$(foreach v,$(CUDA_VARIANTS),$(eval $(call CUDA_VARIANT,$v)))

# What `nvcc -cudart static` and `-cudart shared` do; the wheel lacks the libcudart.so link that the latter wants.
$(CUDA_TESTS)/static/%: $(CUDA_TESTS)/obj/%.o
	@mkdir -p $(@D)
	$(CXX) -o $@ $< -L$(CUDA_LIBDIR) -lcudart_static -lpthread -ldl -lrt

$(CUDA_TESTS)/shared/%: $(CUDA_TESTS)/obj/%.o
	@mkdir -p $(@D)
	$(CXX) -o $@ $< -L$(CUDA_LIBDIR) -Wl,-rpath,$(CUDA_LIBDIR) -l:libcudart.so.13 -lpthread

# What `nvcc -rdc=true` does at the end.
$(CUDA_TESTS)/static/vectoradd-rdc: $(CUDA_TESTS)/obj/vectoradd-rdc.o
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS-vectoradd-rdc) -ccbin $(or $(shell command -v g++),c++) -dlink -o $<.linked.o $< -L$(CUDA_LIBDIR) -lcudadevrt
	$(CXX) -o $@ $< $<.linked.o -L$(CUDA_LIBDIR) -lcudadevrt -lcudart_static -lpthread -ldl -lrt

$(CUDA_PTDS_TESTS:%=$(CUDA_TESTS)/obj/%.o): $(CUDA_TESTS)/obj/%-ptds.o: $(CUDA_TESTS_DIR)/%.c $(CUDA_TEST_HEADERS)
	@mkdir -p $(@D)
	$(CC) -O2 -g -Wall -Wextra -D_GNU_SOURCE -DCUDA_API_PER_THREAD_DEFAULT_STREAM -isystem $(CUDA)/include -c -o $@ $<

$(filter-out $(CUDA_PTDS_TESTS:%=$(CUDA_TESTS)/obj/%.o),$(CUDA_C_TESTS:%=$(CUDA_TESTS)/obj/%.o)): \
		$(CUDA_TESTS)/obj/%.o: $(CUDA_TESTS_DIR)/%.c $(CUDA_TEST_HEADERS)
	@mkdir -p $(@D)
	$(CC) -O2 -g -Wall -Wextra -D_GNU_SOURCE -isystem $(CUDA)/include -I$(B)/gen -c -o $@ $<

$(CUDA_CROWD): $(CUDA_TESTS_DIR)/crowd.c $(CUDA_TEST_HEADERS)
	@mkdir -p $(@D)
	$(CC) -O2 -g -Wall -Wextra -D_GNU_SOURCE -shared -fPIC -isystem $(CUDA)/include -o $@ $< -lpthread -ldl

# What driver_sweep sweeps: every entry point of the table that works here.
$(B)/gen/sweep_gen.h: $(CUDA_TESTS_DIR)/gen_sweep.py $(CUDA_TBL) userspace/cuda/gen.py $(CUDA)/include/cuda.h
	@mkdir -p $(@D)
	python3 $< --table $(CUDA_TBL) --header $(CUDA)/include/cuda.h --out $@ --cc "$(CC)"
$(CUDA_TESTS)/obj/driver_sweep.o: $(B)/gen/sweep_gen.h

# What driver_told tells the told GPU, and that: the software GPU with errors of hardware (told_gpu.h).
$(B)/gen/told_gpu.c $(B)/gen/told_gen.h &: $(CUDA_TESTS_DIR)/gen_told.py $(CUDA_TBL) userspace/cuda/gen.py $(CUDA)/include/cuda.h
	@mkdir -p $(B)/gen
	python3 $< --table $(CUDA_TBL) --header $(CUDA)/include/cuda.h --out $(B)/gen --cc "$(CC)"
$(CUDA_TESTS)/obj/driver_told.o: $(B)/gen/told_gen.h $(B)/gen/sweep_gen.h
$(B)/toldgpu/libsoftgpu-told.so: $(B)/gen/told_gpu.c $(CUDA_TESTS_DIR)/told_gpu.h userspace/cuda/softgpu_share.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS_) -Wno-deprecated-declarations -shared -o $@ $<

# With the header that these programs were built with.
$(B)/tests/cuda/exercised: $(CUDA_TESTS_DIR)/exercised
	@mkdir -p $(@D)
	printf '#!/bin/sh\nexec python3 %s %s %s "$$@"\n' '$(CURDIR)/$<' '$(CURDIR)/$(CUDA_TBL)' '$(CUDA)/include/cuda.h' > $@
	chmod +x $@

# A libcuda.so to link with, as the toolkit's stub: the names these programs use, and the soname.
$(CUDA_TESTS)/stub/libcuda.so: $(CUDA_C_TESTS:%=$(CUDA_TESTS)/obj/%.o)
	@mkdir -p $(@D)
	nm -u $^ | sed -n 's/^ *U \(cu[A-Z].*\)/void \1(void); void \1(void) {}/p' | sort -u | \
		$(CC) -shared -x c -Wl,-soname,libcuda.so.1 -o $@ -

$(CUDA_C_TESTS:%=$(CUDA_TESTS)/static/%): $(CUDA_TESTS)/static/%: $(CUDA_TESTS)/obj/%.o $(CUDA_TESTS)/stub/libcuda.so
	@mkdir -p $(@D)
	$(CC) -o $@ $< -L$(CUDA_TESTS)/stub -lcuda -lpthread
