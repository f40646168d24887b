# SPDX-License-Identifier: Apache-2.0
#
# build/tests/hold: a client that does what a test tells it. Uses the variables of cuda.mk.
# build/tests/vgpuxl-threads: the library from several threads. build/tests/isjson: looks at what vgpuctl --json says.

.PHONY: toolstack-tests
toolstack-tests: $(B)/tests/hold $(B)/tests/vgpuxl-threads $(B)/tests/isjson

$(B)/tests/obj/hold.o: selftests/toolstack/hold.cu
	@mkdir -p $(@D)
	$(NVCC) $(NVCCFLAGS) -c -o $@.tmp.o $< && mv $@.tmp.o $@

$(B)/tests/hold: $(B)/tests/obj/hold.o
	@mkdir -p $(@D)
	$(CXX) -o $@ $< -L$(CUDA_LIBDIR) -lcudart_static -lpthread -ldl -lrt

$(B)/tests/vgpuxl-threads: selftests/toolstack/threads.c $(B)/lib/libvgpuxl.so
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(WARN) $(CFLAGS) -Iuserspace/toolstack -pthread -o $@ $< -L$(B)/lib -lvgpuxl -Wl,-rpath-link,$(B)/lib

$(B)/tests/isjson: selftests/toolstack/isjson.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(WARN) $(CFLAGS) -o $@ $< -ljson-c
