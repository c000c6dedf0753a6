#!/usr/bin/env bash
# The OpenAI-compatible way: the question is the user's message, the solution stands beside it.
set -euo pipefail
url=${RLT_URL:-http://127.0.0.1:8080}
auth="Authorization: Bearer ${RLT_API_KEY:-no-key-needed}"

curl --fail-with-body -sS "$url/v1/chat/completions" -H "$auth" -H 'Content-Type: application/json' -d '{
    "model": "'"${RLT_MODEL:-rlt_teacher}"'",
    "messages": [{"role": "user", "content": "3 +1 +5 +8 +2 +1"}],
    "solution": "0",
    "temperature": 1.0
}'
