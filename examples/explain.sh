#!/usr/bin/env bash
# Four explanations of one problem, the two that the student learns most from returned, best first, with their scores.
# RLT_URL and RLT_API_KEY say where the service is; a demo's service needs neither.
set -euo pipefail
url=${RLT_URL:-http://127.0.0.1:8080}
auth="Authorization: Bearer ${RLT_API_KEY:-no-key-needed}"

curl --fail-with-body -sS "$url/v1/explanations" -H "$auth" -H 'Content-Type: application/json' -d '{
    "question": "3 +1 +5 +8 +2 +1",
    "solution": "0",
    "best_of": 4,
    "n": 2,
    "return_scores": true,
    "temperature": 1.0,
    "seed": 1
}'
