#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes the machine that it runs on ready for the suites: starts the daemon. tests/run has it installed already; on a
# machine of upstream spread it is built.
set -euo pipefail

if [ ! -x /usr/lib/snapd/snapd ] && command -v go >/dev/null; then
	make -C "${SPREAD_PATH:-/srv/endured}" install
fi
if [ -x /usr/lib/snapd/snapd ]; then
	systemctl daemon-reload
	systemctl enable --now snapd.socket snapd.service
fi
