#!/usr/bin/env bash
# A Slurm of one's own on this machine's loopback, without systemd: a controller and several node daemons.
#
#   cluster.sh start DIR NODES    starts it, with nodes HOSTNAME, n2, n3, …; all is below DIR, also slurm.conf for $SLURM_CONF
#   cluster.sh stop DIR           ends its processes
#
# Needs Debian's slurm-wlm and munge, and to be root, as whom the daemons run then.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
# Of a Slurm that this itself may run in, nothing is to be passed on.
for name in ${!SLURM_*} ${!SBATCH_*}; do unset "$name"; done

start() {
    local nodes=$1 host first name number
    host=$(hostname -s)
    mkdir -p state munge
    # The directories are those that munge takes for safe: nobody else may write there.
    chmod 755 . munge
    (umask 077 && head -c 128 /dev/urandom > munge/key)
    munged --key-file="$PWD/munge/key" --socket="$PWD/munge/socket" --pid-file="$PWD/munge/pid" \
        --log-file="$PWD/munge/log" --seed-file="$PWD/munge/seed" --force 2> munge/warnings
    local node="NodeHostname=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=64000"
    first=$((20000 + RANDOM % 9000))
    cat > slurm.conf << CONF
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$first
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
# A requeued job waits until its former credentials have expired: by default for two minutes, at least for five seconds.
AuthInfo=socket=$PWD/munge/socket,cred_expire=5
StateSaveLocation=$PWD/state
SlurmctldPidFile=$PWD/controller.pid
SlurmctldLogFile=$PWD/controller.log
SlurmdSpoolDir=$PWD/spool-%n
SlurmdPidFile=$PWD/%n.pid
SlurmdLogFile=$PWD/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
# Nodes that are busy otherwise are not down.
SlurmdTimeout=0
ReturnToService=2
KillWait=20
# All the nodes are this one machine, whose size none of them has.
SlurmdParameters=config_overrides
# One has a name that leads to it, the machine's, for what computes together.
NodeName=$host Port=$((first + 1)) $node
NodeName=n[2-$nodes] Port=[$((first + 2))-$((first + nodes))] $node
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=work Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=2
CONF
    export SLURM_CONF=$PWD/slurm.conf
    slurmctld -i
    for name in "$host" $(seq --format=n%g 2 "$nodes"); do
        mkdir -p "spool-$name"
        slurmd -N "$name"
    done
    for ((number = 0; number < 300; number++)); do
        if [ "$(sinfo --noheader --responding --states=idle --format=%D 2> /dev/null)" = "$nodes" ]; then
            return
        fi
        sleep 0.1
    done
    echo "The nodes did not come up; see $PWD/*.log." >&2
    tail -n 5 ./*.log >&2
    return 1
}

# The processes that the files name. Those of jobs end with the node daemons' word before.
stop() {
    local file pid pids=() number
    export SLURM_CONF=$PWD/slurm.conf
    scancel --user="$(id -un)" 2> /dev/null || true
    for file in *.pid munge/pid; do
        pid=$(cat "$file" 2> /dev/null) && pids+=("$pid")
    done
    kill "${pids[@]}" 2> /dev/null || true
    for ((number = 0; number < 100; number++)); do
        kill -0 "${pids[@]}" 2> /dev/null || return 0
        sleep 0.1
    done
    kill -KILL "${pids[@]}" 2> /dev/null || true
}

case ${1:-} in
    start) mkdir -p "$2" && cd "$2" && start "$3" ;;
    stop) cd "$2" && stop ;;
    *) sed -n 's/^#   //p' "$0" >&2 && exit 2 ;;
esac
