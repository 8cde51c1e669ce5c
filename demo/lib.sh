# Functions of demo/run and demo/clean: each does one thing and says it. Sourced, never run.

STATE=${PORTOLAN_DEMO_STATE:-/var/tmp/portolan-demo}
TARGET=${CARGO_TARGET_DIR:-$PWD/target}
# `PORTOLAN_BIN` names the folder of programs that are built already.
BIN=${PORTOLAN_BIN:-$TARGET/quick}
DEMO_LABEL=com.example.portolan-demo
CLUSTER=demo
BOLD='' PLAIN=''
if [ -t 1 ]; then BOLD=$'\e[1m' PLAIN=$'\e[0m'; fi
DOCKER_ARGS=()
PORTOLAN_PID=''

say_what_will_happen() {
  cat <<TEXT
This demo will
  - install what is missing of: docker.io curl gcc (Debian or Ubuntu packages),
  - build Portolan (a few minutes the first time),
  - start a Docker engine if none runs, and four small containers made from our own static binary,
  - run 'portolan dev' as root: it adds the local route 169.254.53.53 and the nft table 'portolan'.
'make demo-clean' takes all of it back, except packages and build output.
TEXT
}

step() { printf '\n%s== %s%s\n' "$BOLD" "$1" "$PLAIN"; }
fail() { printf 'demo: %s\n' "$1" >&2; exit 1; }
docker_() { docker "${DOCKER_ARGS[@]}" "$@"; }
portolan_() { "$BIN/portolan" "$@"; }

need_root() {
  [ "$(id -u)" = 0 ] || fail "needs root: for the Docker socket, the route 169.254.53.53, port 53 and the nft table. Run: sudo make demo"
}

install_missing() {
  local missing=()
  command -v dockerd >/dev/null || missing+=(docker.io)
  command -v curl >/dev/null || missing+=(curl)
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  command -v iptables >/dev/null || missing+=(iptables)
  command -v ip >/dev/null || missing+=(iproute2)
  command -v cargo >/dev/null || fail "needs Rust: https://rustup.rs"
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || fail "is missing ${missing[*]}; install them (this is not Debian or Ubuntu)"
  step "Installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

build_programs() {
  if [ -n "${PORTOLAN_BIN:-}" ]; then
    return
  fi
  step "Building Portolan"
  cargo build --quiet --locked --profile quick --bin portolan
}

# Uses the engine that runs; else starts one of the demo's own, which `demo/clean` ends by its pid.
start_docker() {
  mkdir -p "$STATE"
  if docker info >/dev/null 2>&1; then
    DOCKER_SOCKET=/var/run/docker.sock
    return
  fi
  DOCKER_SOCKET=$STATE/docker.sock
  DOCKER_ARGS=(-H "unix://$DOCKER_SOCKET")
  docker_ info >/dev/null 2>&1 && return
  step "Starting a Docker engine (log: $STATE/docker.log)"
  dockerd -H "unix://$DOCKER_SOCKET" --pidfile "$STATE/docker.pid" --data-root "$STATE/docker" \
    --exec-root "$STATE/docker-exec" >"$STATE/docker.log" 2>&1 </dev/null &
  wait_for "the Docker engine answers" docker_ info
}

# One static binary, under two names, is all that the images hold: no image registry is asked.
build_images() {
  step "Building the stand-in images"
  local root=$STATE/image name
  mkdir -p "$root"
  rustc --edition 2024 -O -C target-feature=+crt-static -o "$root/standin" tests/standin/standin.rs
  for name in elasticsearch kibana; do
    tar -C "$root" -c standin |
      docker_ import --change "ENTRYPOINT [\"/standin\", \"$name\"]" - "demo/$name-standin" >/dev/null
  done
}

start_portolan() {
  step "Starting 'portolan dev' (log: $STATE/portolan.log)"
  if [ -f "$STATE/portolan.pid" ] && kill -0 "$(cat "$STATE/portolan.pid")" 2>/dev/null; then
    kill "$(cat "$STATE/portolan.pid")"
    wait_for "the last demo's Portolan is gone" gone "$(cat "$STATE/portolan.pid")"
  fi
  remove_containers
  "$BIN/portolan" dev --cluster "$CLUSTER" --data-dir "$STATE/data" --docker-socket "$DOCKER_SOCKET" >"$STATE/portolan.log" 2>&1 </dev/null &
  PORTOLAN_PID=$!
  echo "$PORTOLAN_PID" >"$STATE/portolan.pid"
  trap stop_portolan EXIT
  wait_for "Portolan is ready" portolan_ready
}

stop_portolan() {
  local status=$?
  [ $status = 0 ] || { printf -- '--- the end of %s\n' "$STATE/portolan.log"; tail -n 30 "$STATE/portolan.log"; } >&2
  remove_containers
  kill "$PORTOLAN_PID" 2>/dev/null || true
  rm -f "$STATE/portolan.pid"
  exit $status
}

gone() { ! kill -0 "$1" 2>/dev/null; }
portolan_ready() { kill -0 "$PORTOLAN_PID" && curl -fsS http://127.0.0.1:8500/readyz; }

# run_task NAME FAMILY CONTAINER IMAGE ARGS...: a container labelled just as the ECS agent labels those of a task.
run_task() {
  local name=$1 family=$2 container=$3 image=$4 id
  shift 4
  id=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  docker_ run -d --name "$name" --dns 169.254.53.53 --label "$DEMO_LABEL=1" \
    --label "com.amazonaws.ecs.task-arn=arn:aws:ecs:eu-west-1:123456789012:task/$CLUSTER/$id" \
    --label "com.amazonaws.ecs.container-name=$container" \
    --label "com.amazonaws.ecs.task-definition-family=$family" \
    --label "com.amazonaws.ecs.task-definition-version=1" \
    --label "com.amazonaws.ecs.cluster=$CLUSTER" \
    "$@" "$image" >/dev/null
}

remove_containers() {
  local ids
  ids=$(docker_ ps -aq --filter "label=$DEMO_LABEL" 2>/dev/null) || return 0
  [ -z "$ids" ] || docker_ rm -f $ids >/dev/null
}

# wait_for WHAT COMMAND...: polls a state, gives up after a minute.
wait_for() {
  local what=$1 tries=0
  shift
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || fail "waited a minute in vain for: $what"
    sleep 0.1
  done
}

usable() { [ "$(curl -fsS "http://127.0.0.1:8500/api/services/$CLUSTER/$1" | grep -o '"state":"usable"' | wc -l)" = "$2" ]; }
wait_usable() { wait_for "$2 usable endpoints of $1" usable "$1" "$2"; }
published() { printf 'http://127.0.0.1:%s' "$(docker_ port "$1" "$2/tcp" | head -n 1 | sed 's/.*://')"; }

kibana_field() { curl -fsS "$KIBANA/stats" | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }
kibana_requests() { kibana_field requests; }
kibana_errors() { kibana_field errors; }
kibana_instances() { curl -fsS "$KIBANA/stats" | sed 's/.*"instances":{//' | grep -o '":' | wc -l; }
kibana_saw() { [ "$(kibana_requests)" -ge "$1" ] && [ "$(kibana_instances)" -ge "$2" ]; }
page() { curl -fsS "$1/" | sed "s/<tr>/\n  /g; s/<[^>]*>/ /g"; printf "\n"; }
