# Takes away what tests made: engines, namespaces, folders, cgroups.
#   sh janitor.sh              reads lines "KIND NAME" until the end of its input, then removes them, last first
#   sh janitor.sh KIND NAME    removes one now
# The input is a pipe from the test process: it ends when that process ends, in whatever way.

remove_engine() { # a folder with docker.sock and pid
    if [ -s "$1/pid" ] && [ "$(cat "/proc/$(cat "$1/pid")/comm" 2>/dev/null)" = dockerd ]; then
        pid=$(cat "$1/pid")
        running=$(timeout 5 docker -H "unix://$1/docker.sock" ps -q 2>/dev/null)
        [ -z "$running" ] || timeout 10 docker -H "unix://$1/docker.sock" kill $running >/dev/null 2>&1
        kill "$pid" 2>/dev/null
        wait_for_end "$pid" || kill -9 "$pid" 2>/dev/null
    fi
    containerd=$(cat "$1/exec/containerd/containerd.pid" 2>/dev/null)
    if [ -n "$containerd" ] && grep -q "$1/" "/proc/$containerd/cmdline" 2>/dev/null; then kill -9 "$containerd"; fi
    remove_folder "$1"
}

wait_for_end() { # a process: at most 5 s
    tries=0
    while [ "$tries" -lt 100 ]; do
        case $(cut -d ' ' -f 3 "/proc/$1/stat" 2>/dev/null) in '' | Z) return 0 ;; esac
        sleep 0.05
        tries=$((tries + 1))
    done
    return 1
}

remove_netns() { # a named network namespace and what runs in it
    [ -e "/run/netns/$1" ] || return 0
    inside=$(ip netns pids "$1" 2>/dev/null)
    [ -z "$inside" ] || kill -9 $inside 2>/dev/null
    ip netns del "$1"
}

remove_folder() { # a folder and the mounts below it
    awk -v folder="$1/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
        umount -l "$mount"
    done
    rm -rf "$1"
}

remove() {
    case $1 in
        engine) remove_engine "$2" ;;
        netns) remove_netns "$2" ;;
        folder) remove_folder "$2" ;;
        cgroup) [ ! -e "$2" ] || rmdir "$2" ;;
    esac
}

if [ $# -eq 2 ]; then
    remove "$1" "$2"
    exit
fi
trap '' INT TERM HUP
list=
while read -r kind name; do
    list="$kind $name
$list"
done
printf '%s' "$list" | while read -r kind name; do remove "$kind" "$name"; done
