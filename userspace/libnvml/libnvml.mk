# SPDX-License-Identifier: Apache-2.0
# The NVML shim: build/lib/libnvidia-ml.so.1.

NVML_OBJS := $(addprefix $(B)/userspace/libnvml/,session.o system.o device.o memory.o event.o internal.o) $(B)/gen/nvml_gen.o
CFLAGS-gen/nvml_gen := -Iuserspace/libnvml

$(B)/gen/nvml_gen.c: userspace/libnvml/nvml.tbl userspace/libnvml/gen.py
	@mkdir -p $(@D)
	python3 userspace/libnvml/gen.py $< >$@.new && mv $@.new $@

$(B)/lib/libnvidia-ml.so.1: $(NVML_OBJS) $(B)/libidm.a $(ANY_GLIBC)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -shared -Wl,-soname,libnvidia-ml.so.1 -Wl,-z,defs -Wl,-Bsymbolic -Wl,--exclude-libs,ALL \
		-o $@ $^
	ln -sf libnvidia-ml.so.1 $(B)/lib/libnvidia-ml.so

PRODUCTS += $(B)/lib/libnvidia-ml.so.1
