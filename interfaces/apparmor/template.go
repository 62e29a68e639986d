// SPDX-License-Identifier: Apache-2.0

package apparmor

// baseRules are what every strict program of a snap without a base may do. It
// runs on the host's root: programs, libraries and the few files that the C
// library needs are readable, what belongs to the host's administrator, to
// users and to other snaps is not. {SNAP} and {REV} are replaced.
//
// Nothing is included from /etc/apparmor.d: the same set gives the same text
// on every host, and needs no rebuild when a file there changes.
const baseRules = `  # systemd, snapd and an operator may signal it, and it may signal its snap.
  signal (receive) peer=unconfined,
  signal (send, receive) peer=snap.{SNAP}.*,

  # It sees its snap's processes, and may trace those of its own revision.
  ptrace (read, readby) peer=snap.{SNAP}.*,
  ptrace (trace, tracedby) peer=snap.{SNAP}.*.{REV},
  ptrace (readby, tracedby) peer=unconfined,

  # Local sockets. Those with a path are governed by the rules for files.
  unix (create, getattr, setattr, getopt, setopt, shutdown, listen, accept),
  unix (bind) type=stream addr=none,
  unix (bind) addr="@snap.{SNAP}.**",
  unix (connect, send, receive) peer=(label=snap.{SNAP}.*),
  unix (send, receive) peer=(label=unconfined),

  # Programs and libraries of the host.
  / r,
  /{,usr/}{bin,sbin}/{,**} mrix,
  /{,usr/}lib{,32,64,x32}/{,**} mrix,
  /usr/{games,libexec}/{,**} mrix,
  /usr/local/{bin,sbin,games}/{,**} mrix,
  /usr/local/{lib,share}/{,**} mr,
  /usr/{share,src,include}/{,**} mr,
  /usr/{,local/} r,

  # Configuration that libraries read. It holds no secrets.
  /etc/ r,
  /etc/{alternatives,fonts,ld.so.conf.d,pki,profile.d,python3,python3.*,perl,ssl/certs,ca-certificates,terminfo,xdg}/{,**} r,
  /etc/ssl/{,openssl.cnf} r,
  /etc/{bash.bashrc,bindresvport.blacklist,debian_version,default/locale,environment,gai.conf,group,host.conf,hostname,hosts} r,
  /etc/{inputrc,ld.so.cache,ld.so.conf,ld.so.preload,locale.alias,locale.conf,localtime,lsb-release,machine-id,magic,mime.types} r,
  /etc/{nsswitch.conf,os-release,papersize,passwd,profile,protocols,resolv.conf,rpc,services,shells,timezone} r,
  /var/lib/dbus/machine-id r,
  /var/cache/fontconfig/{,**} r,

  # Devices without power.
  /dev/ r,
  /dev/{null,zero,full,random,urandom,tty,ptmx,console} rw,
  /dev/pts/{,*} rw,
  /dev/fd/{,**} r,
  /dev/shm/ r,
  /dev/shm/{,sem.}snap.{SNAP}.** mrwlk,

  # What the kernel says of itself and of the program.
  /proc/ r,
  /proc/{cmdline,cpuinfo,filesystems,loadavg,meminfo,stat,swaps,uptime,version,vmstat} r,
  /proc/sys/{,kernel/,vm/,fs/} r,
  /proc/sys/kernel/{cap_last_cap,hostname,ngroups_max,osrelease,ostype,overflowgid,overflowuid,pid_max,threads-max,version} r,
  /proc/sys/kernel/random/{boot_id,entropy_avail,uuid} r,
  /proc/sys/vm/{max_map_count,mmap_min_addr,overcommit_memory} r,
  /proc/sys/fs/{file-max,nr_open,pipe-max-size} r,
  /proc/sys/crypto/fips_enabled r,
  /proc/sys/net/core/somaxconn r,
  owner /proc/[0-9]*/{,task/[0-9]*/} r,
  owner /proc/[0-9]*/{,task/[0-9]*/}{cgroup,cmdline,comm,limits,mountinfo,mounts,oom_score,oom_score_adj,smaps_rollup,stat,statm,status} r,
  owner /proc/[0-9]*/{,task/[0-9]*/}{auxv,environ,maps,smaps,io,sched,schedstat,wchan} r,
  owner /proc/[0-9]*/{,task/[0-9]*/}{fd,fdinfo}/{,*} r,
  owner /proc/[0-9]*/{,task/[0-9]*/}attr/{,apparmor/}current r,
  owner /proc/[0-9]*/task/ r,
  owner /proc/[0-9]*/{comm,task/[0-9]*/comm,oom_score_adj,timerslack_ns} w,
  /sys/devices/system/{cpu,node}/{,**} r,
  /sys/kernel/mm/transparent_hugepage/{enabled,hpage_pmd_size} r,
  /sys/fs/cgroup/{,cgroup.controllers} r,
  /sys/fs/cgroup/system.slice/snap.{SNAP}.*/{,**} r,

  # Where the service manager, the log and snapd listen. The main socket of
  # snapd is not among them, whatever else is allowed below.
  /run/systemd/notify w,
  /dev/log w,
  /run/systemd/journal/{dev-log,socket,stdout} rw,
  /run/snapd/{,snapd-snap.socket} rw,
  /run/snapd/sockets/snap.{SNAP}.* rw,
  deny /{,var/}run/snapd.socket rw,

  # The snap's own places. Data of other revisions can only be read.
  /snap/ r,
  /var/snap/ r,
  /var/snap/{SNAP}/{,**} mrkix,
  /var/snap/{SNAP}/{{REV},common}/{,**} wl,
  owner /{root,home/*}/snap/ r,
  owner /{root,home/*}/snap/{SNAP}/{,**} mrkix,
  owner /{root,home/*}/snap/{SNAP}/{{REV},common}/{,**} wl,
  /{,var/}run/{,lock/}snap.{SNAP}/{,**} mrwlk,
  /{,var/}run/{,lock/}snap.{SNAP}.** mrwlk,
  owner /run/user/[0-9]*/snap.{SNAP}/{,**} mrwlk,
`

// ownTmpRules are for what sees a /tmp that only its snap has.
const ownTmpRules = `  /tmp/{,**} mrwlkix,
`

// sharedTmpRules are for what sees the host's /tmp, where others' sockets and
// files lie: $TMPDIR is a directory of its own there.
const sharedTmpRules = `  /{,var/}tmp/ r,
  owner /{,var/}tmp/snap.{SNAP}.[0-9]*/{,**} mrwlkix,
`
