#!/usr/bin/env bash
# A file of problems becomes a dataset: upload, create, follow, export.
#
#     examples/dataset.sh [PROBLEMS.jsonl [EXPLANATIONS.jsonl]]
set -euo pipefail
url=${RLT_URL:-http://127.0.0.1:8080}
auth="Authorization: Bearer ${RLT_API_KEY:-no-key-needed}"

problems=${1:-$(dirname "$0")/problems.jsonl}
out=${2:-explanations.jsonl}
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

file=$(curl --fail-with-body -sS "$url/v1/files" -H "$auth" -F purpose=user_data -F "file=@$problems" | field id)
dataset=$(curl --fail-with-body -sS "$url/v1/datasets" -H "$auth" -H 'Content-Type: application/json' -d '{
    "file_id": "'"$file"'",
    "n": 2,
    "score": true,
    "sampling": {"temperature": 1.0},
    "filters": {"closed": true}
}' | field id)

# Server-sent events until the dataset is completed, failed or cancelled; this can be left and called again.
curl --fail-with-body -sSN "$url/v1/datasets/$dataset/events" -H "$auth"
curl --fail-with-body -sS "$url/v1/datasets/$dataset/export?format=jsonl" -H "$auth" -o "$out"
wc -l "$out"
