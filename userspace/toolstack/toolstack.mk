# SPDX-License-Identifier: Apache-2.0
#
# libvgpuxl, vgpuctl, the front-end of xl, and the block script. Needs libxen-dev; runs in dom0.

TOOLSTACK     := userspace/toolstack
VGPUXL_SRC    := $(addprefix $(TOOLSTACK)/,entry.c config.c store.c device.c list.c reap.c light.c handles.c plan.c domain.c disk.c supervise.c)
VGPUCTL_SRC   := $(addprefix $(TOOLSTACK)/vgpuctl/,main.c create.c device.c broker.c list.c top.c watch.c follow.c)
XL_SRC	      := $(TOOLSTACK)/xl/front.c $(TOOLSTACK)/vgpuctl/follow.c
TOOLSTACK_LIBS := -lxlutil -lxenlight -lxenstore -lxentoollog

PRODUCTS += $(B)/bin/vgpuctl $(B)/bin/vgpu-xl $(B)/bin/vgpu-block $(B)/lib/libvgpuxl.so $(B)/bin/vgpuxl-example
UNIT_TESTS += $(B)/tests/toolstack-config $(B)/tests/toolstack-attach $(B)/tests/toolstack-block $(B)/tests/toolstack-words

# The version of the interface; it changes when a program built against the one before could not run.
VGPUXL_SONAME := libvgpuxl.so.1

$(B)/libvgpuxl.a: $(VGPUXL_SRC:%.c=$(B)/%.o)
	@rm -f $@
	ar rcs $@ $^

$(B)/lib/$(VGPUXL_SONAME): $(VGPUXL_SRC:%.c=$(B)/%.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -shared -Wl,-soname,$(VGPUXL_SONAME) -Wl,-z,defs -o $@ $^ $(TOOLSTACK_LIBS)
$(B)/lib/libvgpuxl.so: $(B)/lib/$(VGPUXL_SONAME)
	ln -sf $(VGPUXL_SONAME) $@

$(B)/bin/vgpuctl: $(VGPUCTL_SRC:%.c=$(B)/%.o) $(B)/libvgpuxl.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^ $(TOOLSTACK_LIBS) -ljson-c

$(B)/bin/vgpu-xl: $(XL_SRC:%.c=$(B)/%.o) $(B)/libvgpuxl.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^ $(TOOLSTACK_LIBS)

# Static: it is run by whatever runs hotplug scripts, with whatever libraries are there.
$(B)/bin/vgpu-block: $(B)/$(TOOLSTACK)/block/block.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -static -o $@ $^ -lxenstore -lxentoolcore

# Against the shared library, as a user of it would.
$(B)/bin/vgpuxl-example: $(TOOLSTACK)/example.c $(B)/lib/libvgpuxl.so
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(WARN) $(CFLAGS) -I$(TOOLSTACK) -pthread -o $@ $< -L$(B)/lib -lvgpuxl -Wl,-rpath-link,$(B)/lib

$(B)/tests/toolstack-config: $(addprefix $(B)/asan/$(TOOLSTACK)/,test_config.o entry.o config.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^ $(TOOLSTACK_LIBS)

# It has a xenstore of its own.
$(B)/tests/toolstack-attach: $(addprefix $(B)/asan/$(TOOLSTACK)/,test_attach.o device.o list.o store.o entry.o handles.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^

# As does this.
$(B)/tests/toolstack-block: $(B)/asan/$(TOOLSTACK)/test_block.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^

$(B)/tests/toolstack-words: $(TOOLSTACK)/test_words.py $(B)/bin/vgpuctl
	@mkdir -p $(@D)
	printf '#!/bin/sh\nexec python3 %s %s\n' '$(CURDIR)/$<' '$(CURDIR)/$(B)/bin/vgpuctl' > $@
	chmod +x $@

$(addprefix $(B)/$(TOOLSTACK)/,vgpuctl/%.o xl/%.o): CPPFLAGS_ += -I$(TOOLSTACK) -I$(TOOLSTACK)/vgpuctl
