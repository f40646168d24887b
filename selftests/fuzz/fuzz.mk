# SPDX-License-Identifier: Apache-2.0
#
# The worker's decoders under libFuzzer with AddressSanitizer and UBSan, by clang: a short run in `make check`,
# `make fuzz FUZZ_SECONDS=N` for long ones.

FUZZ_DIR   := selftests/fuzz
FUZZ_SRC   := $(WORKER_SRC) $(FUZZ_DIR)/worker.c $(addprefix selftests/libs/,nullgpu.c device.c cubin.c ptx.c)
FUZZ_OBJ   := $(FUZZ_SRC:%.c=$(B)/fuzz/obj/%.o) $(B)/fuzz/obj/worker_gen.o $(B)/fuzz/obj/null_gen.o
FUZZ_FLAGS := -std=gnu11 -O1 -g -w -fno-strict-aliasing -fno-omit-frame-pointer -pthread \
	      -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
FUZZ_SECONDS ?= 600

# The worker's own entry makes room for libFuzzer's.
$(B)/fuzz/obj/userspace/broker/worker/main.o: FUZZ_FLAGS += -Dmain=worker_main
# What sessions share is asked of a broker that worker.c plays.
$(B)/fuzz/obj/userspace/broker/worker/control.o: FUZZ_FLAGS += -Dcontrol_ipc=control_ipc_asked -Dcontrol_export=control_export_asked
$(B)/fuzz/obj/%.o: %.c | $(GENERATED)
	@mkdir -p $(@D)
	clang $(CPPFLAGS_) $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<
$(B)/fuzz/obj/%_gen.o: $(B)/gen/%_gen.c $(CUDA_GEN)
	@mkdir -p $(@D)
	clang $(CPPFLAGS_) $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<
$(B)/fuzz/worker: $(FUZZ_OBJ)
	clang -fsanitize=fuzzer,address,undefined -rdynamic -pthread -o $@ $^ -lseccomp -lzstd -llz4 -ldl

# For seeds: the worker as it is, but that it writes down what it receives.
$(B)/fuzz/vgpu-worker-record: $(WORKER_SRC:%.c=$(B)/%.o) $(B)/gen/worker_gen.o $(B)/$(FUZZ_DIR)/record.o $(B)/libidm.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -Wl,--wrap=idm_server_recv -o $@ $^ -lseccomp -ldl

.PHONY: fuzz fuzz-seeds
fuzz: $(B)/fuzz/worker
	selftests/fuzz/run $(FUZZ_SECONDS)
fuzz-seeds: all cuda-tests $(B)/fuzz/worker $(B)/fuzz/vgpu-worker-record
	selftests/fuzz/seeds

UNIT_TESTS += $(B)/tests/fuzz-worker
$(B)/tests/fuzz-worker: $(FUZZ_DIR)/run $(FUZZ_DIR)/corpus.tar.xz $(B)/fuzz/worker
	@mkdir -p $(@D)
	printf '#!/bin/sh\nexec %s\n' '$(CURDIR)/$<' >$@
	chmod +x $@
