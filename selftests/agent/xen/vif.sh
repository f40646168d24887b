#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Hotplug script of a pod's network: dom0's end gets an address, no bridge. libxenlight's environment: vif, XENBUS_PATH.
# shellcheck disable=SC2154
[ "${1:-}" = online ] || exit 0
if ip link set "$vif" up && ip addr add 10.77.0.1/24 dev "$vif" && ip -6 addr add fd77::1/64 dev "$vif"; then
	xenstore-write "$XENBUS_PATH/hotplug-status" connected
else
	xenstore-write "$XENBUS_PATH/hotplug-error" "cannot give $vif its address" "$XENBUS_PATH/hotplug-status" error
fi
