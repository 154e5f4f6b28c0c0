#!/bin/sh
# The quickstart with curl; jq picks the numbers out of the answers.
set -eu
url=${PULLBACK_URL:-http://127.0.0.1:8000}

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

# evaluate REQUEST FILTER: what FILTER picks from the answer; what is wrong goes to stderr.
evaluate() {
    status=$(curl -sS --max-time 30 -o "$answer" -w '%{http_code}' \
        "$url/v1/evaluate" -H 'Content-Type: application/json' -d "$1") || return 1
    if [ "$status" = 200 ]; then
        jq -r "$2" "$answer"
    else
        jq -r '"\(.status) \(.type): \(.detail)"' "$answer" >&2 || echo "$status, and no problem document" >&2
        return 1
    fi
}

# Value and gradient of one expression
evaluate '{"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "backward": true}' '"\(.values.out) \(.grads.x)"'

# The Matyas function: all partial derivatives come with one call
evaluate '{"expr": "0.26*(x**2 + y**2) - 0.48*x*y", "inputs": {"x": 1, "y": 1}, "backward": true}' \
    '"\(.values.out) \(.grads.x) \(.grads.y)"'

# Forward only: nothing is kept for a gradient
evaluate '{"expr": "square(exp(square(x)))", "inputs": {"x": 0.5}, "nograd": true}' .values.out

# sin(1) and its first six derivatives
evaluate '{"expr": "sin(x)", "inputs": {"x": 1}, "backward": {"order": 6}}' '[.values.out, .higher.x[]] | join(" ")'

# A mistake: the answer says what was wrong, and what would be right
evaluate '{"expr": "sine(x)", "inputs": {"x": 1}}' .values.out 2>&1 || true
