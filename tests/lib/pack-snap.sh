#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Packs a sample snap of tests/lib/snaps with the fixture in it.
#
#   pack-snap.sh NAME VERSION OUT [EDIT]…
#
#   KEY=VALUE        sets a key at the top of snap.yaml; without a VALUE removes it
#   APP.KEY=VALUE    the same in an app
#   APP.KEY+=VALUE   appends to what the app's key holds
#   -APP             removes an app
#   file:PATH=SIZE   adds a file of random bytes, such as file:blob=10M
#   copy:PATH=FILE   adds a copy of FILE
#
# OUT is the .snap to write, compressed as $COMPRESSION says: "none", or what mksquashfs knows, such as gzip, which takes
# more processor time than a refresh. The fixture is $FIXTURE, else bin/fixture of the project.
set -euo pipefail

lib=$(cd "$(dirname "$0")" && pwd)
fixture=${FIXTURE:-$lib/../../bin/fixture}
if [ $# -lt 3 ] || [ ! -d "$lib/snaps/$1" ]; then
	echo "usage: pack-snap.sh NAME VERSION OUT [EDIT]…, NAME one of: $(cd "$lib/snaps" && echo *)" >&2
	exit 1
fi
name=$1 version=$2 out=$3
shift 3

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
chmod 755 "$tree"
cp -r "$lib/snaps/$name/." "$tree"
mkdir -p "$tree/bin"
cp "$fixture" "$tree/bin/fixture"
chmod 755 "$tree/bin/fixture"

# edit APP KEY OP VALUE: the sample files hold one key a line, apps at two blanks and their keys at four.
edit() {
	APP=$1 KEY=$2 OP=$3 VALUE=$4 awk '
		function put() { if (ENVIRON["VALUE"] != "") print pad key ": " ENVIRON["VALUE"]; done = 1 }
		BEGIN { app = ENVIRON["APP"]; key = ENVIRON["KEY"]; pad = app == "" ? "" : "    "; inside = app == "" }
		app != "" && /^  [^ ]/ { if (inside && !done) put(); inside = ($0 == "  " app ":"); found = found || inside }
		app != "" && /^[^ ]/ { if (inside && !done) put(); inside = 0 }
		inside && index($0, pad key ":") == 1 {
			if (ENVIRON["OP"] == "+=") print $0 ENVIRON["VALUE"]; else if (!done) put()
			done = 1; next
		}
		{ print }
		END {
			if (app != "" && !found) { print "cannot find app " app > "/dev/stderr"; exit 1 }
			if (inside && !done) put()
		}' "$tree/meta/snap.yaml" >"$tree/meta/new"
	mv "$tree/meta/new" "$tree/meta/snap.yaml"
}

edit "" version = "\"$version\""
for e in "$@"; do
	key=${e%%=*} value=${e#*=} op="="
	case $e in
	file:*=*)
		mkdir -p "$(dirname "$tree/${key#file:}")"
		head -c "$value" /dev/urandom >"$tree/${key#file:}"
		;;
	copy:*=*)
		mkdir -p "$(dirname "$tree/${key#copy:}")"
		cp -pP "$value" "$tree/${key#copy:}"
		;;
	-*)
		grep -q "^  ${e#-}:\$" "$tree/meta/snap.yaml" || { echo "cannot find app ${e#-}" >&2 && exit 1; }
		sed -i "/^  ${e#-}:\$/,/^  [^ ]\|^[^ ]/{/^  ${e#-}:\$/d;/^    /d}" "$tree/meta/snap.yaml"
		;;
	*=*)
		if [ "${key%+}" != "$key" ]; then op="+=" key=${key%+}; fi
		case $key in
		*.*) edit "${key%%.*}" "${key#*.}" "$op" "$value" ;;
		*) edit "" "$key" "$op" "$value" ;;
		esac
		;;
	*)
		echo "pack-snap.sh: cannot understand the edit $e" >&2
		exit 1
		;;
	esac
done

rm -f "$out"
how=(-noI -noD -noF -noX)
if [ "${COMPRESSION:-none}" != none ]; then
	how=(-comp "$COMPRESSION")
fi
mksquashfs "$tree" "$out" -noappend -no-progress -quiet -all-root -no-xattrs "${how[@]}" >/dev/null
