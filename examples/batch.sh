#!/usr/bin/env bash
# OpenAI's Batch API: a file of requests goes in, a file of responses comes out.
set -euo pipefail
url=${RLT_URL:-http://127.0.0.1:8080}
auth="Authorization: Bearer ${RLT_API_KEY:-no-key-needed}"

lines=$(dirname "$0")/requests.jsonl
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

file=$(curl --fail-with-body -sS "$url/v1/files" -H "$auth" -F purpose=batch -F "file=@$lines" | field id)
batch=$(curl --fail-with-body -sS "$url/v1/batches" -H "$auth" -H 'Content-Type: application/json' -d '{
    "input_file_id": "'"$file"'",
    "endpoint": "/v1/explanations",
    "completion_window": "24h"
}' | field id)

while [[ ! ${status:-} =~ ^(completed|failed|cancelled|expired)$ ]]; do
    sleep 1
    status=$(curl --fail-with-body -sS "$url/v1/batches/$batch" -H "$auth" | field status)
done
output=$(curl --fail-with-body -sS "$url/v1/batches/$batch" -H "$auth" | field output_file_id)
curl --fail-with-body -sS "$url/v1/files/$output/content" -H "$auth"
