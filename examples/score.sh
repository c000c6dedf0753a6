#!/usr/bin/env bash
# What the student makes of an explanation that anybody wrote: rSS, rKL and the reward, token by token.
set -euo pipefail
url=${RLT_URL:-http://127.0.0.1:8080}
auth="Authorization: Bearer ${RLT_API_KEY:-no-key-needed}"

curl --fail-with-body -sS "$url/v1/scores" -H "$auth" -H 'Content-Type: application/json' -d '{
    "question": "3 +1 +5 +8 +2 +1",
    "solution": "0",
    "explanation": "+1 = 4 +5 = 9 +8 = 7 +2 = 9 +1 = 0",
    "per_token": true
}'
