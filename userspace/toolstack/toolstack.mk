# SPDX-License-Identifier: Apache-2.0
#
# libvgpuxl and vgpuctl. Needs libxen-dev; runs in dom0.

TOOLSTACK     := userspace/toolstack
VGPUXL_SRC    := $(addprefix $(TOOLSTACK)/,entry.c config.c store.c device.c list.c reap.c)
VGPUCTL_SRC   := $(addprefix $(TOOLSTACK)/,vgpuctl.c create.c show.c)
TOOLSTACK_LIBS := -lxlutil -lxenstore

PRODUCTS += $(B)/bin/vgpuctl
UNIT_TESTS += $(B)/tests/toolstack-config

$(B)/libvgpuxl.a: $(VGPUXL_SRC:%.c=$(B)/%.o)
	@rm -f $@
	ar rcs $@ $^

$(B)/bin/vgpuctl: $(VGPUCTL_SRC:%.c=$(B)/%.o) $(B)/libvgpuxl.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^ $(TOOLSTACK_LIBS)

$(B)/tests/toolstack-config: $(addprefix $(B)/asan/$(TOOLSTACK)/,test_config.o entry.o config.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^ $(TOOLSTACK_LIBS)
