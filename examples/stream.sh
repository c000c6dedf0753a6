#!/usr/bin/env bash
# An explanation as it is written: server-sent events, `delta` by `delta`, then the whole `explanation`, then `done`.
set -euo pipefail
url=${RLT_URL:-http://127.0.0.1:8080}
auth="Authorization: Bearer ${RLT_API_KEY:-no-key-needed}"

curl --fail-with-body -sSN "$url/v1/explanations" -H "$auth" -H 'Content-Type: application/json' -d '{
    "question": "3 +1 +5 +8 +2 +1",
    "solution": "0",
    "temperature": 1.0,
    "stream": true
}'
