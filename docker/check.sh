#!/usr/bin/env bash
# Checks a deployment from nothing: builds the images, starts compose.yaml's profile cpu with a model made from scratch,
# asks for an explanation, makes a dataset, kills a worker and the API (kill -9) in the middle of it, counts the rows, and
# takes everything down. Prints what happened; the exit status is 0 where all of it was as promised.
#
#     docker/check.sh
#
# Needs bash, curl and python3, and Docker with Compose. Where there is no Docker and it runs as root on Debian, it
# installs Docker and runs a daemon of its own; images that cannot be pulled are made by docker/standin.sh.
#
# Environment, all of it optional:
#   CHECK_FOLDER     a folder to work in that stays, and its daemon's images with it; else a temporary one
#   CHECK_PROBLEMS   problems of the dataset (1000), each explained twice
#   CHECK_KILLS      services killed one after the other while it is made (worker api; also teacher, scorer, postgres)
#   CHECK_PORT       where the API listens on this machine (18080)
#   PIP_CONF, PIP_CA a pip.conf for the build, and the certificates that it names as /run/secrets/ca.pem
#   TORCH_INDEX      index with torch's CPU builds (PyTorch's own); empty where that of PIP_CONF has them
#   BUILD_NETWORK    network of the build: host, where only this machine reaches the package index (default)
#   DOCKER           the command (docker)
#   DEBIAN_MIRROR    for docker/standin.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=${CHECK_FOLDER:-$(mktemp -d)}
problems=${CHECK_PROBLEMS:-1000}
kills=${CHECK_KILLS:-worker api}
url=http://127.0.0.1:${CHECK_PORT:-18080}
export DOCKER=${DOCKER:-docker} BUILD_NETWORK=${BUILD_NETWORK:-default} DOCKER_BUILDKIT=1
export COMPOSE_PROFILES=cpu RLT_IMAGE=rlt-check RLT_MODELS=$folder/models RLT_CONTEXT_TOKENS=1024 RLT_CPU_CACHE_GIB=1
export RLT_TEACHER=/models/teacher RLT_STUDENT=/models/student RLT_PUBLISH=${url#http://} HF_HUB_OFFLINE=1

say() { printf '[%4d s] %s\n' "$SECONDS" "$*"; }
fail() { say "FAILED: $*"; exit 1; }
compose() { "${compose[@]}" --project-name rlt-check --env-file "$folder/env" "$@"; }
ask() { curl --silent --show-error --fail-with-body --max-time 120 -H "Authorization: Bearer $key" "$@"; }
status_of() { curl --silent --output /dev/null --write-out '%{http_code}' --max-time 20 "$@"; }
# A value of the JSON on stdin: `field counts done` is its ["counts"]["done"].
field() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda value, name: value[int(name) if name.isdigit() else name], sys.argv[1:], json.load(sys.stdin)))' "$@"; }
inside() { compose exec -T "$@"; }
container() { compose ps --quiet "$1"; }
health_of() { "$DOCKER" inspect --format '{{.State.Health.Status}}' "$(container "$1")"; }

main() {
    trap clean_up EXIT
    mkdir -p "$folder/models"
    find_docker
    get_images
    write_secrets
    make_models
    start
    look_around
    explain
    make_dataset
    stop
    say "all as promised"
}

find_docker() {
    if ! "$DOCKER" info > /dev/null 2>&1; then
        if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
            fail "no Docker answers; start it, or run this as root on Debian"
        fi
        install_docker > "$folder/install.log" 2>&1 || fail "Docker could not be installed; see $folder/install.log"
        start_daemon
    fi
    if "$DOCKER" compose version > /dev/null 2>&1; then compose=("$DOCKER" compose); else compose=(docker-compose); fi
    say "Docker $("$DOCKER" version --format '{{.Server.Version}}'), Compose $("${compose[@]}" version --short)"
}

install_docker() {
    export DEBIAN_FRONTEND=noninteractive
    command -v dockerd docker-compose debootstrap && return
    apt-get update
    apt-get install --yes --no-install-recommends docker.io docker-compose debootstrap
}

# Its own folder, socket and pid file, so that no other daemon of this machine is touched.
start_daemon() {
    DOCKER=/usr/bin/docker # a docker that stands before it on PATH may lack BuildKit
    export DOCKER_HOST=unix://$folder/docker/docker.sock
    mkdir -p "$folder/docker"
    dockerd --data-root "$folder/docker/data" --exec-root "$folder/docker/exec" --host "$DOCKER_HOST" \
        --pidfile "$folder/docker/pid" > "$folder/docker/log" 2>&1 &
    daemon=$!
    for _ in $(seq 60); do
        "$DOCKER" info > /dev/null 2>&1 && return
        sleep 1
    done
    fail "dockerd did not start; see $folder/docker/log"
}

