# SPDX-License-Identifier: Apache-2.0
# `make bench`: the figures of this machine, as ratios within one run. `make bench-counts`: what can be counted.

BENCH_PROGRAMS := $(addprefix $(B)/bench/,limits transport)

$(B)/bench/limits: $(B)/selftests/bench/limits.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^
$(B)/bench/transport: $(B)/selftests/bench/transport.o $(B)/libidm.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^
$(B)/bench/bench: $(B)/selftests/bench/bench.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^ -ldl
BENCH_PROGRAMS += $(B)/bench/bench
# The interpreter by itself, without the driver API around it.
CFLAGS-selftests/bench := -Iuserspace/softgpu
$(B)/bench/ptx: $(B)/selftests/bench/ptx.o $(SOFTGPU_OBJ)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^ -lzstd -llz4 -lm
BENCH_PROGRAMS += $(B)/bench/ptx

.PHONY: bench bench-counts
bench: $(BENCH_PROGRAMS) $(PRODUCTS)
	selftests/bench/bench.py --build $(B) $(BENCH_ARGS)
bench-counts: $(BENCH_PROGRAMS) $(PRODUCTS) drivers drivers-pod lab
	selftests/bench/counts.py --build $(B)
