#!/usr/bin/env bash
# A real Slurm on this machine alone, without systemd: slurm.sh up|down FOLDER
#
# Everything it keeps, accounts included (submitit learns from sacct that a job was killed), is below
# FOLDER; its commands find it by SLURM_CONF=FOLDER/slurm.conf. `down` ends what `up` started, by its
# process ids, and removes FOLDER; both may be called again. Debian's packages stay installed.
set -eEuo pipefail

fail() { echo "slurm.sh: $1" >&2; exit 1; }

[[ $# -eq 2 && $1 =~ ^(up|down)$ ]] || fail "usage: slurm.sh up|down FOLDER"
[[ $(id -u) -eq 0 ]] || fail "Slurm's daemons start jobs as other users; run this as root."
[[ -e /etc/debian_version ]] || fail "this installs Debian's packages, and this system is no Debian."
folder=$(realpath -m "$2")
export SLURM_CONF=$folder/slurm.conf MYSQL_UNIX_PORT=$folder/mariadb.socket
daemons=(slurmd slurmctld slurmdbd mariadbd munged)
packages=(munge slurm-wlm slurmdbd mariadb-server-core)
trap 'fail "$BASH_COMMAND failed; see $folder/*.log"' ERR

# until_true SECONDS COMMAND...: its last words if it never succeeds
until_true() {
  local deadline=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || fail "never came true: $* ($("$@" 2>&1 | tail -n 1 || true)); see $folder/*.log"
    sleep 0.1
  done
}

# Without $(<...), which ends the shell if the file goes away as it is read.
is_alive() { local pid; pid=$(cat "$folder/$1.pid" 2>/dev/null) && [[ $pid ]] && kill -0 "$pid" 2>/dev/null; }
is_gone() { ! is_alive "$1"; }

install_packages() {
  dpkg -s "${packages[@]}" >/dev/null 2>&1 && return
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
  } >"$folder/apt.log" 2>&1 || fail "apt-get could not install ${packages[*]}: $(tail -n 1 "$folder/apt.log")"
}

configure() {
  local host; host=$(hostname -s)
  local memory_mb=$(($(awk '/^MemTotal/ { print $2 }' /proc/meminfo) / 1024))
  mkdir -p "$folder"/{state,spool,munge,database}
  chmod 700 "$folder/munge"
  head -c 1024 /dev/urandom >"$folder/munge/key" && chmod 400 "$folder/munge/key"
  cat >"$SLURM_CONF" <<CONF
ClusterName=softcue
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
AccountingStoragePass=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1
MailProg=/bin/true
ReturnToService=2
KillWait=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory_mb
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  (umask 077; cat >"$folder/slurmdbd.conf" <<CONF
DbdHost=$(hostname -s)
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
PidFile=$folder/slurmdbd.pid
LogFile=$folder/slurmdbd.log
CONF
  )
}

up() {
  mkdir -p "$folder"
  install_packages
  if is_alive slurmd; then return; fi
  configure
  # What mariadb-install-db would do, had it not its helpers in one more package.
  { printf "create database mysql;\nuse mysql;\n"; cat /usr/share/mysql/mysql_system_tables.sql; } |
    mariadbd --no-defaults --user=root --datadir="$folder/database" --bootstrap >"$folder/mariadb.log" 2>&1
  # --force: a folder of root's below /tmp is as safe as one below /run
  munged --force --key-file="$folder/munge/key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munged.pid" --log-file="$folder/munge.log" --seed-file="$folder/munge/seed"
  setsid mariadbd --no-defaults --user=root --datadir="$folder/database" --skip-networking \
    --skip-grant-tables --socket="$MYSQL_UNIX_PORT" --pid-file="$folder/mariadbd.pid" >>"$folder/mariadb.log" 2>&1 </dev/null &
  until_true 30 test -S "$MYSQL_UNIX_PORT"
  slurmdbd
  until_true 30 sacctmgr --immediate list cluster
  slurmctld
  until_true 30 scontrol ping
  slurmd -N "$(hostname -s)"
  until_true 30 srun --immediate=1 true
}

is_idle() { [[ -z $(squeue --noheader) ]]; }

down() {
  if is_alive slurmctld; then
    scancel --user=root
    until_true 30 is_idle
  fi
  for name in "${daemons[@]}"; do
    if is_alive "$name"; then
      kill "$(<"$folder/$name.pid")"
      until_true 30 is_gone "$name"
    fi
  done
  rm -rf "$folder"
}

"$1"