get_images() {
    local image secrets=()
    for image in "$(sed -n 's/^ARG BASE=//p' docker/Dockerfile)" "$(sed -n 's/^ *image: \(postgres:.*\)/\1/p' compose.yaml)"; do
        "$DOCKER" image inspect "$image" > /dev/null 2>&1 && continue
        if "$DOCKER" pull --quiet "$image" > /dev/null 2>&1; then
            say "pulled $image"
        else
            docker/standin.sh "$image"
            say "$image cannot be pulled: made from Debian's packages"
        fi
    done
    [ -z "${PIP_CONF:-}" ] || secrets+=(--secret "id=pip.conf,src=$PIP_CONF")
    [ -z "${PIP_CA:-}" ] || secrets+=(--secret "id=ca.pem,src=$PIP_CA")
    [ -z "${TORCH_INDEX+set}" ] || secrets+=(--build-arg "TORCH_INDEX=$TORCH_INDEX")
    "$DOCKER" build --progress plain --network "$BUILD_NETWORK" "${secrets[@]}" --file docker/Dockerfile \
        --target service-cpu --tag rlt-check:cpu . > "$folder/build.log" 2>&1 || fail "the build: see $folder/build.log"
    say "built the image: $("$DOCKER" image inspect --format '{{.Size}}' rlt-check:cpu | python3 -c 'print(f"{int(input()) / 1e9:.1f} GB")')"
}

write_secrets() {
    local without
    : > "$folder/env"
    without=$(compose config 2>&1) && fail "compose.yaml was content without any secret"
    grep -o 'copy docker/example.env to .env and fill it in' <<< "$without" > /dev/null || fail "no remedy in: $without"
    say "without secrets: refused, with the remedy"
    sed -n 's/^\([A-Z_]*\)=$/\1/p' docker/example.env | while read -r name; do
        echo "$name=$(python3 -c 'import secrets; print(secrets.token_hex(32))')"
    done > "$folder/env"
    chmod 600 "$folder/env"
    key=$(sed -n 's/^RLT_API_KEY=//p' "$folder/env")
}

# Additions in words, from which the models' tokenizer is made. Untrained models write anything, and a row may well say
# why it cannot be scored.
make_models() {
    python3 - "$problems" > "$folder/problems.jsonl" << 'PYTHON'
import json, sys
for number in range(int(sys.argv[1])):
    a, b = number + 2, number % 17 + 3
    print(json.dumps({
        "question": f"Ann has {a} apples and buys {b} more. How many apples does she have?",
        "solution": f"She has {a} + {b} = {a + b} apples. The answer is {a + b}.",
    }))
PYTHON
    cp "$folder/problems.jsonl" "$folder/models/"
    chmod 777 "$folder/models"
    local name seed=0
    for name in teacher student; do
        seed=$((seed + 1))
        "$DOCKER" run --rm --network none --volume "$folder/models:/models" rlt-check:cpu scratch \
            --problems /models/problems.jsonl --out "/models/$name" --seed "$seed" --vocabulary 400 --hidden-size 64 \
            --heads 2 --key-value-heads 2 --layers 2 --intermediate-size 128 --max-tokens 1024 --threads 1 \
            > "$folder/scratch.log" 2>&1 || fail "rlt scratch: $(tail -3 "$folder/scratch.log")"
    done
    say "a teacher and a student from scratch are in the models folder"
}

start() {
    say "\$ docker compose up --detach"
    compose up --detach --no-build > "$folder/up.log" 2>&1 || fail "up: $(tail -5 "$folder/up.log")"
    until_healthy postgres teacher scorer api
    local service
    for service in postgres teacher scorer api worker; do
        say "    $service started $("$DOCKER" inspect --format '{{.State.StartedAt}}' "$(container "$service")" | cut -c12-19)"
    done
}

until_healthy() {
    local service
    for service in "$@"; do
        for _ in $(seq 300); do
            [ "$(health_of "$service")" = healthy ] && break
            sleep 1
        done
        [ "$(health_of "$service")" = healthy ] || fail "$service is $(health_of "$service")"
        say "$service is healthy"
    done
}

# What others could reach or change.
look_around() {
    local service published
    published=$("$DOCKER" ps --filter label=com.docker.compose.project=rlt-check --format '{{.Ports}}' | grep -o '[0-9.:]*->[0-9]*' | sort -u)
    [ "$published" = "${RLT_PUBLISH}->8080" ] || fail "published: $published"
    for service in postgres teacher scorer api worker; do
        [ "$(inside "$service" id -u)" != 0 ] || fail "$service runs as root"
        ! inside "$service" touch /etc/changed 2> "$folder/touch.log" || fail "$service can write its root file system"
        grep -q 'Read-only file system' "$folder/touch.log" || fail "$service: $(cat "$folder/touch.log")"
    done
    say "published: $published alone; no service is root; every root file system is read-only"
    [ "$(status_of "$url/v1/models")" = 401 ] || fail "no key: $(status_of "$url/v1/models")"
    [ "$(status_of -H 'Authorization: Bearer wrong' "$url/v1/models")" = 401 ] || fail "a wrong key was taken"
    say "no key: 401; a wrong key: 401"
    ! "$DOCKER" history --no-trunc rlt-check:cpu | grep -E "$(cut -d= -f2 "$folder/env" | paste -sd '|')" || fail "a secret is in a layer"
}

explain() {
    local answer
    say "\$ curl $url/v1/explanations -H 'Authorization: Bearer \$RLT_API_KEY' -d '{\"question\": ..., \"n\": 2, \"return_scores\": true}'"
    answer=$(ask "$url/v1/explanations" -H 'Content-Type: application/json' -d '{
        "question": "Ann has 3 apples and buys 4 more. How many apples does she have?",
        "solution": "She has 3 + 4 = 7 apples. The answer is 7.",
        "n": 2, "max_tokens": 24, "seed": 7, "return_scores": true}')
    python3 - "$answer" << 'PYTHON'
import json, sys
answer = json.loads(sys.argv[1])
assert len(answer["explanations"]) == 2
for row in answer["explanations"]:
    print(f'           {row["tokens"]} tokens, reward {row["score"]["reward"]:.3f}: {row["explanation"][:60]!r}')
PYTHON
}

make_dataset() {
    local file dataset service rows=$((2 * problems)) turn=0
    file=$(ask "$url/v1/files" -F purpose=user_data -F "file=@$folder/problems.jsonl" | field id)
    dataset=$(ask "$url/v1/datasets" -H 'Content-Type: application/json' \
        -d "{\"file_id\": \"$file\", \"n\": 2, \"score\": true, \"sampling\": {\"max_tokens\": 96}}" | field id)
    say "a dataset of $problems problems, 2 explanations each, scored: $(state_of "$dataset")"
    for service in $kills; do
        turn=$((turn + 1))
        until_done "$dataset" $((rows * turn / 10))
        kill_9 "$service"
    done
    until_healthy api
    until_completed "$dataset"
    ask "$url/v1/datasets/$dataset/export?format=jsonl" --output "$folder/rows.jsonl"
    count_rows "$rows"
}

state_of() { ask "$url/v1/datasets/$1" | python3 -c 'import json, sys
at = json.load(sys.stdin)
print(at["status"], at["counts"]["done"], "of", at["counts"]["total"], "rows,", at["counts"]["failed"], "failed")'; }

# Until so many rows are done; the API may be away for a while.
until_done() {
    local rows=0
    for _ in $(seq 1200); do
        rows=$(ask "$url/v1/datasets/$1" 2> /dev/null | field counts "done" 2> /dev/null || echo "$rows")
        [ "$rows" -ge "$2" ] && { say "$(state_of "$1")"; return; }
        sleep 0.5
    done
    fail "$(state_of "$1"), and no more"
}

until_completed() {
    for _ in $(seq 1200); do
        [ "$(ask "$url/v1/datasets/$1" | field status)" != running ] && break
        sleep 0.5
    done
    say "$(state_of "$1")"
    [ "$(ask "$url/v1/datasets/$1" | field status)" = completed ] || fail "the dataset is not completed"
}

# Every process of the container but its init, which ends with them: Docker starts it again. (`docker kill` would count
# as the owner's wish that it stay down.)
kill_9() {
    local before
    before=$("$DOCKER" inspect --format '{{.RestartCount}}' "$(container "$1")")
    say "\$ docker compose exec $1 sh -c 'kill -9 -1'"
    inside "$1" sh -c 'kill -9 -1' || true
    for _ in $(seq 60); do
        [ "$("$DOCKER" inspect --format '{{.RestartCount}}' "$(container "$1")")" -gt "$before" ] && { say "$1 was started again"; return; }
        sleep 0.5
    done
    fail "$1 was not started again"
}

count_rows() {
    python3 - "$folder/rows.jsonl" "$1" << 'PYTHON' || fail "the rows are not those that were ordered"
import collections, json, sys
rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
times = collections.Counter((row["problem_id"], row["sample"]) for row in rows)
scored = sum(row["score"] is not None for row in rows)
told = sum(row["score"] is None and bool(row["unscored"]) for row in rows)
print(f"           exported {len(rows)} rows, {len(times)} different; {scored} scored, {told} with the reason why not")
assert len(rows) == len(times) == scored + told == int(sys.argv[2])
PYTHON
}

stop() {
    say "\$ docker compose down --volumes"
    compose down --volumes > "$folder/down.log" 2>&1 || fail "down: $(tail -5 "$folder/down.log")"
    [ -z "$("$DOCKER" ps --all --quiet --filter label=com.docker.compose.project=rlt-check)" ] || fail "containers are left"
    say "no container, network or volume is left"
}

clean_up() {
    local status=$?
    trap - EXIT
    if [ "$status" != 0 ] && [ -n "${compose[*]:-}" ] && [ -s "$folder/env" ]; then
        compose logs --tail 30 >&2 || true
        compose down --volumes > /dev/null 2>&1 || true
    fi
    [ -z "${daemon:-}" ] || { kill "$daemon"; wait "$daemon" || true; }
    [ -n "${CHECK_FOLDER:-}" ] || rm -rf "$folder"
    exit "$status"
}

main
